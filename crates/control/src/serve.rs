//! What is served, and to whom: resources and certificates to proxies, one port for both; the API to the owner.

pub(crate) mod api;
mod callers;
mod certificates;
pub(crate) mod listen;
pub(crate) mod owners;
mod xds;

use std::sync::Arc;
use std::time::Duration;

use lateen_wire::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;
use lateen_wire::pb::istio::v1::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use lateen_wire::session::MESSAGE_BYTES;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

use crate::authority::Authority;
use crate::control::Control;
use certificates::Certificates;
use listen::{Door, Listener};
use xds::Xds;

/// A connection that says nothing is asked so often whether it lives, and has so long to say yes.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// A proxy needs one stream for resources and now and then one for a certificate.
const MOST_STREAMS: u32 = 16;
const MOST_HEADERS: u32 = 16 << 10;

/// Begins to serve proxies; ends with the drain, which waits for it.
pub(crate) fn proxies(control: &Arc<Control>, authority: &Arc<Authority>, listeners: Vec<Listener>) {
    let (door, connections) = Door::new(authority, control.clock, control.config.connections);
    for listener in listeners {
        tokio::spawn(Arc::clone(&door).accept(listener, control.drain.clone()));
    }
    let xds = AggregatedDiscoveryServiceServer::new(Xds { control: Arc::clone(control) })
        .max_decoding_message_size(MESSAGE_BYTES)
        .max_encoding_message_size(usize::MAX);
    let certificates = Certificates { control: Arc::clone(control), authority: Arc::clone(authority) };
    let certificates =
        IstioCertificateServiceServer::new(certificates).max_decoding_message_size(certificates::MOST_REQUEST);
    let (drain, holder) = (control.drain.clone(), control.drain.hold());
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .http2_max_header_list_size(MOST_HEADERS)
        .max_concurrent_streams(MOST_STREAMS)
        .add_service(xds)
        .add_service(certificates)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), async move { drain.begun().await });
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "serving proxies ended");
        }
        drop(holder);
    });
}
