//! Small words to build proxies, applications and callers with.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use lateen_engine::{Compiler, Snapshot};
use lateen_model::*;
use lateen_pki::tls::{Tls, WallClock};
use lateen_pki::{CertifiedIdentity, Current, Issuer, PrivateKey, Root, csr};
use lateen_runtime::drain::{self, Drainer};
use lateen_runtime::live::Live;
use lateen_runtime::metrics::Registry;
use lateen_runtime::random;
use lateen_runtime::sock::{self, ListenOptions};
use lateen_runtime::workers::Workers;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::connect::tls::Credentials;
use crate::enter::Door;
use crate::observe::access::{Record, Sink, What};
use crate::worker::accept::{accept, accept_spread, serve_lane, spread};
use crate::worker::{Settings, Shared, Worker};

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(20);

/// A loopback address that no other test uses.
pub(crate) fn own_address() -> IpAddr {
    let [a, b, c, ..] = random::next_u64().to_be_bytes();
    Ipv4Addr::new(127, a | 1, b, c.clamp(1, 254)).into()
}

pub(crate) async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// What records say, one line each.
#[derive(Clone, Default)]
pub(crate) struct Records(Arc<Mutex<Vec<String>>>, Arc<tokio::sync::Notify>);

impl Records {
    /// Waits for so many records and gives them.
    pub(crate) async fn wait(&self, count: usize) -> Vec<String> {
        in_time(async {
            loop {
                let told = self.1.notified();
                let lines = self.0.lock().expect("no panic while held").clone();
                if lines.len() >= count {
                    return lines;
                }
                told.await;
            }
        })
        .await
    }
}

impl Sink for Records {
    fn record(&self, record: &Record<'_>) {
        let what = match record.what {
            What::Http(http) => format!("{} {} {}", http.method, http.path, http.status),
            What::Tcp => format!("tcp {}/{}", record.bytes_received, record.bytes_sent),
        };
        let peer = record.peer.map_or("-".to_owned(), |peer| peer.service_account.to_string());
        let grpc = match record.what {
            What::Http(http) => http.grpc_status.map(|status| format!(" grpc={status}")).unwrap_or_default(),
            What::Tcp => String::new(),
        };
        let line =
            format!("{what} {} {} peer={peer} tries={}{grpc}", record.flags, record.details, record.attempts);
        self.0.lock().expect("no panic while held").push(line);
        self.1.notify_one();
    }
}

/// An authority, and certificates by it.
pub(crate) struct Authority {
    issuer: Issuer,
    root: Root,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let root = Root::generate(&TrustDomain::default(), SystemTime::now());
        let (chain, key) = root.to_pem();
        let copy = Root::from_pem(&chain, &key).expect("our own root");
        Self { issuer: Issuer::new(copy, Duration::from_secs(86_400)), root }
    }

    pub(crate) fn credentials(&self, identity: &Identity) -> Credentials {
        let (tls, certified) = self.certify(identity);
        Credentials::new(tls, certified)
    }

    pub(crate) fn certify(&self, identity: &Identity) -> (Tls, Current<CertifiedIdentity>) {
        let key = PrivateKey::generate();
        let request = csr::Request::parse(&csr::make(&key, identity)).expect("our own request");
        let day = Duration::from_secs(86_400);
        let issued = self.issuer.issue(&request, identity, day, SystemTime::now()).expect("issued");
        let certified = CertifiedIdentity::from_pem(&issued.to_pem(), key).expect("our own chain");
        let bundle = self.root.bundle(TrustDomain::default());
        (Tls::new(Current::new(bundle), WallClock::new(SystemTime::now)), Current::new(certified))
    }
}

/// One proxy with one worker.
pub(crate) struct Proxy {
    pub(crate) live: Live<Snapshot>,
    pub(crate) records: Records,
    drainer: Option<Drainer>,
    workers: Workers,
}

/// What to start a proxy with.
pub(crate) struct Plan {
    pub(crate) viewer: Viewer,
    pub(crate) resources: Vec<Arc<Entry>>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) doors: Vec<(SocketAddr, Door)>,
    pub(crate) settings: Settings,
}

