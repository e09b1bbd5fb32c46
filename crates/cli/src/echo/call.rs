//! Calls to other services, made for each request received.

mod dial;

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use self::dial::Dial;
use super::answer::Called;
use super::grpc;

/// Counts services that call each other, to end a circle.
const DEPTH_HEADER: &str = "x-echo-depth";

/// What a service hands on to those it calls, beside every header that begins with `x-b3-`: the end
/// user, the request id and the trace, as an application in a mesh must.
const FORWARDED: [&str; 9] = [
    "end-user",
    "x-request-id",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-ot-span-context",
    "x-cloud-trace-context",
    "grpc-trace-bin",
];

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The largest answer that is put into ours.
const LARGEST: usize = 4 << 20;

/// What to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    Http(Uri),
    /// The unary call `lateen.test.Echo/Echo`.
    Grpc(Authority),
    /// One line, answered with one line.
    Tcp(Authority),
}

/// Why a text is not something to call.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` cannot be called; write http://HOST:PORT/PATH, grpc://HOST:PORT or tcp://HOST:PORT")]
pub struct InvalidCall(String);

impl FromStr for Call {
    type Err = InvalidCall;

    fn from_str(text: &str) -> Result<Self, InvalidCall> {
        let invalid = || InvalidCall(text.to_owned());
        let uri = text.parse::<Uri>().map_err(|_| invalid())?;
        let authority = uri.authority().ok_or_else(invalid)?;
        let with_port = authority.port_u16().map(|_| authority.clone());
        match uri.scheme_str() {
            Some("http") => Ok(Call::Http(uri)),
            Some("grpc") => with_port.map(Call::Grpc).ok_or_else(invalid),
            Some("tcp") => with_port.map(Call::Tcp).ok_or_else(invalid),
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Call::Http(uri) => uri.fmt(f),
            Call::Grpc(authority) => write!(f, "grpc://{authority}"),
            Call::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

/// The headers of a received request that its calls carry on, and the depth that they have reached.
pub(super) fn forwarded(received: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in received {
        if FORWARDED.contains(&name.as_str()) || name.as_str().starts_with("x-b3-") {
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert(HeaderName::from_static(DEPTH_HEADER), depth(received).saturating_add(1).into());
    headers
}

/// How many echo services a request has come through.
pub(super) fn depth(received: &HeaderMap) -> u32 {
    received.get(DEPTH_HEADER).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// Calls others over connections that it keeps.
#[derive(Clone)]
pub(super) struct Client {
    http: legacy::Client<Dial, Full<Bytes>>,
    grpc: legacy::Client<Dial, Full<Bytes>>,
}

/// What came back, as far as it came.
struct Reply {
    status: Option<StatusCode>,
    answer: serde_json::Value,
}

impl Client {
    /// A client that honours HTTP_PROXY and NO_PROXY for `http://`.
    pub(super) fn from_env() -> Self {
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new());
        let http = builder.build(Dial::from_env());
        let grpc = builder.http2_only(true).build(Dial::direct());
        Client { http, grpc }
    }

    /// Makes every call at the same time; the answers stand in the order of the calls.
    pub(super) async fn call_all(&self, calls: &[Call], headers: &HeaderMap) -> Vec<Called> {
        let tasks: Vec<_> = calls
            .iter()
            .map(|call| {
                let (client, call, headers) = (self.clone(), call.clone(), headers.clone());
                tokio::spawn(async move { client.call(&call, headers).await })
            })
            .collect();
        let mut answers = Vec::with_capacity(tasks.len());
        for (task, call) in tasks.into_iter().zip(calls) {
            answers.push(task.await.unwrap_or_else(|error| failed(call, error.to_string())));
        }
        answers
    }

    async fn call(&self, call: &Call, headers: HeaderMap) -> Called {
        let start = Instant::now();
        let reply = async {
            match call {
                Call::Http(uri) => self.call_http(uri, headers).await,
                Call::Grpc(authority) => self.call_grpc(authority, headers).await,
                Call::Tcp(authority) => call_tcp(authority).await,
            }
        };
        let reply = tokio::time::timeout(TIMEOUT, reply).await;
        let reply = reply.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {} s", TIMEOUT.as_secs())));
        let (reply, error) = match reply {
            Ok(reply) => (Some(reply), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Called {
            url: call.to_string(),
            milliseconds: start.elapsed().as_secs_f64() * 1e3,
            status: reply.as_ref().and_then(|reply| reply.status).map(|status| status.as_u16()),
            error,
            answer: reply.map(|reply| reply.answer),
        }
    }

    async fn call_http(&self, uri: &Uri, headers: HeaderMap) -> anyhow::Result<Reply> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        let response = self.http.request(request).await?;
        let status = Some(response.status());
        let body = read(response).await?.0;
        let text = || serde_json::Value::String(String::from_utf8_lossy(&body).into_owned());
        Ok(Reply { status, answer: serde_json::from_slice(&body).unwrap_or_else(|_| text()) })
    }

    async fn call_grpc(&self, authority: &Authority, headers: HeaderMap) -> anyhow::Result<Reply> {
        let message = grpc::EchoRequest { message: "echo".to_owned() };
        let mut request = Request::new(Full::new(grpc::frame(&message)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("http://{authority}{}", grpc::ECHO).parse()?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(CONTENT_TYPE, grpc::CONTENT);
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
        let response = self.grpc.request(request).await?;
        let (http_status, headers) = (response.status(), response.headers().clone());
        let (body, trailers) = read(response).await?;
        let said = |name: &HeaderName| {
            let value = trailers.get(name).or_else(|| headers.get(name));
            value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        match said(&grpc::STATUS).as_deref() {
            Some("0") => {
                let echo = grpc::unframe::<grpc::EchoResponse>(body).map_err(anyhow::Error::msg)?;
                Ok(Reply { status: Some(http_status), answer: serde_json::from_str(&echo.answer)? })
            }
            Some(status) => {
                anyhow::bail!("grpc-status {status}: {}", said(&grpc::MESSAGE).unwrap_or_default())
            }
            None => anyhow::bail!("HTTP {http_status} without grpc-status"),
        }
    }
}

async fn call_tcp(authority: &Authority) -> anyhow::Result<Reply> {
    let mut stream = TcpStream::connect(authority.as_str()).await?;
    stream.write_all(b"echo\n").await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.take(LARGEST as u64).read_to_end(&mut answer).await?;
    anyhow::ensure!(!answer.is_empty(), "closed without an answer");
    let text = || serde_json::Value::String(String::from_utf8_lossy(&answer).into_owned());
    Ok(Reply { status: None, answer: serde_json::from_slice(&answer).unwrap_or_else(|_| text()) })
}

async fn read(response: Response<Incoming>) -> anyhow::Result<(Bytes, HeaderMap)> {
    let body = Limited::new(response.into_body(), LARGEST).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("read the answer: {error}"))?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    Ok((body.to_bytes(), trailers))
}

/// A call that came to nothing.
pub(super) fn failed(call: &Call, error: impl Into<String>) -> Called {
    Called { url: call.to_string(), milliseconds: 0.0, status: None, error: Some(error.into()), answer: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_written_as_it_was_read() {
        for text in ["http://reviews.default:9080/reviews/1", "grpc://ratings:9090", "tcp://db:7070"] {
            assert_eq!(text.parse::<Call>().map(|call| call.to_string()).ok().as_deref(), Some(text));
        }
        for text in ["reviews:9080", "/reviews", "https://reviews/", "grpc://ratings", "http://", ""] {
            assert!(text.parse::<Call>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_what_belongs_to_the_request_is_carried_on() {
        let mut received = HeaderMap::new();
        for name in ["end-user", "x-request-id", "x-b3-traceid", "traceparent", "cookie", "host"] {
            received.insert(HeaderName::from_static(name), HeaderValue::from_static("x"));
        }
        received.insert(DEPTH_HEADER, HeaderValue::from_static("2"));
        let carried = forwarded(&received);
        let mut names: Vec<&str> = carried.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["end-user", "traceparent", "x-b3-traceid", DEPTH_HEADER, "x-request-id"]);
        assert_eq!(carried[DEPTH_HEADER], "3");
    }
}
