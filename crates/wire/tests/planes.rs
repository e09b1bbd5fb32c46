//! A control plane and proxies in one process, over real sockets and TLS.

#![allow(clippy::unwrap_used, reason = "a test")]

use lateen_model::{
    Catalog, Delta, Entry, Hostname, Identity, Key, Labels, Namespace, NetworkId, NodeName, Origin,
    ProxyRole, Resource, Revision, Secret, Service, ServiceAccount, TrustDomain, Viewer,
};
use lateen_pki::tls::{Accepted, Clients, Tls, WallClock};
use lateen_pki::{CertifiedIdentity, Current, Issuer, PrivateKey, Root, TrustBundle, csr};
use lateen_runtime::drain::{self, Drainer};
use lateen_wire::certificates::{self, Answer, Asked, CertificateService, Sign, SignError};
use lateen_wire::client::{self, Following, Update};
use lateen_wire::pb::envoy::config::core::v3::Node;
use lateen_wire::server::{
    self, Admission, Admitted, Caller, Denied, Discovery, Limits, Listener, Publisher,
};
use lateen_wire::session::Progress;
use lateen_wire::{Claim, ControlPlane, Endpoint};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const TOKEN: &str = "ltn_good";

fn identity(account: &str) -> Identity {
    Identity::new(TrustDomain::default(), Namespace::default(), ServiceAccount::parse(account).unwrap())
}

fn clock() -> WallClock {
    WallClock::new(SystemTime::now)
}

/// Signs everything for who it is, or for who holds the token.
struct Authority {
    issuer: Issuer,
    bundle: TrustBundle,
}

impl Authority {
    fn new() -> Arc<Self> {
        let root = Root::generate(&TrustDomain::default(), SystemTime::now());
        let bundle = root.bundle(TrustDomain::default());
        Arc::new(Self { issuer: Issuer::new(root, Duration::from_secs(3600)), bundle })
    }

    fn certify(&self, account: &str) -> Current<CertifiedIdentity> {
        let key = PrivateKey::generate();
        let request = csr::Request::parse(&csr::make(&key, &identity(account))).unwrap();
        let hour = Duration::from_secs(3600);
        let issued = self.issuer.issue(&request, &identity(account), hour, SystemTime::now()).unwrap();
        Current::new(CertifiedIdentity::new(issued.chain, key).unwrap())
    }

    fn tls(&self) -> Tls {
        Tls::new(Current::new(self.bundle.clone()), clock())
    }
}

struct Signer(Arc<Authority>);

impl Sign for Signer {
    async fn sign(&self, caller: Caller, asked: Asked) -> Result<Answer, SignError> {
        let who = match (caller.identity, caller.token) {
            (Some(identity), _) => identity,
            (None, Some(token)) if token.expose() == TOKEN => identity("proxy"),
            _ => return Err(SignError::Unauthenticated("show a certificate or a token".into())),
        };
        let request =
            csr::Request::parse(&asked.csr).map_err(|error| SignError::Invalid(error.to_string()))?;
        let validity = asked.validity.unwrap_or(Duration::from_secs(60));
        let issued = self.0.issuer.issue(&request, &who, validity, SystemTime::now());
        let issued = issued.map_err(|error| SignError::Unauthenticated(error.to_string()))?;
        Ok(Answer { chain: issued.to_pem(), roots: self.0.bundle.to_pem() })
    }
}

/// Lets in who has a certificate or the token, and remembers how far they are.
#[derive(Default)]
struct Fleet {
    proxies: Mutex<Vec<Connected>>,
}

type Connected = (Caller, watch::Sender<Viewer>, watch::Receiver<Progress>);

