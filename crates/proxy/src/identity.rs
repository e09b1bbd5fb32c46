//! `CertStore`: who this proxy is, proven: asks for a certificate, holds it, and has it renewed in time.
//!
//! The key is made here and never leaves the process. TLS reads certificate and roots anew at each handshake, so a
//! renewal disturbs no connection. A renewal that fails leaves what is held in force and is tried again; a laptop that
//! slept is noticed, since the due time is compared with the calendar every minute.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lateen_model::Identity;
use lateen_pki::tls::{Tls, WallClock};
use lateen_pki::verify::verify;
use lateen_pki::{
    CertifiedIdentity, Current, InvalidBundle, InvalidChain, PrivateKey, Refusal, TrustBundle, Usage, csr,
    rotation,
};
use lateen_runtime::backoff::Backoff;
use lateen_runtime::clock::{self, Clock};
use lateen_runtime::live::{Live, LiveHandle};
use lateen_runtime::metrics::{Labels, Registry, SharedCounter};
use lateen_runtime::random;
use lateen_runtime::ready::StartupTask;

use crate::connect::tls::Credentials;

mod plane;
#[cfg(test)]
mod tests;

pub use plane::PlaneAuthority;

/// How long one request for a certificate may take.
const ASK_TIME: Duration = Duration::from_secs(10);
/// How often the due time is compared with the calendar.
const LOOK: Duration = Duration::from_secs(60);
/// Refusals after which a proxy without a valid certificate cannot help itself.
const HOPELESS: u32 = 3;

/// Who signs.
pub trait Authority: Send + Sync {
    /// Has `request`, a PEM text, signed. `certified` says whether a certificate is held that can be shown.
    fn certify(
        &self,
        request: String,
        certified: bool,
    ) -> impl Future<Output = Result<Answer, AskError>> + Send;
}

