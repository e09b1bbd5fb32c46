//! `Plane`: the control plane as this proxy reaches it: with the join token first, with its certificate from then on.

use std::sync::Arc;

use lateen_model::{Identity, Secret};
use lateen_pki::tls::{Accepted, Tls, WallClock};
use lateen_pki::{CertifiedIdentity, Current, InvalidBundle, TrustBundle};
use lateen_runtime::clock::Clock;
use lateen_runtime::sock::ConnectOptions;
use lateen_wire::{ControlPlane, Endpoint, InvalidToken};

use crate::config;
use crate::identity::Holding;

/// What gRPC is spoken over.
const ALPN: &[&[u8]] = &[b"h2"];

/// Where the control plane is and whom to expect there.
#[derive(Clone)]
pub struct Plane {
    endpoint: Endpoint,
    accepted: Accepted,
    token: Option<Secret>,
    bundle: TrustBundle,
    options: ConnectOptions,
    clock: Clock,
}

/// Why a control plane cannot be asked, as the bootstrap describes it.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPlane {
    /// Its roots cannot be read.
    #[error("read rootCertificates of the control plane")]
    Roots(#[from] InvalidBundle),
    /// Its identity is none.
    #[error("read identity of the control plane; expected spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT")]
    Identity(#[source] lateen_model::InvalidName),
    /// The token cannot be sent.
    #[error("read the token for the control plane")]
    Token(#[from] InvalidToken),
}

impl Plane {
    /// The control plane at `at`, which must prove to be `identity` by one of `roots` (PEM).
    ///
    /// # Errors
    /// When roots, identity or token cannot be used.
    pub fn new(
        at: &config::Endpoint,
        identity: &str,
        roots: &str,
        token: Option<String>,
        mark: Option<u32>,
        clock: Clock,
    ) -> Result<Self, InvalidPlane> {
        let identity = Identity::parse(identity).map_err(InvalidPlane::Identity)?;
        let endpoint = match at {
            config::Endpoint::Socket(path) => Endpoint::Socket(path.clone()),
            config::Endpoint::Address(address) => Endpoint::Address(*address),
        };
        let plane = Self {
            endpoint,
            bundle: TrustBundle::from_pem(identity.trust_domain.clone(), roots)?,
            accepted: Accepted::Identities(Arc::new([identity])),
            token: token.map(Secret::new),
            options: ConnectOptions { mark, ..ConnectOptions::default() },
            clock,
        };
        plane.by_token()?;
        Ok(plane)
    }

    /// For who has no certificate yet.
    ///
    /// # Errors
    /// When a header cannot hold the token.
    pub fn by_token(&self) -> Result<ControlPlane, InvalidToken> {
        let plane = self.reached(Current::new(self.bundle.clone()), None);
        match &self.token {
            Some(token) => plane.with_token(token),
            None => Ok(plane),
        }
    }

    /// For who shows the certificate that is in use.
    #[must_use]
    pub fn by_certificate(&self, held: &Holding) -> ControlPlane {
        self.reached(held.bundle.clone(), Some(&held.certified))
    }

    fn reached(
        &self,
        bundle: Current<TrustBundle>,
        certified: Option<&Current<CertifiedIdentity>>,
    ) -> ControlPlane {
        let clock = self.clock;
        let tls = Tls::new(bundle, WallClock::new(move || clock.wall()));
        ControlPlane::new(self.endpoint.clone(), tls.client(certified, self.accepted.clone(), ALPN))
            .with_options(self.options)
    }
}
