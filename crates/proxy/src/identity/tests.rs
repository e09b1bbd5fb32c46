//! A day of certificates in no time, with an authority in memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use lateen_model::TrustDomain;
use lateen_pki::{Issuer, Root};
use lateen_runtime::metrics::Format;
use lateen_runtime::ready::Ready;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// Signs, or says what it was told to say.
struct InMemory {
    issuer: Issuer,
    clock: Clock,
    /// Answers before signing: the last is given first.
    before: Mutex<Vec<AskError>>,
    asked: AtomicUsize,
    certified: Mutex<Vec<bool>>,
}

impl InMemory {
    fn new(clock: Clock, before: Vec<AskError>) -> Arc<Self> {
        let root = Root::generate(&TrustDomain::default(), clock.wall());
        Arc::new(Self {
            issuer: Issuer::new(root, DAY),
            clock,
            before: Mutex::new(before),
            asked: AtomicUsize::new(0),
            certified: Mutex::default(),
        })
    }

    fn say(&self, error: AskError) {
        self.before.lock().unwrap_or_else(PoisonError::into_inner).push(error);
    }
}

impl Authority for Arc<InMemory> {
    async fn certify(&self, request: String, certified: bool) -> Result<Answer, AskError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.certified.lock().unwrap().push(certified);
        if let Some(error) = self.before.lock().unwrap().pop() {
            return Err(error);
        }
        let request = csr::Request::parse(&request).expect("a request");
        let identity = request.identity.clone().expect("a name");
        let issued = self.issuer.issue(&request, &identity, DAY, self.clock.wall()).expect("issued");
        let roots = self.issuer.root().bundle(TrustDomain::default()).to_pem();
        Ok(Answer { chain: issued.to_pem(), roots })
    }
}

struct Store {
    authority: Arc<InMemory>,
    published: Arc<Published>,
    registry: Registry,
    ready: Ready,
    running: tokio::task::JoinHandle<Lost>,
}

fn start(before: Vec<AskError>) -> Store {
    let clock = Clock::starting_at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let identity = Identity::parse("spiffe://cluster.local/ns/shop/sa/cart").expect("an identity");
    let (authority, published) = (InMemory::new(clock, before), Arc::new(Published::new()));
    let (registry, ready) = (Registry::new(), Ready::new());
    let metrics = Metrics::register(&registry, published.holding.handle(), clock);
    let store = CertStore::new(identity, Arc::clone(&authority), Arc::clone(&published), clock, metrics);
    let running = tokio::spawn(store.run(ready.task("certificate")));
    Store { authority, published, registry, ready, running }
}

impl Store {
    fn asked(&self) -> usize {
        self.authority.asked.load(Ordering::Relaxed)
    }

    fn serial(&self) -> String {
        let held = self.published.holding.current();
        held.as_ref().as_ref().expect("held").certified.get().serial().to_owned()
    }

    fn metrics(&self) -> String {
        self.registry.render(Format::default())
    }
}

fn away() -> AskError {
    AskError::Unreachable("nobody there".to_owned())
}

fn no() -> AskError {
    AskError::Refused("used".to_owned())
}

#[tokio::test(start_paused = true)]
async fn it_renews_at_half_life_and_shows_what_it_holds() {
    let store = start(Vec::new());
    store.ready.wait().await;
    let first = store.serial();
    assert!(store.published.credentials.current().is_some());
    clock::sleep(DAY * 44 / 100).await;
    assert_eq!(store.asked(), 1, "not before 45 % of its life");
    clock::sleep(DAY * 12 / 100).await;
    assert_eq!(store.asked(), 2, "at the latest at 55 %");
    assert_ne!(store.serial(), first);
    assert_eq!(*store.authority.certified.lock().unwrap(), [false, true]);
    assert_eq!(store.published.credentials.version(), 1, "connections and settings stay");
    assert!(store.metrics().contains("lateen_certificate_renewals_total 2"), "{}", store.metrics());
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_keeps_the_old_one_and_is_tried_again() {
    let store = start(Vec::new());
    store.ready.wait().await;
    let first = store.serial();
    for _ in 0..3 {
        store.authority.say(no());
        store.authority.say(away());
    }
    clock::sleep(DAY * 56 / 100).await;
    assert_eq!(store.asked(), 8, "six failures within the hour, then it worked");
    assert_ne!(store.serial(), first);
    let metrics = store.metrics();
    assert!(metrics.contains("lateen_certificate_failures_total 6"), "{metrics}");
    assert!(!store.running.is_finished());
}

#[tokio::test(start_paused = true)]
async fn who_has_nothing_and_is_refused_gives_up() {
    let store = start(vec![no(), no(), no(), away(), no()]);
    let lost = store.running.await.expect("no panic");
    assert_eq!(store.authority.asked.load(Ordering::Relaxed), 5, "silence between starts the count anew");
    assert!(lost.to_string().contains("spiffe://cluster.local/ns/shop/sa/cart"), "{lost}");
    assert!(!store.ready.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_start_without_authority_waits_for_it() {
    let store = start((0..20).map(|_| away()).collect());
    let waited = clock::now();
    store.ready.wait().await;
    assert_eq!(store.asked(), 21);
    assert!(waited.elapsed() < Duration::from_secs(20 * 60), "never more than a minute between two");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_certificate_is_told() {
    let store = start(Vec::new());
    assert!(!store.metrics().contains("lateen_certificate_expiry_seconds 8"));
    store.ready.wait().await;
    assert!(store.metrics().contains("lateen_certificate_expiry_seconds 8"), "{}", store.metrics());
}
