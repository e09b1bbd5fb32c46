//! Both services on one port, and who calls them.

use super::accept::{Origin, Peer};
use super::{Admission, Discovery};
use crate::certificates::{CertificateService, Sign};
use crate::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryServiceServer, SERVICE_NAME as DISCOVERY,
};
use crate::pb::istio::v1::auth::istio_certificate_service_server::{
    IstioCertificateServiceServer, SERVICE_NAME as CERTIFICATES,
};
use lateen_model::{Identity, Secret};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

/// The longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 8192;

/// Who calls, as the connection and the head of the call tell.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Caller {
    /// Who its certificate says it is; the handshake believed it.
    pub identity: Option<Identity>,
    /// When that certificate ends; a stream may outlive it.
    pub until: Option<SystemTime>,
    /// Where it calls from.
    pub origin: Origin,
    /// What it showed as `authorization: Bearer`; nobody has checked it.
    pub token: Option<Secret>,
}

impl Caller {
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Self {
        let peer = request.extensions().get::<Peer>();
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let token =
            header.and_then(|text| text.strip_prefix("Bearer ")).filter(|text| text.len() <= MAX_TOKEN);
        Self {
            identity: peer.and_then(|peer| peer.identity.clone()),
            until: peer.and_then(|peer| peer.until),
            origin: peer.map(|peer| peer.origin).unwrap_or_default(),
            token: token.map(Secret::new),
        }
    }
}

/// Discovery and certificates on one port.
pub struct Planes<A: Admission, S: Sign> {
    discovery: AggregatedDiscoveryServiceServer<Discovery<A>>,
    certificates: IstioCertificateServiceServer<CertificateService<S>>,
}

/// Puts both services on one port.
pub fn planes<A: Admission, S: Sign>(
    discovery: Discovery<A>,
    certificates: CertificateService<S>,
) -> Planes<A, S> {
    Planes { discovery: discovery.into_service(), certificates: certificates.into_service() }
}

impl<A: Admission, S: Sign> Clone for Planes<A, S> {
    fn clone(&self) -> Self {
        Self { discovery: self.discovery.clone(), certificates: self.certificates.clone() }
    }
}

impl<A: Admission, S: Sign> Service<http::Request<Body>> for Planes<A, S> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        if service == DISCOVERY {
            self.discovery.call(request)
        } else if service == CERTIFICATES {
            self.certificates.call(request)
        } else {
            Box::pin(async { Ok(Status::unimplemented("no such service").into_http()) })
        }
    }
}
