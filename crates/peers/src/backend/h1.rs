//! HTTP/1.1, read in the one way that is allowed.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::answer::{ANSWER, Body, Received, Wanted};
use super::{App, Recording, lock};
use crate::strict::{self, Head};

/// The status of what could be read in two ways; no honest server has it.
const AMBIGUOUS: u16 = 599;

pub(super) async fn serve(app: App, tcp: TcpStream) {
    let recording = Recording::default();
    lock(&app.connections).push(recording.clone());
    let mut connection = Connection { tcp, buffer: Vec::new(), recording };
    while let Ok(true) = connection.exchange(&app.name).await {}
}

struct Connection {
    tcp: TcpStream,
    buffer: Vec<u8>,
    recording: Recording,
}

impl Connection {
    async fn more(&mut self) -> std::io::Result<bool> {
        let mut piece = [0; 4096];
        let read = self.tcp.read(&mut piece).await?;
        self.buffer.extend_from_slice(&piece[..read]);
        lock(&self.recording).extend_from_slice(&piece[..read]);
        Ok(read > 0)
    }

    /// One request and its answer. False: the connection is over.
    async fn exchange(&mut self, name: &str) -> std::io::Result<bool> {
        let head = loop {
            match strict::head(&self.buffer) {
                Ok(Some((head, length))) => {
                    self.buffer.drain(..length);
                    break head;
                }
                Ok(None) if self.more().await? => {}
                Ok(None) => return Ok(false),
                Err(why) => return self.refuse(&why).await,
            }
        };
        if head.field("expect").is_some() {
            self.tcp.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let body = loop {
            match strict::body(&head, &self.buffer) {
                Ok(Some((body, length))) => {
                    self.buffer.drain(..length);
                    break body;
                }
                Ok(None) if self.more().await? => {}
                Ok(None) => return Ok(false),
                Err(why) => return self.refuse(&why).await,
            }
        };
        let wanted = head.field(ANSWER).map(String::from_utf8_lossy).unwrap_or_default();
        let wanted = Wanted::parse(&wanted);
        if wanted.delay > 0 {
            tokio::time::sleep(Duration::from_millis(wanted.delay)).await;
        }
        if wanted.reset {
            return Ok(false);
        }
        let received = Received {
            protocol: "HTTP/1.1",
            method: &head.method,
            target: &head.target,
            authority: head.field("host").unwrap_or_default(),
            fields: head
                .fields
                .iter()
                .filter(|(name, _)| !name.eq_ignore_ascii_case("host"))
                .cloned()
                .collect(),
            body: &body.bytes,
            trailers: body.trailers.clone(),
        };
        let answer = write(&head, &wanted, &received.describe(name));
        self.tcp.write_all(&answer).await?;
        Ok(wanted.body != Body::Close)
    }

    async fn refuse(&mut self, why: &str) -> std::io::Result<bool> {
        let length = why.len();
        let answer = format!("HTTP/1.1 {AMBIGUOUS} Ambiguous\r\ncontent-length: {length}\r\n\r\n{why}");
        self.tcp.write_all(answer.as_bytes()).await?;
        Ok(false)
    }
}

fn write(head: &Head, wanted: &Wanted, body: &[u8]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 {} Answered\r\ncontent-type: application/json\r\n", wanted.status);
    for (name, value) in &wanted.headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    match wanted.body {
        Body::Length => out.push_str(&format!("content-length: {}\r\n", body.len())),
        Body::Chunked => out.push_str("transfer-encoding: chunked\r\n"),
        Body::Close => out.push_str("connection: close\r\n"),
        Body::None => {}
    }
    out.push_str("\r\n");
    let mut out = out.into_bytes();
    if head.method == "HEAD" || wanted.body == Body::None {
        return out;
    }
    if wanted.body != Body::Chunked {
        out.extend_from_slice(body);
        return out;
    }
    for piece in body.chunks(100) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n");
    for (name, value) in &wanted.trailers {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}
