//! A proxy that only speaks the protocol.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lateen_control::api::types::TokenRequest;
use lateen_model::{Identity, ProxyRole, Resource, Secret};
use lateen_pki::tls::{Accepted, Tls, WallClock};
use lateen_pki::{CertifiedIdentity, Current, TrustBundle};
use lateen_wire::certificates::{self, Obtained};
use lateen_wire::client::{Following, Update, follow};
use lateen_wire::session::Batch;
use lateen_wire::{Claim, ControlPlane, Endpoint};
use tokio::task::JoinHandle;

use crate::common::{DEADLINE, Home, eventually};

/// What a proxy is started with.
#[derive(Clone)]
pub(crate) struct Bootstrap {
    pub(crate) endpoint: Endpoint,
    pub(crate) identity: Identity,
    pub(crate) token: Secret,
    pub(crate) tls: Tls,
    pub(crate) control: Identity,
}

impl Bootstrap {
    /// A token and the roots, as the supervisor would fetch them.
    pub(crate) async fn fetch(home: &Home, identity: &str) -> Self {
        let request = TokenRequest { identity: identity.to_owned(), uid: None };
        let answer = eventually("a token", async || home.api().mint_token(&request).await.ok()).await;
        let identity = Identity::parse(identity).expect("an identity");
        let bundle = TrustBundle::from_pem(identity.trust_domain.clone(), &answer.roots).expect("roots");
        Self {
            endpoint: Endpoint::Socket(home.config().control_socket()),
            identity,
            token: Secret::new(answer.token),
            tls: Tls::new(Current::new(bundle), WallClock::new(SystemTime::now)),
            control: Identity::parse(&answer.control_identity).expect("an identity"),
        }
    }

    /// A control plane that is shown this certificate, or nothing.
    pub(crate) fn plane(&self, own: Option<&Current<CertifiedIdentity>>) -> ControlPlane {
        let accepted = Accepted::Identities(Arc::new([self.control.clone()]));
        ControlPlane::new(self.endpoint.clone(), self.tls.client(own, accepted, &[b"h2"]))
    }

    /// A control plane that is shown a token.
    pub(crate) fn plane_with(&self, token: &Secret) -> ControlPlane {
        self.plane(None).with_token(token).expect("a header")
    }

    pub(crate) async fn obtain(&self, plane: &ControlPlane) -> Result<Obtained, certificates::Error> {
        certificates::obtain(plane, &self.identity, Duration::from_secs(3600)).await
    }

    /// Obtains a certificate and follows with it.
    pub(crate) async fn join(&self, name: &str) -> Proxy {
        let obtained = self.obtain(&self.plane_with(&self.token)).await.expect("a certificate");
        let own = Current::new(obtained.certified);
        let plane = self.plane(Some(&own));
        Proxy::follow(plane, &self.claim(name))
    }

    pub(crate) fn claim(&self, name: &str) -> Claim {
        Claim {
            role: ProxyRole::Sidecar,
            address: None,
            name: name.into(),
            namespace: self.identity.namespace.clone(),
        }
    }
}

/// A proxy that follows.
pub(crate) struct Proxy {
    pub(crate) following: Following,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) fn follow(plane: ControlPlane, claim: &Claim) -> Self {
        let (following, task) = follow(move || plane.clone(), claim);
        Self { following, task: tokio::spawn(task) }
    }

    /// The next state, taken.
    pub(crate) async fn next(&mut self) -> Batch {
        let next = tokio::time::timeout(DEADLINE, self.following.updates.recv()).await;
        let Update { batch, applied } = next.expect("a state in time").expect("follows");
        applied.done();
        batch
    }

    /// Why it is not connected.
    pub(crate) async fn refusal(&mut self) -> String {
        let refused = self.following.link.wait_for(|link| link.error.is_some());
        let link = tokio::time::timeout(DEADLINE, refused).await.expect("in time").expect("follows");
        link.error.clone().unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The names of services in a batch.
pub(crate) fn services(batch: &Batch) -> Vec<String> {
    let service = |resource: &Resource| match resource {
        Resource::Service(service) => Some(service.hostname.to_string()),
        _ => None,
    };
    let mut names: Vec<_> = batch.delta.set.iter().filter_map(|entry| service(&entry.resource)).collect();
    names.sort();
    names
}
