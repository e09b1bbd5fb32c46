//! A pod: an application, its proxy, and what the control plane is told of both.

use std::fs::File;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use lateen_control::api::types::{Instance, Process, Run, TokenAnswer, TokenRequest, Tunnel};
use lateen_proxy::app::{App, Ending, Error};
use lateen_proxy::config::{Bootstrap, Control, Endpoint, Plain, PlainInbound};
use lateen_proxy::listen::Bound;
use lateen_runtime::{random, sock};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::control::Home;
use crate::application::Application;
use crate::broker;
use crate::wait::in_time;

/// A running pod. Dropping it ends everything of it.
pub(crate) struct Pod {
    name: String,
    home: Home,
    application: Option<Application>,
    doors: Vec<watch::Receiver<Vec<Bound>>>,
    ending: Ending,
    running: Option<JoinHandle<Result<(), Error>>>,
    log: watch::Receiver<Vec<Value>>,
}

impl Pod {
    /// Starts one; its proxy serves when this returns.
    pub(crate) async fn start(home: &Home, process: &Process, ordinal: u32, workers: usize) -> Self {
        let instance = format!("{}-{ordinal}", process.name);
        let name = format!("{instance}.{}", process.namespace);
        let gateway = process.run == Run::Gateway;
        let application = if gateway { None } else { Some(Application::start(&instance).await) };
        let own = own_address();
        let api = home.api();
        api.put_instance(&process.namespace, &instance, &described(process, own)).await.expect("registered");
        let status = api.status().await.expect("status");
        let identity = format!(
            "spiffe://{}/ns/{}/sa/{}",
            status.trust_domain, process.namespace, process.service_account
        );
        let token =
            api.mint_token(&TokenRequest { identity, uid: Some(name.clone()) }).await.expect("a token");
        let plain = application.as_ref().map(|application| plain(own, process, application.address));
        let control = plane(home, token);
        let trust_domain = status.trust_domain;
        let bootstrap = Bootstrap {
            role: if gateway { "gateway" } else { "sidecar" }.to_owned(),
            name: instance,
            namespace: process.namespace.clone(),
            service_account: process.service_account.clone(),
            trust_domain,
            labels: process.labels.clone(),
            node: "local".to_owned(),
            cluster: "Kubernetes".to_owned(),
            network: String::new(),
            addresses: vec![own],
            control,
            workers: Some(workers),
            admin: Some(Endpoint::Socket(home.pages(&name))),
            capture: None,
            plain,
            broker_fd: None,
            local_ranges: vec!["0.0.0.0/0".to_owned()],
            resolver: None,
            access_log_fd: None,
            ready_fd: None,
            drain_seconds: 10,
        };
        let mut app = App::build(&bootstrap, None).expect("build");
        let log = access_log(&mut app);
        if gateway {
            let (ours, theirs) = sock::seqpacket_pair().expect("a pair");
            app.reach_through(theirs);
            tokio::spawn(async move { broker::serve(ours).await.expect("asked for what is known") });
        }
        let (ready, ending) = (app.ready(), app.ending());
        let doors = vec![app.listening(), app.opened()];
        let running = Some(tokio::spawn(app.run()));
        in_time(&format!("{name} is ready"), ready.wait()).await;
        Self { name, home: home.clone(), application, doors, ending, running, log }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.running.is_some()
    }

    /// Where the proxy listens, by the name of the listener.
    pub(crate) fn door(&self, name: &str) -> SocketAddr {
        let find = |bound: &watch::Receiver<Vec<Bound>>| {
            bound.borrow().iter().find(|bound| bound.name == name).map(|bound| bound.address)
        };
        self.doors.iter().find_map(find).unwrap_or_else(|| panic!("{} has no door {name}", self.name))
    }

    /// A connection through the proxy to `host:port`.
    pub(crate) async fn connect(&self, to: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.door("http-proxy")).await.expect("connect");
        let asked = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n");
        stream.write_all(asked.as_bytes()).await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = in_time("an answer to CONNECT", stream.read_u8()).await.expect("an answer");
            head.push(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        stream
    }

    pub(crate) fn application(&self) -> &Application {
        self.application.as_ref().expect("a gateway has no application")
    }

    pub(crate) fn application_mut(&mut self) -> &mut Application {
        self.application.as_mut().expect("a gateway has no application")
    }

    /// The lines of the access log so far, and those to come.
    pub(crate) fn log(&self) -> watch::Receiver<Vec<Value>> {
        self.log.clone()
    }

    /// A page of the proxy.
    pub(crate) async fn page(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = UnixStream::connect(self.home.pages(&self.name)).await.expect("the pages");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: proxy\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        in_time(path, stream.read_to_string(&mut answer)).await.expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        body.to_owned()
    }

    /// Asks the proxy to end gracefully; gives what ends when it has.
    pub(crate) fn drain(&mut self) -> impl Future<Output = ()> + use<> {
        self.ending.gracefully();
        let running = self.running.take().expect("it runs");
        async move { in_time("the end of a proxy", running).await.expect("no panic").expect("ends well") }
    }

    /// As the supervisor ends a pod: callers learn that it goes, its proxy drains, then the application ends.
    pub(crate) async fn remove(&mut self, home: &Home) {
        let (instance, namespace) = self.name.split_once('.').expect("as it was made");
        home.api().remove_instance(namespace, instance).await.expect("removed");
        self.drain().await;
        self.application = None;
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.ending.at_once();
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

/// A loopback address that nobody else uses.
fn own_address() -> IpAddr {
    let [a, b, c, ..] = random::next_u64().to_be_bytes();
    // 127.0.0.0/16 is left to everybody.
    Ipv4Addr::new(127, a | 1, b, c.clamp(1, 254)).into()
}

fn described(process: &Process, own: IpAddr) -> Instance {
    Instance {
        process: process.name.clone(),
        labels: process.labels.clone(),
        service_account: process.service_account.clone(),
        addresses: vec![own],
        ports: process.ports.clone(),
        tunnel: if process.run == Run::Gateway { Tunnel::None } else { Tunnel::Hbone },
        ready: true,
        node: "local".to_owned(),
    }
}

fn plane(home: &Home, token: TokenAnswer) -> Control {
    Control::Plane {
        at: Endpoint::Socket(home.control_socket()),
        root_certificates: token.roots,
        identity: token.control_identity,
        token: Some(token.token),
    }
}

/// Plain mode: the workload's ports on its own address lead to where the application really listens.
fn plain(own: IpAddr, process: &Process, application: SocketAddr) -> Plain {
    let inbound = process.ports.iter();
    Plain {
        hbone: SocketAddr::new(own, 15008),
        inbound: inbound
            .map(|port| PlainInbound { listen: SocketAddr::new(own, port.port), forward: application })
            .collect(),
        outbound: Vec::new(),
        http_proxy: Some(SocketAddr::new(own, 0)),
    }
}

/// Reads the access log as it is written.
fn access_log(app: &mut App) -> watch::Receiver<Vec<Value>> {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    app.write_access_log_to(File::from(OwnedFd::from(writer)));
    let reader = pipe::Receiver::from_owned_fd(reader.into()).expect("watched");
    let (lines, log) = watch::channel(Vec::new());
    tokio::spawn(async move {
        let mut reader = BufReader::new(reader).lines();
        while let Ok(Some(line)) = reader.next_line().await {
            let line = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON in the log: {line}"));
            lines.send_modify(|known| known.push(line));
        }
        // The log of a proxy that has ended can still be read.
        lines.closed().await;
    });
    log
}