impl Plan {
    pub(crate) fn sidecar(name: &str, resources: &[Arc<Entry>]) -> Self {
        Self {
            viewer: viewer(name, ProxyRole::Sidecar),
            resources: resources.to_vec(),
            credentials: None,
            doors: Vec::new(),
            settings: Settings::default(),
        }
    }

    pub(crate) fn certified(mut self, authority: &Authority) -> Self {
        self.credentials = Some(authority.credentials(&self.viewer.identity));
        self
    }

    pub(crate) fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    pub(crate) fn door(mut self, address: SocketAddr, door: Door) -> Self {
        self.doors.push((address, door));
        self
    }

    /// Starts it; gives the addresses of its doors in order.
    pub(crate) async fn start(self) -> (Proxy, Vec<SocketAddr>) {
        let snapshot = compile(self.viewer, self.resources);
        let live = Live::new(Snapshot::clone(&snapshot));
        let credentials = Live::new(self.credentials);
        let (drainer, drain) = drain::channel();
        let shared = Arc::new(shared(self.settings, &live, &credentials, drain));
        let records = Records::default();
        let workers = Workers::start(1, "proxy").expect("threads");
        let mut addresses = Vec::new();
        let mut listeners = Vec::new();
        for (address, door) in self.doors {
            let listener = sock::listen(address, &ListenOptions::default()).expect("listen");
            addresses.push(listener.local_addr().expect("an address"));
            listeners.push((listener, door));
        }
        let sink = records.clone();
        let started = workers.run(0, move |context| async move {
            let worker = Worker::new(shared, context.clone(), Box::new(sink));
            for (listener, door) in listeners {
                let worker = Rc::clone(&worker);
                if matches!(door, Door::Hbone) {
                    let (spread, lanes) = spread(1);
                    for lane in lanes {
                        context.spawn(serve_lane(Rc::clone(&worker), lane, door.clone()));
                    }
                    context.spawn(accept_spread(worker, listener, spread));
                } else {
                    context.spawn(accept(worker, listener, door));
                }
            }
        });
        in_time(started).await.expect("started");
        (Proxy { live, records, drainer: Some(drainer), workers }, addresses)
    }
}

/// What workers share, without a broker and without anything that stands elsewhere than it says.
pub(crate) fn shared(
    settings: Settings,
    live: &Live<Snapshot>,
    credentials: &Live<Option<Credentials>>,
    drain: drain::Drain,
) -> Shared {
    Shared {
        settings,
        snapshots: live.handle(),
        credentials: credentials.handle(),
        drain,
        broker: None,
        local_ranges: Vec::new(),
        local_ports: Default::default(),
        mark: None,
        rates: Default::default(),
        outliers: Default::default(),
        breakers: crate::connect::Breakers::new(&Registry::new()),
    }
}

impl Proxy {
    pub(crate) async fn drain(&mut self, patience: Duration) -> drain::Drained {
        self.drainer.take().expect("drained once").drain(patience).await
    }

    pub(crate) fn panics(&self) -> u64 {
        self.workers.panics()
    }

    pub(crate) fn publish(&self, name: &str, resources: &[Arc<Entry>]) {
        self.live.publish(compile(viewer(name, ProxyRole::Sidecar), resources.to_vec()));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.panics(), 0, "a task of the proxy panicked");
        }
    }
}

pub(crate) fn compile(viewer: Viewer, resources: Vec<Arc<Entry>>) -> Arc<Snapshot> {
    Compiler::new(viewer).apply(&Delta { set: resources, removed: Vec::new() })
}

pub(crate) fn viewer(name: &str, role: ProxyRole) -> Viewer {
    Viewer {
        role,
        name: name.into(),
        identity: identity(name),
        labels: [("app", name)].into_iter().collect(),
        node: NodeName::default(),
        network: NetworkId::default(),
    }
}

pub(crate) fn identity(name: &str) -> Identity {
    let account = ServiceAccount::parse(name).expect("a name");
    Identity::new(TrustDomain::default(), Namespace::default(), account)
}

pub(crate) fn service_id(name: &str) -> ServiceId {
    let hostname = Hostname::parse(&format!("{name}.default.svc.cluster.local")).expect("a name");
    ServiceId { namespace: Namespace::default(), hostname }
}