/// What an authority gave.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Our certificate first, then what links it to a root; PEM.
    pub chain: String,
    /// Whom to believe from now on; PEM.
    pub roots: String,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody answered.
    #[error("{0}")]
    Unreachable(String),
    /// The answer was no.
    #[error("{0}")]
    Refused(String),
    /// No answer in time.
    #[error("the authority did not answer within {} s", ASK_TIME.as_secs())]
    TimedOut,
    /// A chain that cannot be used.
    #[error("use the certificate that the authority gave")]
    Chain(#[from] InvalidChain),
    /// Roots that cannot be used.
    #[error("use the roots that the authority gave")]
    Roots(#[from] InvalidBundle),
    /// A certificate that peers would not believe.
    #[error("the certificate that the authority gave would not be believed by peers")]
    Unbelievable(#[from] Refusal),
    /// A certificate of somebody else.
    #[error("the authority gave a certificate of {0}")]
    OtherIdentity(Identity),
}

impl AskError {
    /// Whether it was somebody's answer, rather than silence.
    const fn is_answer(&self) -> bool {
        !matches!(self, Self::Unreachable(_) | Self::TimedOut)
    }
}

/// What is held: read by pages and by who shows it to the control plane.
#[derive(Clone, Debug)]
pub struct Holding {
    /// The certificate in use.
    pub certified: Current<CertifiedIdentity>,
    /// Whom we believe.
    pub bundle: Current<TrustBundle>,
}

impl Holding {
    fn credentials(&self, clock: Clock) -> Credentials {
        let tls = Tls::new(self.bundle.clone(), WallClock::new(move || clock.wall()));
        Credentials::new(tls, self.certified.clone())
    }
}

/// Where the certificate is published.
pub struct Published {
    /// For the workers.
    pub credentials: Live<Option<Credentials>>,
    /// For pages and the control plane's client.
    pub holding: Live<Option<Holding>>,
}

impl Published {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { credentials: Live::new(None), holding: Live::new(None) }
    }

    /// The first certificate.
    pub fn publish(&self, holding: Holding, clock: Clock) {
        self.credentials.publish(Some(holding.credentials(clock)));
        self.holding.publish(Some(holding));
    }
}

impl Default for Published {
    fn default() -> Self {
        Self::new()
    }
}

/// What is counted of certificates.
pub struct Metrics {
    renewals: SharedCounter,
    failures: SharedCounter,
}

impl Metrics {
    /// Declares the families.
    pub fn register(registry: &Registry, holding: LiveHandle<Option<Holding>>, clock: Clock) -> Self {
        let expiry = registry.gauge(
            "lateen_certificate_expiry_seconds",
            "seconds until our certificate ends; negative when it has ended, absent while there is none",
        );
        registry.ask(expiry, Labels::none(), move || match &*holding.current() {
            Some(held) => signed_seconds(clock.wall(), held.certified.get().not_after()),
            None => f64::NAN,
        });
        let renewals = registry
            .counter("lateen_certificate_renewals_total", "certificates received, the first included");
        let failures =
            registry.counter("lateen_certificate_failures_total", "requests for a certificate that failed");
        Self {
            renewals: registry.shared_counter(renewals, &Labels::none()),
            failures: registry.shared_counter(failures, &Labels::none()),
        }
    }
}

/// Seconds from one time to another, which may lie before.
fn signed_seconds(from: SystemTime, to: SystemTime) -> f64 {
    match to.duration_since(from) {
        Ok(left) => left.as_secs_f64(),
        Err(over) => -over.duration().as_secs_f64(),
    }
}

/// The proxy has no valid certificate and is refused one: only a new start, with a new token, can help.
#[derive(Debug, thiserror::Error)]
#[error("no certificate for {identity}: refused {HOPELESS} times; the join token is used up or has expired")]
pub struct Lost {
    identity: Identity,
    #[source]
    last: AskError,
}

/// Keeps the certificate.
pub struct CertStore<A> {
    identity: Identity,
    authority: A,
    published: Arc<Published>,
    clock: Clock,
    metrics: Metrics,
}

impl<A: Authority> CertStore<A> {
    /// Will keep the certificate of `identity`.
    pub fn new(
        identity: Identity,
        authority: A,
        published: Arc<Published>,
        clock: Clock,
        metrics: Metrics,
    ) -> Self {
        Self { identity, authority, published, clock, metrics }
    }

    /// Asks and renews for ever; `first` is done with the first certificate.
    pub async fn run(self, first: StartupTask) -> Lost {
        let mut first = Some(first);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let mut refused = 0;
        loop {
            match self.renew().await {
                Ok(due) => {
                    backoff.reset();
                    refused = 0;
                    if let Some(first) = first.take() {
                        first.done();
                    }
                    self.wait_until(due).await;
                }
                Err(error) => {
                    let wait = backoff.after_failure(random::next_u64());
                    self.failed(&error, wait);
                    refused = if error.is_answer() && !self.has_valid() { refused + 1 } else { 0 };
                    if refused >= HOPELESS {
                        return Lost { identity: self.identity, last: error };
                    }
                    clock::sleep(wait).await;
                }
            }
        }
    }

    fn failed(&self, error: &AskError, wait: Duration) {
        self.metrics.failures.increment();
        let error = chain(error);
        if self.has_valid() {
            tracing::warn!(error, ?wait, "certificate not renewed; the one held stays in use");
        } else {
            tracing::warn!(error, ?wait, "no certificate yet");
        }
    }

    fn held(&self) -> Option<Holding> {
        (*self.published.holding.current()).clone()
    }

    fn has_valid(&self) -> bool {
        self.held().is_some_and(|held| held.certified.get().is_valid_at(self.clock.wall()))
    }

    /// One request; gives when the next is due.
    async fn renew(&self) -> Result<SystemTime, AskError> {
        let key = PrivateKey::generate();
        let request = csr::make(&key, &self.identity);
        let held = self.held();
        let asked = self.authority.certify(request, self.has_valid());
        let answer = clock::timeout(ASK_TIME, asked).await.map_err(|_| AskError::TimedOut)??;
        let bundle = TrustBundle::from_pem(self.identity.trust_domain.clone(), &answer.roots)?;
        let certified = CertifiedIdentity::from_pem(&answer.chain, key)?;
        if *certified.identity() != self.identity {
            return Err(AskError::OtherIdentity(certified.identity().clone()));
        }
        // Peers would refuse what does not pass here.
        verify(certified.chain(), Usage::Server, &bundle, self.clock.wall())?;
        let due = rotation::renew_at(certified.not_before(), certified.not_after(), random::next_u64());
        self.metrics.renewals.increment();
        tracing::info!(
            identity = %self.identity,
            serial = certified.serial(),
            expires_in_seconds = signed_seconds(self.clock.wall(), certified.not_after()).round(),
            "certificate received"
        );
        match held {
            Some(held) => {
                held.bundle.set(bundle);
                held.certified.set(certified);
            }
            None => {
                let holding = Holding { certified: Current::new(certified), bundle: Current::new(bundle) };
                self.published.publish(holding, self.clock);
            }
        }
        Ok(due)
    }

    /// Waits for a time of the calendar, which can jump.
    async fn wait_until(&self, due: SystemTime) {
        while let Ok(left) = due.duration_since(self.clock.wall()) {
            if left.is_zero() {
                return;
            }
            clock::sleep(left.min(LOOK)).await;
        }
    }
}

impl<A> fmt::Debug for CertStore<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertStore").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
