//! Who signs: the root, its storage, the certificates of workloads, and the control plane's own.

mod root;
pub mod tokens;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use lateen_model::{Identity, MeshSettings, control_identity};
use lateen_pki::csr::{InvalidRequest, Request};
use lateen_pki::{
    CertifiedIdentity, Current, InvalidChain, IssueError, Issued, Issuer, PrivateKey, TrustBundle, csr,
    rotation,
};
use lateen_runtime::clock::Clock;
use lateen_runtime::metrics::{Labels, Registry, SharedCounter};
use lateen_runtime::random;

use crate::store::{self, Store};

pub use root::{check as check_root, load_or_make as load_root};

/// The longest validity of a certificate, and that of one who does not say.
pub const VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// Why the authority cannot work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The root cannot be kept.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The control plane cannot have a certificate of its own.
    #[error("make the control plane's own certificate: {0}")]
    Sign(#[from] SignError),
    /// As above.
    #[error("make the control plane's own certificate: {0}")]
    Chain(#[from] InvalidChain),
}

/// Why somebody gets no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The request is no good.
    #[error(transparent)]
    Request(#[from] InvalidRequest),
    /// It asks for too much, or the root's time is over.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The caller is of another mesh, or of this one before it was renamed.
    #[error("the caller is `{0}`, which is not of this mesh's trust domain")]
    Foreign(Identity),
}

/// Signs for the mesh.
pub struct Authority {
    issuer: Issuer,
    clock: Clock,
    bundle: Current<TrustBundle>,
    server: Current<CertifiedIdentity>,
    /// When the server's certificate is to be replaced.
    renew: Mutex<SystemTime>,
    issued: SharedCounter,
    refused: SharedCounter,
}

impl Authority {
    /// An authority for this mesh.
    ///
    /// # Errors
    /// When the control plane's own certificate cannot be made: the root's time is over.
    pub fn new(
        root: lateen_pki::Root,
        mesh: &MeshSettings,
        clock: Clock,
        metrics: &Registry,
    ) -> Result<Self, Error> {
        let bundle = root.bundle(mesh.trust_domain.clone());
        let issuer = Issuer::new(root, VALIDITY);
        let server = certify(&issuer, &control_identity(mesh), clock.wall())?;
        let renew = renew_at(&server);
        let family = metrics.counter("lateen_certificates_total", "Certificate requests, by outcome.");
        let count = |outcome| metrics.shared_counter(family, &Labels::new([("outcome", outcome)]));
        Ok(Self {
            issuer,
            clock,
            bundle: Current::new(bundle),
            server: Current::new(server),
            renew: Mutex::new(renew),
            issued: count("issued"),
            refused: count("refused"),
        })
    }

    /// Whom the mesh believes.
    pub fn bundle(&self) -> &Current<TrustBundle> {
        &self.bundle
    }

    /// The control plane's own certificate.
    pub fn server(&self) -> &Current<CertifiedIdentity> {
        &self.server
    }

    /// When the root ends.
    pub fn root_expires(&self) -> SystemTime {
        self.issuer.root().not_after()
    }

    /// Signs for a caller that was found to be `caller`.
    ///
    /// # Errors
    /// When the request asks for somebody else, or for what is never given.
    pub fn sign(&self, request: &str, caller: &Identity, validity: Duration) -> Result<Issued, SignError> {
        let signed = self.try_sign(request, caller, validity);
        match &signed {
            Ok(_) => self.issued.add(1),
            Err(_) => self.refused.add(1),
        }
        signed
    }

    fn try_sign(&self, request: &str, caller: &Identity, validity: Duration) -> Result<Issued, SignError> {
        if !self.bundle.get().is_own(&caller.trust_domain) {
            return Err(SignError::Foreign(caller.clone()));
        }
        let request = Request::parse(request)?;
        Ok(self.issuer.issue(&request, caller, validity, self.clock.wall())?)
    }

    /// Follows the mesh's settings and the clock: call at each change of the mesh and every minute.
    ///
    /// # Errors
    /// When the control plane's own certificate cannot be replaced; the old one stays in use.
    pub fn tend(&self, mesh: &MeshSettings) -> Result<(), Error> {
        let identity = control_identity(mesh);
        let now = self.clock.wall();
        let mut renew = self.renew.lock().unwrap_or_else(PoisonError::into_inner);
        if *self.server.get().identity() == identity && now < *renew {
            return Ok(());
        }
        let server = certify(&self.issuer, &identity, now)?;
        *renew = renew_at(&server);
        if *self.bundle.get().own() != mesh.trust_domain {
            tracing::warn!(trust_domain = %mesh.trust_domain, "the trust domain changed, proxies have to start again");
            self.bundle.set(self.issuer.root().bundle(mesh.trust_domain.clone()));
        }
        tracing::info!(%identity, "the control plane has a new certificate");
        self.server.set(server);
        Ok(())
    }

    /// Certificates signed since the start.
    pub fn issued(&self) -> u64 {
        self.issued.value()
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("bundle", &self.bundle).finish_non_exhaustive()
    }
}

fn renew_at(server: &CertifiedIdentity) -> SystemTime {
    rotation::renew_at(server.not_before(), server.not_after(), random::next_u64())
}

fn certify(issuer: &Issuer, identity: &Identity, now: SystemTime) -> Result<CertifiedIdentity, Error> {
    let key = PrivateKey::generate();
    let request = Request::parse(&csr::make(&key, identity)).map_err(SignError::from)?;
    let issued = issuer.issue(&request, identity, VALIDITY, now).map_err(SignError::from)?;
    Ok(CertifiedIdentity::new(issued.chain, key)?)
}

/// Opens the authority over a state directory.
///
/// # Errors
/// As [`load_root`] and [`Authority::new`].
pub fn open(
    store: &Arc<Store>,
    mesh: &MeshSettings,
    clock: Clock,
    metrics: &Registry,
) -> Result<Authority, Error> {
    let root = load_root(store, &mesh.trust_domain, clock.wall())?;
    Authority::new(root, mesh, clock, metrics)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_model::{ServiceAccount, TrustDomain};
    use lateen_pki::verify::{Usage, verify};

    fn authority(directory: &tempfile::TempDir, clock: Clock) -> Authority {
        let store = Arc::new(Store::open(directory.path()).expect("open"));
        open(&store, &MeshSettings::default(), clock, &Registry::new()).expect("an authority")
    }

    fn identity(text: &str) -> Identity {
        Identity::parse(text).expect("an identity")
    }

    #[tokio::test]
    async fn the_root_outlives_a_restart_and_certificates_chain_to_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let now = SystemTime::now();
        let first = authority(&directory, Clock::starting_at(now));
        let roots = first.bundle().get().to_pem();
        drop(first);
        let second = authority(&directory, Clock::starting_at(now));
        assert_eq!(second.bundle().get().to_pem(), roots);
        let cart = identity("spiffe://cluster.local/ns/shop/sa/cart");
        let request = csr::make(&PrivateKey::generate(), &cart);
        let issued = second.sign(&request, &cart, Duration::MAX).expect("signed");
        assert_eq!(verify(&issued.chain, Usage::Client, &second.bundle().get(), now), Ok(cart));
        assert!(issued.not_after <= now + VALIDITY + Duration::from_secs(60));
        assert_eq!(second.issued(), 1);
    }

    #[tokio::test]
    async fn nobody_gets_the_name_of_another() {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = authority(&directory, Clock::starting_at(SystemTime::now()));
        let (cart, bank) = (
            identity("spiffe://cluster.local/ns/shop/sa/cart"),
            identity("spiffe://cluster.local/ns/shop/sa/bank"),
        );
        let request = csr::make(&PrivateKey::generate(), &bank);
        let refused = authority.sign(&request, &cart, VALIDITY);
        assert!(matches!(refused, Err(SignError::Issue(IssueError::OtherIdentity { .. }))));
        let foreign = identity("spiffe://elsewhere/ns/shop/sa/cart");
        let request = csr::make(&PrivateKey::generate(), &foreign);
        assert!(matches!(authority.sign(&request, &foreign, VALIDITY), Err(SignError::Foreign(_))));
        assert!(matches!(authority.sign("nonsense", &cart, VALIDITY), Err(SignError::Request(_))));
        assert_eq!(authority.issued(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_own_certificate_is_replaced_in_time_and_follows_the_mesh() {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = authority(&directory, Clock::starting_at(SystemTime::now()));
        let mut mesh = MeshSettings::default();
        let serial = || authority.server().get().serial().to_owned();
        let first = serial();
        authority.tend(&mesh).expect("nothing to do");
        assert_eq!(serial(), first);
        tokio::time::advance(VALIDITY.mul_f64(0.56)).await;
        authority.tend(&mesh).expect("renewed");
        let second = serial();
        assert_ne!(second, first);
        mesh.trust_domain = TrustDomain::parse("shop.example").expect("a trust domain");
        authority.tend(&mesh).expect("renamed");
        let server = authority.server().get();
        assert_eq!(
            server.identity().service_account,
            ServiceAccount::parse("lateen-control").expect("a name")
        );
        assert_eq!(server.identity().trust_domain, mesh.trust_domain);
        assert!(authority.bundle().get().is_own(&mesh.trust_domain));
    }
}
