//! HTTP/2 by prior knowledge.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::{Answered, CALLER, PATIENCE, Response, Unanswered};
use crate::case::{Body, Case};

/// A connection for requests that the library is able to say.
pub struct Connection {
    runtime: Runtime,
    at: SocketAddr,
    sender: Option<h2::client::SendRequest<Bytes>>,
}

impl Connection {
    /// Not open yet.
    ///
    /// # Errors
    /// When the machine gives no event loop.
    pub fn new(at: SocketAddr) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, at, sender: None })
    }

    /// Sends a case and reads its answer.
    ///
    /// # Errors
    /// Why there is none.
    pub fn ask(&mut self, case: &Case) -> Answered {
        let (at, sender) = (self.at, &mut self.sender);
        let asked = self.runtime.block_on(async { timeout(PATIENCE, ask(at, sender, case)).await });
        match asked {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(Failed::Unsayable)) => Err(Unanswered::Garbled),
            Ok(Err(Failed::H2(error))) => {
                if !error.is_reset() {
                    self.sender = None;
                }
                Err(Unanswered::Closed)
            }
            Err(_) => {
                self.sender = None;
                Err(Unanswered::Silent)
            }
        }
    }
}

enum Failed {
    H2(h2::Error),
    Unsayable,
}

impl From<h2::Error> for Failed {
    fn from(error: h2::Error) -> Self {
        Failed::H2(error)
    }
}

async fn open(at: SocketAddr) -> Result<h2::client::SendRequest<Bytes>, Failed> {
    let socket = tokio::net::TcpSocket::new_v4().map_err(|_| Failed::Unsayable)?;
    socket.bind(CALLER).map_err(|_| Failed::Unsayable)?;
    let tcp = socket.connect(at).await.map_err(|_| Failed::Unsayable)?;
    let _ = tcp.set_nodelay(true);
    let (sender, connection) = h2::client::handshake(tcp).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn ask(
    at: SocketAddr,
    kept: &mut Option<h2::client::SendRequest<Bytes>>,
    case: &Case,
) -> Result<Response, Failed> {
    let sender = match kept.take() {
        Some(sender) => sender,
        None => open(at).await?,
    };
    let mut sender = match sender.ready().await {
        Ok(sender) => sender,
        Err(_) => open(at).await?.ready().await?,
    };
    let request = request(case).ok_or(Failed::Unsayable)?;
    let (pieces, trailers) = case.body.pieces();
    let bodiless = matches!(case.body, Body::None);
    let (response, mut stream) = sender.send_request(request, bodiless)?;
    *kept = Some(sender);
    if !bodiless {
        // A refusal may end the stream before the whole body was sent; its answer is read all the same.
        let _ = send(&mut stream, pieces, trailers);
    }
    read(response.await?).await
}

fn send(
    stream: &mut h2::SendStream<Bytes>,
    pieces: Vec<Vec<u8>>,
    trailers: &[(String, String)],
) -> Result<(), h2::Error> {
    let last = pieces.len();
    for (index, piece) in pieces.into_iter().enumerate() {
        stream.send_data(piece.into(), index + 1 == last && trailers.is_empty())?;
    }
    if trailers.is_empty() {
        return Ok(());
    }
    let mut map = HeaderMap::new();
    for (name, value) in trailers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            map.append(name, value);
        }
    }
    stream.send_trailers(map)
}

fn request(case: &Case) -> Option<Request<()>> {
    let uri = format!("http://{}{}", case.host, case.target);
    let mut request = Request::builder().version(http::Version::HTTP_2).method(case.method.as_str()).uri(uri);
    for (name, value) in case.fields() {
        let name = HeaderName::try_from(name.to_ascii_lowercase()).ok()?;
        request = request.header(name, HeaderValue::from_bytes(value.trim().as_bytes()).ok()?);
    }
    if let Body::Length(bytes) = &case.body {
        request = request.header("content-length", bytes.len());
    }
    request.body(()).ok()
}

async fn read(response: http::Response<h2::RecvStream>) -> Result<Response, Failed> {
    let (parts, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        let _ = stream.flow_control().release_capacity(data.len());
        body.extend_from_slice(&data);
    }
    let trailers = stream.trailers().await?.unwrap_or_default();
    let (fields, trailers) = (pairs(&parts.headers), pairs(&trailers));
    Ok(Response { status: parts.status.as_u16(), fields, body, trailers, persistent: true })
}

fn pairs(map: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    map.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}