fn entry(origin: Origin, name: &str, resource: Resource) -> Arc<Entry> {
    Arc::new(Entry::for_everyone(Key::new(origin, Namespace::default(), name), resource))
}

/// A service without addresses of its own: reached by name.
pub(crate) fn service(name: &str, protocol: AppProtocol) -> Arc<Entry> {
    let port = ServicePort { number: 80, name: "port".into(), protocol, target: TargetPort::Number(80) };
    let service = Service {
        namespace: Namespace::default(),
        name: name.into(),
        hostname: service_id(name).hostname,
        addresses: Vec::new(),
        ports: vec![port],
        subject_alt_names: Vec::new(),
        location: Location::Internal,
        canonical: true,
        visibility: Visibility::Public,
        publish_not_ready: false,
        resolution: Default::default(),
    };
    entry(Origin::Service, name, Resource::Service(service))
}

/// An instance of `name` whose application listens at `at`.
pub(crate) fn instance(name: &str, at: SocketAddr, protocol: AppProtocol, tunnel: Tunnel) -> Arc<Entry> {
    instance_of(name, name, at, protocol, tunnel)
}

/// An instance that acts as the account `name` and answers for `of`.
pub(crate) fn instance_of(
    name: &str,
    of: &str,
    at: SocketAddr,
    protocol: AppProtocol,
    tunnel: Tunnel,
) -> Arc<Entry> {
    let port = WorkloadPort { service_port: 80, target_port: at.port(), protocol };
    let workload = Workload {
        uid: Key::new(Origin::Instance, Namespace::default(), name).to_string().into(),
        name: name.into(),
        namespace: Namespace::default(),
        addresses: vec![at.ip()],
        hostname: None,
        network: NetworkId::default(),
        tunnel,
        trust_domain: TrustDomain::default(),
        service_account: ServiceAccount::parse(name).expect("a name"),
        node: NodeName::default(),
        cluster: ClusterId::default(),
        canonical_name: name.into(),
        canonical_revision: "latest".into(),
        workload_name: name.into(),
        labels: [("app", name)].into_iter().collect(),
        services: BTreeMap::from([(service_id(of), vec![port])]),
        policies: Vec::new(),
        health: Health::Healthy,
        locality: Locality::default(),
        weight: 1,
    };
    entry(Origin::Instance, name, Resource::Workload(workload))
}

/// A plain client's proxy in front of applications without proxies, and the address to call it at.
pub(crate) async fn front(
    protocol: AppProtocol,
    apps: &[SocketAddr],
    change: impl FnOnce(&mut Settings),
) -> (Proxy, SocketAddr) {
    let mut resources = vec![service("app", protocol)];
    for (index, at) in apps.iter().enumerate() {
        resources.push(instance_of(&format!("app-{index}"), "app", *at, protocol, Tunnel::None));
    }
    front_of(&resources, change).await
}

/// The same over these resources.
pub(crate) async fn front_of(
    resources: &[Arc<Entry>],
    change: impl FnOnce(&mut Settings),
) -> (Proxy, SocketAddr) {
    let door = Door::Service { host: "app.default.svc.cluster.local".into(), port: 80 };
    let any = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let (proxy, doors) = Plan::sidecar("client", resources).settings(change).door(any, door).start().await;
    (proxy, doors[0])
}

/// A listener for an application.
pub(crate) async fn app_listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(SocketAddr::new(own_address(), 0)).await.expect("bind");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// An application that hands out its connections.
pub(crate) async fn app() -> (mpsc::UnboundedReceiver<Wire>, SocketAddr) {
    let (listener, address) = app_listener().await;
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if sender.send(Wire::new(tcp)).is_err() {
                return;
            }
        }
    });
    (receiver, address)
}

/// An application that answers every request with 200, its own name and the request's head.
pub(crate) async fn echo(name: &'static str) -> SocketAddr {
    let (listener, address) = app_listener().await;
    serve_echo(listener, name);
    address
}