impl Admission for Fleet {
    async fn admit(&self, caller: Caller, node: Node) -> Result<Admitted, Denied> {
        let claim = Claim::from_node(&node).ok_or_else(|| Denied::NotAllowed("what node is that?".into()))?;
        let good_token = caller.token.as_ref().is_some_and(|token| token.expose() == TOKEN);
        if caller.identity.is_none() && !good_token {
            return Err(Denied::Unauthenticated("show a certificate or a token".into()));
        }
        let viewer = Viewer {
            role: claim.role,
            name: claim.name,
            identity: caller.identity.clone().unwrap_or_else(|| identity("proxy")),
            labels: Labels::default(),
            node: NodeName::default(),
            network: NetworkId::default(),
        };
        let (viewer_sender, viewer) = watch::channel(viewer);
        let (progress, progress_receiver) = watch::channel(Progress::default());
        self.proxies.lock().unwrap().push((caller, viewer_sender, progress_receiver));
        Ok(Admitted { viewer, progress })
    }
}

struct Plane {
    authority: Arc<Authority>,
    fleet: Arc<Fleet>,
    catalog: Catalog,
    publisher: Publisher,
    drainer: Drainer,
    task: JoinHandle<std::io::Result<()>>,
}

impl Plane {
    fn start(authority: &Arc<Authority>, listener: Listener, catalog: Catalog) -> Self {
        Self::start_as(authority, listener, catalog, "lateen-control")
    }

    fn start_as(authority: &Arc<Authority>, listener: Listener, catalog: Catalog, account: &str) -> Self {
        let (drainer, drain) = drain::channel();
        let fleet = Arc::new(Fleet::default());
        let publisher = Publisher::new(&catalog);
        let discovery = Discovery::new(publisher.views(), Arc::clone(&fleet), drain.clone());
        let service = server::planes(discovery, CertificateService::new(Signer(Arc::clone(authority))));
        let tls = authority.tls().server(&authority.certify(account), Clients::Optional, &[b"h2"]);
        let task = tokio::spawn(server::serve(listener, tls, service, Limits::default(), drain));
        Self { authority: Arc::clone(authority), fleet, catalog, publisher, drainer, task }
    }

    fn publish(&mut self, delta: Delta) {
        self.catalog.apply(&delta);
        self.publisher.publish(&self.catalog, &delta);
    }

    async fn stop(self) -> Catalog {
        self.drainer.drain(Duration::from_secs(10)).await;
        self.task.await.unwrap().unwrap();
        self.catalog
    }
}

fn unix(path: &Path) -> Listener {
    let _ = std::fs::remove_file(path);
    Listener::Unix(UnixListener::bind(path).unwrap())
}

fn control(authority: &Authority, path: &Path, own: Option<&Current<CertifiedIdentity>>) -> ControlPlane {
    let accepted = Accepted::Identities([identity("lateen-control")].into());
    ControlPlane::new(Endpoint::Socket(PathBuf::from(path)), authority.tls().client(own, accepted, &[b"h2"]))
}

fn claim() -> Claim {
    Claim { role: ProxyRole::Sidecar, address: None, name: "cart-0".into(), namespace: Namespace::default() }
}

fn follow(plane: ControlPlane) -> Following {
    let (following, task) = client::follow(move || plane.clone(), &claim());
    tokio::spawn(task);
    following
}

fn service(name: &str, alt_name: &str) -> Entry {
    let service = Service {
        namespace: Namespace::default(),
        name: name.into(),
        hostname: Hostname::parse(&format!("{name}.default.svc.cluster.local")).unwrap(),
        addresses: vec![],
        ports: vec![],
        subject_alt_names: vec![alt_name.into()],
        location: Default::default(),
        canonical: true,
        visibility: Default::default(),
        publish_not_ready: false,
        resolution: Default::default(),
    };
    let key = Key::new(Origin::Service, Namespace::default(), name);
    Entry::for_everyone(key, Resource::Service(service))
}

fn services(range: std::ops::Range<usize>) -> Delta {
    let set = range.map(|n| Arc::new(service(&format!("s{n}"), "x"))).collect();
    Delta { set, removed: vec![] }
}

