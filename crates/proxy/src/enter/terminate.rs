//! TLS that ends at a gateway: the server name that the client asks for chooses the listener's settings, before anything
//! is shown or believed.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use lateen_engine::ConnectionFacts;
use lateen_pki::tls::ListenerSettings;
use lateen_runtime::stream::Stream;
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;

use crate::fault::{Fault, Reason};
use crate::http::exchange::Entry;
use crate::tcp::forward;
use crate::worker::Worker;

/// Ends TLS and goes on with what is inside.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    tcp: TcpStream,
    settings: &ListenerSettings,
    facts: ConnectionFacts,
) {
    let client = facts.client;
    match worker.deadlines().within(worker.settings().head_time, shake(tcp, settings)).await {
        Ok(Ok(stream)) => {
            let sni = stream.server_name().map(Into::into);
            super::decide(worker, stream, ConnectionFacts { sni, tls: true, ..facts }).await;
        }
        Ok(Err(error)) => {
            let fault = Fault::downstream(Reason::TlsFailure, format!("TLS from {client}: {error}"));
            let entry = Entry::new(facts);
            forward::failed(&worker, &entry, &fault);
        }
        Err(_) => tracing::debug!(%client, "TLS handshake took too long"),
    }
}

async fn shake(tcp: TcpStream, settings: &ListenerSettings) -> io::Result<Stream> {
    let greeted = LazyConfigAcceptor::new(Acceptor::default(), Stream::from(tcp)).await?;
    let chosen = Arc::clone(settings.choose(greeted.client_hello().server_name()));
    Ok(greeted.into_stream(chosen).await?.into())
}
