//! Pings that find out that the other side of an HTTP/2 connection has vanished.

use std::pin::pin;

use bytes::Bytes;
use h2::client::Connection;
use h2::{Ping, PingPong};
use lateen_model::Http2Keepalive;
use lateen_runtime::clock;
use tokio::io::{AsyncRead, AsyncWrite};

/// Drives a connection to its end, or until a ping is not answered in time; its requests are told.
pub(crate) async fn drive<S: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Connection<S, Bytes>,
    pings: Option<Http2Keepalive>,
) {
    let pinger = pings.and_then(|pings| Some((connection.ping_pong()?, pings)));
    let Some((pinger, pings)) = pinger else {
        let _ = connection.await;
        return;
    };
    let mut connection = pin!(connection);
    tokio::select! {
        _ = &mut connection => {}
        () = silence(pinger, pings) => tracing::debug!("HTTP/2 connection given up: a ping was not answered"),
    }
}

/// Ends when a ping was not answered.
async fn silence(mut pinger: PingPong, pings: Http2Keepalive) {
    loop {
        clock::sleep(pings.interval).await;
        if !matches!(clock::timeout(pings.timeout, pinger.ping(Ping::opaque())).await, Ok(Ok(_))) {
            return;
        }
    }
}