fn catalog(delta: &Delta) -> Catalog {
    let mut catalog = Catalog::default();
    catalog.apply(delta);
    catalog
}

async fn next(following: &mut Following) -> Update {
    let update = tokio::time::timeout(Duration::from_secs(60), following.updates.recv()).await;
    update.expect("a batch in time").expect("the task goes on")
}

#[tokio::test]
async fn a_proxy_follows_changes_and_tells_how_far_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let authority = Authority::new();
    let mut plane = Plane::start(&authority, unix(&path), catalog(&services(0..10)));
    let mut following = follow(control(&authority, &path, Some(&authority.certify("cart"))));

    let first = next(&mut following).await;
    assert_eq!((first.batch.delta.set.len(), first.batch.revision), (10, Revision(1)));
    let (caller, viewer, mut progress) = plane.fleet.proxies.lock().unwrap().pop().unwrap();
    assert_eq!((&caller.identity, &caller.token), (&Some(identity("cart")), &None));
    assert!(caller.until.is_some(), "the end of the certificate is known");
    assert_eq!(progress.borrow().acknowledged, None, "not before it is applied");
    first.applied.done();
    progress.wait_for(|progress| progress.acknowledged == Some(Revision(1))).await.unwrap();
    assert!(following.link.wait_for(|link| link.connected).await.unwrap().error.is_none());

    // Who is no longer admitted is cut off, and comes again by itself.
    drop(viewer);
    following.link.wait_for(|link| !link.connected).await.unwrap();
    plane
        .publish(Delta { set: vec![], removed: vec![Key::new(Origin::Service, Namespace::default(), "s3")] });
    let second = next(&mut following).await;
    assert_eq!((second.batch.delta.set.len(), second.batch.delta.removed.len()), (0, 1));
    second.applied.done();
}

#[tokio::test]
async fn after_a_restart_of_the_control_plane_only_the_difference_comes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let authority = Authority::new();
    let plane = Plane::start(&authority, unix(&path), catalog(&services(0..1000)));
    let mut following = follow(control(&authority, &path, Some(&authority.certify("cart"))));
    let first = next(&mut following).await;
    assert_eq!(first.batch.delta.set.len(), 1000);
    first.applied.done();

    let mut catalog = plane.stop().await;
    catalog.apply(&Delta { set: vec![Arc::new(service("s7", "y"))], removed: vec![] });
    let mut plane = Plane::start(&authority, unix(&path), catalog);
    let second = next(&mut following).await;
    assert_eq!((second.batch.delta.set.len(), second.batch.revision), (1, Revision(2)));
    second.applied.done();

    // Ten changes while one is being applied are one batch.
    plane.publish(services(0..1));
    let slow = next(&mut following).await;
    for n in 0..10 {
        plane.publish(Delta { set: vec![Arc::new(service("s9", &n.to_string()))], removed: vec![] });
    }
    slow.applied.done();
    let last = next(&mut following).await;
    assert_eq!((last.batch.delta.set.len(), last.batch.revision), (1, plane.catalog.revision()));
    last.applied.done();
}

