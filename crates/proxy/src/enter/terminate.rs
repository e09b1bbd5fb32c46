//! TLS that ends at a gateway: the server name chooses the certificate, the listener's settings hold both.

use std::rc::Rc;
use std::sync::Arc;

use lateen_engine::ConnectionFacts;
use lateen_runtime::stream::Stream;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::worker::Worker;

/// Ends TLS and goes on with what is inside.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    tcp: TcpStream,
    settings: Arc<rustls::ServerConfig>,
    facts: ConnectionFacts,
) {
    let handshake = TlsAcceptor::from(settings).accept(Stream::from(tcp));
    let tls = match worker.deadlines().within(worker.settings().head_time, handshake).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            return tracing::debug!(client = %facts.client, %error, "TLS handshake failed");
        }
        Err(_) => return tracing::debug!(client = %facts.client, "TLS handshake took too long"),
    };
    let stream = Stream::from(tls);
    let sni = stream.server_name().map(Into::into);
    super::decide(worker, stream, ConnectionFacts { sni, tls: true, ..facts }).await;
}