pub(crate) fn serve_echo(listener: TcpListener, name: &'static str) {
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut wire = Wire::new(tcp);
                while let Some(head) = wire.try_head().await {
                    let length = head.lines().find_map(|line| {
                        line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
                    });
                    let body = wire.exactly(length.unwrap_or(0)).await;
                    let answer = format!("{name}\n{head}{}", String::from_utf8_lossy(&body));
                    let length = answer.len();
                    wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{answer}")).await;
                }
            });
        }
    });
}

/// A connection as a test speaks and reads it.
pub(crate) struct Wire {
    pub(crate) tcp: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(tcp: TcpStream) -> Self {
        Self { tcp, read: Vec::new() }
    }

    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::new(in_time(TcpStream::connect(address)).await.expect("connect"))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A peer that has gone is what some tests are about.
        let _ = in_time(self.tcp.write_all(bytes.as_ref())).await;
    }

    async fn more(&mut self) -> bool {
        let mut piece = [0; 4096];
        let read = in_time(self.tcp.read(&mut piece)).await.unwrap_or(0);
        self.read.extend_from_slice(&piece[..read]);
        read > 0
    }

    /// The next head, with its empty line; none at the end of the stream.
    pub(crate) async fn try_head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.read.drain(..at + 4).collect();
                return Some(String::from_utf8(head).expect("text"));
            }
            if !self.more().await {
                return None;
            }
        }
    }

    pub(crate) async fn head(&mut self) -> String {
        self.try_head().await.expect("a head")
    }

    pub(crate) async fn exactly(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            assert!(self.more().await, "ended after {} of {count} bytes", self.read.len());
        }
        self.read.drain(..count).collect()
    }

    /// The next bytes; none if the stream ends before.
    pub(crate) async fn try_exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.read.len() < count {
            if !self.more().await {
                return None;
            }
        }
        Some(self.read.drain(..count).collect())
    }

    /// A chunked body, decoded; trailers are dropped.
    pub(crate) async fn chunked(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.extend(self.exactly(1).await);
            }
            let line = String::from_utf8(line).expect("text");
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a size");
            if size == 0 {
                break;
            }
            body.extend(self.exactly(size).await);
            assert_eq!(self.exactly(2).await, b"\r\n");
        }
        let mut end = Vec::new();
        while !end.ends_with(b"\r\n\r\n") && end != b"\r\n" {
            end.extend(self.exactly(1).await);
        }
        body
    }

    /// Everything until the stream ends.
    pub(crate) async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.read)).into_owned()
    }

    /// One request; gives the status line and the body.
    pub(crate) async fn ask(&mut self, request: &str) -> (String, String) {
        self.send(request).await;
        self.answer().await
    }

    /// The next response, read by its length.
    pub(crate) async fn answer(&mut self) -> (String, String) {
        let head = self.head().await;
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0);
        let body = self.exactly(length).await;
        let status = head.lines().next().unwrap_or_default().to_owned();
        (status, String::from_utf8(body).expect("text"))
    }
}

/// A GET of `path`.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: app\r\n\r\n")
}

/// Denies the account `from` everything.
pub(crate) fn deny(name: &str, from: &str) -> Arc<Entry> {
    let principal = StringMatch::from_policy_value(&format!("cluster.local/ns/default/sa/{from}"));
    let source = Source { principals: vec![principal], ..Source::default() };
    let rule = AuthorizationRule { from: vec![source], ..AuthorizationRule::default() };
    let kind = PolicyKind::Authorization(Authorization {
        action: Action::Deny,
        rules: vec![rule],
        dry_run: false,
        note: None,
    });
    policy(Origin::AuthorizationPolicy, name, kind)
}

/// Mutual TLS or nothing.
pub(crate) fn strict_everywhere() -> Arc<Entry> {
    let strict = PeerAuthentication { mode: MtlsMode::Strict, ports: BTreeMap::new() };
    policy(Origin::PeerAuthentication, "strict", PolicyKind::PeerAuthentication(strict))
}

fn policy(origin: Origin, name: &str, kind: PolicyKind) -> Arc<Entry> {
    let id = Key::new(origin, Namespace::default(), name);
    let target = Target::Namespace(Namespace::default());
    let policy = Policy { id: id.clone(), target, created: Created::UNKNOWN, kind };
    Arc::new(Entry::for_everyone(id, Resource::Policy(policy)))
}
