//! `Mesh`: a control plane, and a pod for each process that its objects ask for.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use lateen_control::api::ApiClient;
use lateen_control::api::types::{Object, ObjectState, Status};
use serde_json::Value;
use tempfile::TempDir;

use crate::application::Manner;
use crate::request::Request;
use crate::wait::{DEADLINE, eventually};

mod control;
mod pod;

use control::Plane;
use pod::Pod;

/// The file that a mesh begins with.
const FIRST: &str = "mesh.yaml";

/// A whole mesh in this process.
pub struct Mesh {
    home: TempDir,
    plane: Option<Plane>,
    pods: BTreeMap<String, Pod>,
    workers: usize,
}

impl Mesh {
    /// A mesh of these documents: everything runs, and every proxy has everything, when this returns.
    ///
    /// # Panics
    /// When it cannot be started; as everything here, since a test has nothing else to do about it.
    pub async fn from_yaml(yaml: &str) -> Self {
        Self::with_workers(yaml, 1).await
    }

    /// As [`Mesh::from_yaml`], with so many workers in each proxy.
    pub async fn with_workers(yaml: &str, workers: usize) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        for name in ["mesh", "run"] {
            std::fs::create_dir(home.path().join(name)).expect("make");
        }
        let mut mesh = Self { home, plane: None, pods: BTreeMap::new(), workers };
        mesh.write(FIRST, yaml);
        mesh.start_control().await;
        mesh.none_rejected().await;
        let processes = mesh.api().processes().await.expect("processes").processes;
        let mut starting = tokio::task::JoinSet::new();
        for process in processes {
            for ordinal in 0..process.replicas {
                let (home, process) = (control::Home::of(&mesh.home), process.clone());
                starting.spawn(async move { Pod::start(&home, &process, ordinal, workers).await });
            }
        }
        while let Some(pod) = starting.join_next().await {
            let pod = pod.expect("no panic");
            mesh.pods.insert(pod.name().to_owned(), pod);
        }
        mesh.settled().await;
        mesh
    }

    /// A mesh begins with objects that say what they mean to; broken ones are written later.
    async fn none_rejected(&self) {
        let status = self.status().await;
        let rejected: Vec<_> =
            status.objects.iter().filter(|object| object.state == ObjectState::Rejected).collect();
        assert!(rejected.is_empty() && status.problems.is_empty(), "{rejected:#?} {:#?}", status.problems);
    }

    /// A request by the application `from`, which uses its proxy: `mesh.request("client", "GET http://cart/x")`.
    pub fn request(&self, from: &str, what: &str) -> Request {
        Request::through_proxy(self.pod(from).door("http-proxy"), what)
    }

    /// A request from outside of the mesh, in plaintext to the workload's own port.
    pub fn plaintext(&self, to: &str, what: &str) -> Request {
        Request::direct(self.pod(to).door("inbound"), what)
    }

    /// A request from outside through a gateway, at its listener of this port.
    pub fn enter(&self, gateway: &str, port: u16, what: &str) -> Request {
        Request::direct(self.pod(gateway).door(&format!("gateway:{port}")), what)
    }

    /// A connection by the application `from` to `host:port`, carried as bytes.
    pub async fn connect(&self, from: &str, to: &str) -> tokio::net::TcpStream {
        self.pod(from).connect(to).await
    }

    /// Where a proxy takes tunnels.
    pub fn tunnels_at(&self, name: &str) -> SocketAddr {
        self.pod(name).door("hbone")
    }

    /// Changes how the application behaves from its next request on.
    pub fn behave(&self, name: &str, manner: Manner) {
        self.pod(name).application().behave(manner);
    }

    /// How many requests the application saw.
    pub fn requests(&self, name: &str) -> u64 {
        self.pod(name).application().requests()
    }

    /// Writes a file of objects, as an editor that saves; says nothing of when it is in force.
    pub fn write(&self, file: &str, yaml: &str) {
        std::fs::write(self.home.path().join("mesh").join(file), yaml).expect("write");
    }

    /// Writes a file of objects and waits until every proxy has what came of it.
    pub async fn edit(&self, file: &str, yaml: &str) {
        let before = self.status().await.revision;
        self.write(file, yaml);
        eventually("a new revision", async || (self.status().await.revision > before).then_some(())).await;
        self.settled().await;
    }

    /// Waits until the control plane knows every pod, and every proxy has its newest revision.
    pub async fn settled(&self) {
        eventually("every proxy up to date", async || {
            let status = self.status().await;
            let current = status.proxies.iter().filter(|proxy| proxy.current).count();
            let known = status.resources.get("workloads").copied().unwrap_or_default();
            let alive = self.pods.values().filter(|pod| pod.is_alive()).count();
            (status.ready && current == alive && known >= alive).then_some(())
        })
        .await;
    }

    /// What the control plane says of the mesh.
    pub async fn status(&self) -> Status {
        eventually("a status", async || self.api().status().await.ok()).await
    }

    /// What the control plane says of one object, if it has anything to say.
    pub async fn object(&self, kind: &str, name: &str) -> Option<Object> {
        let objects = self.api().objects().await.expect("objects").objects;
        let is_kind = |object: &Object| object.kind.rsplit('/').next() == Some(kind);
        objects.into_iter().find(|object| is_kind(object) && object.name == name)
    }

    fn api(&self) -> ApiClient {
        control::Home::of(&self.home).api()
    }

    /// Ends the control plane; its proxies go on with what they have.
    pub async fn stop_control(&mut self) {
        self.plane.take().expect("it runs").stop().await;
    }

    /// Starts it again over the same state.
    pub async fn start_control(&mut self) {
        assert!(self.plane.is_none(), "it runs");
        let home = control::Home::of(&self.home);
        self.plane = Some(Plane::start(&home).await);
        eventually("readiness", async || self.api().status().await.ok().filter(|status| status.ready)).await;
    }

    /// Ends the application of a pod as a crash would; nobody tells the control plane.
    pub async fn crash(&mut self, name: &str) {
        self.pod_mut(name).application_mut().stop().await;
    }

    /// Ends a pod: the control plane is told, then its proxy drains.
    pub async fn remove(&mut self, name: &str) {
        let home = control::Home::of(&self.home);
        self.pod_mut(name).remove(&home).await;
        self.settled().await;
    }

    /// One line of a pod's access log, once there is one that `wanted` says yes to.
    pub async fn log(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let pod = self.pod(name);
        let mut log = pod.log();
        let found = log.wait_for(|lines| lines.iter().any(&wanted));
        let Ok(Ok(lines)) = tokio::time::timeout(DEADLINE, found).await else {
            panic!("no such line in the log of {name}: {:#?}", *pod.log().borrow());
        };
        lines.iter().find(|line| wanted(line)).expect("it was there").clone()
    }

    /// All lines of a pod's access log so far.
    pub fn logged(&self, name: &str) -> Vec<Value> {
        self.pod(name).log().borrow().clone()
    }

    /// A page of a proxy, as a scraper reads it.
    pub async fn page(&self, name: &str, path: &str) -> String {
        self.pod(name).page("GET", path, "").await
    }

    /// Posts to a page of a proxy.
    pub async fn post(&self, name: &str, path: &str, body: &str) -> String {
        self.pod(name).page("POST", path, body).await
    }

    /// Asks a proxy to end gracefully, and gives what ends when it has.
    pub fn drain(&mut self, name: &str) -> impl Future<Output = ()> + use<> {
        self.pod_mut(name).drain()
    }

    /// A pod by its full name, `cart-0.shop`, or by the beginning of it.
    fn pod(&self, name: &str) -> &Pod {
        let full = self.full_name(name);
        &self.pods[&full]
    }

    fn pod_mut(&mut self, name: &str) -> &mut Pod {
        let full = self.full_name(name);
        self.pods.get_mut(&full).expect("it was found just now")
    }

    /// `cart` is the first replica of cart, in whatever namespace comes first.
    fn full_name(&self, name: &str) -> String {
        let (name, namespace) = name.split_once('.').map_or((name, None), |(name, rest)| (name, Some(rest)));
        let fits = |full: &&String| {
            let (instance, space) = full.split_once('.').unwrap_or((full, ""));
            let process = instance.rsplit_once('-').map_or(instance, |(process, _)| process);
            (instance == name || process == name) && namespace.is_none_or(|wanted| wanted == space)
        };
        let found = self.pods.keys().find(fits);
        found.unwrap_or_else(|| panic!("no pod {name} among {:?}", self.pods.keys())).clone()
    }

    /// How many workers each proxy has.
    pub fn workers(&self) -> usize {
        self.workers
    }
}
