//! TCP: each line received is answered with a line of JSON.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Service, listen};

/// Longer lines are answered in pieces of this size.
const LONGEST_LINE: u64 = 64 << 10;

/// Accepts until `stop`; then each connection ends after the line under way.
pub(super) async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    stop: CancellationToken,
    drain: Duration,
) {
    let connections = TaskTracker::new();
    while let Some((stream, peer)) = listen::accept(&listener, &stop).await {
        let (service, stop) = (Arc::clone(&service), stop.clone());
        connections.spawn(async move {
            if let Err(error) = converse(stream, peer, &service, &stop).await {
                tracing::debug!(%peer, %error, "connection");
            }
        });
    }
    drop(listener);
    connections.close();
    let _ = tokio::time::timeout(drain, connections.wait()).await;
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    service: &Service,
    stop: &CancellationToken,
) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut reader).take(LONGEST_LINE);
        tokio::select! {
            read = limited.read_until(b'\n', &mut line) => {
                if read? == 0 {
                    return writer.shutdown().await;
                }
            }
            () = stop.cancelled() => return writer.shutdown().await,
        }
        if !service.config.delay.is_zero() {
            tokio::time::sleep(service.config.delay).await;
        }
        // A failure of TCP is a connection that ends.
        if service.is_unlucky() {
            return Ok(());
        }
        writer.write_all(answer(service, peer, &line).as_bytes()).await?;
    }
}

fn answer(service: &Service, peer: SocketAddr, line: &[u8]) -> String {
    let config = &service.config;
    let text = String::from_utf8_lossy(line);
    let answer = json!({
        "service": config.name,
        "version": config.version,
        "host": config.host,
        "protocol": "TCP",
        "caller": { "address": peer.to_string() },
        "received": text.trim_end_matches(['\r', '\n']),
        "bytes": line.len(),
    });
    answer.to_string() + "\n"
}