#[tokio::test]
async fn a_token_gives_a_certificate_and_the_certificate_a_stream() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let plane = Plane::start(&authority, Listener::Tcp(listener), catalog(&services(0..1)));
    let accepted = || Accepted::Identities([identity("lateen-control")].into());
    let tls = authority.tls();
    let at = |own: Option<&Current<CertifiedIdentity>>| {
        ControlPlane::new(Endpoint::Address(address), tls.client(own, accepted(), &[b"h2"]))
    };

    let minute = Duration::from_secs(60);
    let nobody = certificates::obtain(&at(None), &identity("proxy"), minute).await.unwrap_err();
    assert_eq!(nobody.to_string(), "ask for a certificate: refused: show a certificate or a token");
    let with_token = at(None).with_token(&Secret::new(TOKEN)).unwrap();
    let other = certificates::obtain(&with_token, &identity("other"), minute).await.unwrap_err();
    assert!(matches!(other, certificates::Error::Refused(_)), "{other}");
    let obtained = certificates::obtain(&with_token, &identity("proxy"), minute).await.unwrap();
    assert!(obtained.roots.contains("BEGIN CERTIFICATE"));
    let garbage = certificates::ask(&with_token, "rubbish".into(), minute, None).await.unwrap_err();
    assert!(matches!(garbage, certificates::Error::Refused(_)), "{garbage}");

    for own in [at(Some(&Current::new(obtained.certified))), with_token] {
        let mut following = follow(own);
        next(&mut following).await.applied.done();
    }
    let callers: Vec<bool> =
        plane.fleet.proxies.lock().unwrap().iter().map(|(caller, ..)| caller.identity.is_some()).collect();
    assert_eq!(callers, [true, false]);
    assert!(at(None).with_token(&Secret::new("a\nb")).is_err());
}

#[tokio::test]
async fn who_may_not_come_in_is_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let authority = Authority::new();
    let _plane = Plane::start(&authority, unix(&path), Catalog::default());
    let mut following = follow(control(&authority, &path, None));
    let link = following.link.wait_for(|link| link.error.is_some()).await.unwrap().clone();
    assert_eq!(link.error.as_deref(), Some("show a certificate or a token"));

    // Another mesh's authority is not believed, and the proxy says so.
    let stranger = Authority::new();
    let mut following = follow(control(&stranger, &path, Some(&stranger.certify("cart"))));
    let link = following.link.wait_for(|link| link.error.is_some()).await.unwrap().clone();
    assert!(link.error.as_deref().unwrap().contains("chains to no root"), "{link:?}");
}

#[tokio::test]
async fn a_server_with_another_identity_is_not_the_control_plane() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let authority = Authority::new();
    let plane = Plane::start_as(&authority, unix(&path), Catalog::default(), "cart");
    let mut following = follow(control(&plane.authority, &path, None));
    let link = following.link.wait_for(|link| link.error.is_some()).await.unwrap().clone();
    assert!(link.error.as_deref().unwrap().contains("not who was expected"), "{link:?}");
    assert!(plane.fleet.proxies.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_change_of_labels_changes_what_is_seen() {
    use lateen_model::{Scope, Selector};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let authority = Authority::new();
    let labels: Labels = [("app", "cart")].into_iter().collect();
    let scope = Scope::Workloads { namespace: None, selector: Selector::new(labels.clone()), role: None };
    let hidden = Entry { scope, ..service("s", "x") };
    let plane = Plane::start(
        &authority,
        unix(&path),
        catalog(&Delta { set: vec![Arc::new(hidden)], removed: vec![] }),
    );
    let mut following = follow(control(&authority, &path, Some(&authority.certify("cart"))));
    let first = next(&mut following).await;
    assert!(first.batch.delta.is_empty());
    first.applied.done();
    plane.fleet.proxies.lock().unwrap()[0].1.send_modify(|viewer| viewer.labels = labels);
    let second = next(&mut following).await;
    assert_eq!(second.batch.delta.set.len(), 1);
    second.applied.done();
}

#[tokio::test]
async fn many_proxies_get_a_large_state() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let authority = Authority::new();
    let mut plane = Plane::start(&authority, unix(&path), catalog(&services(0..3000)));
    let own = authority.certify("cart");
    let mut proxies: Vec<Following> =
        (0..10).map(|_| follow(control(&authority, &path, Some(&own)))).collect();
    for following in &mut proxies {
        let update = next(following).await;
        assert_eq!(update.batch.delta.set.len(), 3000);
        update.applied.done();
    }
    plane.publish(Delta { set: vec![Arc::new(service("s5", "changed"))], removed: vec![] });
    for following in &mut proxies {
        let update = next(following).await;
        assert_eq!(update.batch.delta.set.len(), 1);
        update.applied.done();
    }
}
