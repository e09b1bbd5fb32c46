//! The application behind the proxies: as cheap as a server can be, and it counts what reaches it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What every request but `/head` is answered with.
const BODY: usize = 1024;

/// A server on a thread of its own.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl Backend {
    /// Answers at a free port of `host`, for as long as the process lives.
    pub(crate) fn start(host: [u8; 4]) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(SocketAddr::from((host, 0))))?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&requests);
        std::thread::Builder::new().name("backend".to_owned()).spawn(move || {
            runtime.block_on(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(serve(stream, Arc::clone(&counter)));
                }
            });
        })?;
        Ok(Backend { address, requests })
    }

    /// How many requests came so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

async fn serve(mut stream: TcpStream, requests: Arc<AtomicU64>) -> std::io::Result<()> {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ";
    let answer = format!("{head}{BODY}\r\n\r\n{}", "x".repeat(BODY)).into_bytes();
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        // The requests of this bench have no body and are not pipelined.
        if !buffer.ends_with(b"\r\n\r\n") {
            continue;
        }
        requests.fetch_add(1, Ordering::Relaxed);
        if buffer.starts_with(b"GET /head ") {
            // What arrived, so that a check can see what a proxy did to it; the connection ends there.
            let said = format!("{head}{}\r\nconnection: close\r\n\r\n", buffer.len()).into_bytes();
            return stream.write_all(&[said, buffer].concat()).await;
        }
        stream.write_all(&answer).await?;
        buffer.clear();
    }
}
