//! HTTP/1.1 and HTTP/2 on one socket.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Called, Caller, Received};
use super::call::{depth, failed, forwarded};
use super::{Service, grpc, listen};
use crate::args::parse_duration;

/// What is answered: bytes, and trailers for gRPC.
pub(super) type Body = BoxBody<Bytes, Infallible>;

/// How many services may call each other in a row before it is taken for a circle.
const DEEPEST: u32 = 16;

/// The largest body that `?size=` may ask for.
const LARGEST: usize = 16 << 20;

/// Accepts until `stop`; then tells each connection to end after what is under way.
pub(super) async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    stop: CancellationToken,
    drain: Duration,
) {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new());
    http.http2().timer(TokioTimer::new());
    let http = Arc::new(http);
    let graceful = GracefulShutdown::new();
    while let Some((stream, peer)) = listen::accept(&listener, &stop).await {
        let (http, service, watcher) = (Arc::clone(&http), Arc::clone(&service), graceful.watcher());
        tokio::spawn(async move {
            let handler = service_fn(move |request| handle(Arc::clone(&service), peer, request));
            let connection = http.serve_connection(TokioIo::new(stream), handler);
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%peer, error, "connection");
            }
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(drain, graceful.shutdown()).await;
}

async fn handle(
    service: Arc<Service>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    if grpc::is_call(&request) {
        return grpc::handle(&service, peer, request).await;
    }
    let (head, body) = request.into_parts();
    let wish = match Wish::of(&head, &service) {
        Ok(wish) => wish,
        Err(problem) => return Ok(problem.into_response()),
    };
    let received = Received::new(&head, count(body).await?);
    if !wish.delay.is_zero() {
        tokio::time::sleep(wish.delay).await;
    }
    let calls = make_calls(&service, &head.headers).await;
    let status = status(&service, wish.status, &calls);
    let answer = Answer::new(&service.config, received, Caller::new(peer, &head.headers), calls);
    let (kind, body) = match wish.size {
        Some(size) => ("text/plain", Bytes::from(vec![b'x'; size])),
        None => ("application/json", json_line(&answer)),
    };
    let mut response = Response::new(Full::new(body).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}

/// Calls the other services, unless services seem to call each other in a circle.
pub(super) async fn make_calls(service: &Service, headers: &HeaderMap) -> Vec<Called> {
    let calls = &service.config.calls;
    if calls.is_empty() {
        return Vec::new();
    }
    if depth(headers) > DEEPEST {
        let circle = |call| failed(call, "not called: services call each other in a circle");
        return calls.iter().map(circle).collect();
    }
    service.client.call_all(calls, &forwarded(headers)).await
}

/// The status of this answer: as wished, unless chance or a failed call says otherwise.
pub(super) fn status(service: &Service, wished: StatusCode, calls: &[Called]) -> StatusCode {
    if service.is_unlucky() {
        let is_error = wished.is_client_error() || wished.is_server_error();
        return if is_error { wished } else { StatusCode::INTERNAL_SERVER_ERROR };
    }
    if service.config.need_calls && calls.iter().any(Called::is_failed) {
        return StatusCode::BAD_GATEWAY;
    }
    wished
}

pub(super) fn json_line(answer: &Answer) -> Bytes {
    let mut json = serde_json::to_vec(answer).expect("an answer holds nothing that JSON cannot say");
    json.push(b'\n');
    json.into()
}

/// Reads the body to its end, keeping only its size.
async fn count(mut body: Incoming) -> Result<u64, hyper::Error> {
    let mut size = 0;
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        size += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(size)
}

/// How one request wants to be answered.
struct Wish {
    status: StatusCode,
    delay: Duration,
    size: Option<usize>,
}

/// A request that the service does not answer in the ordinary way.
struct Refusal {
    status: StatusCode,
    why: String,
}

impl Wish {
    /// The service's own settings, changed by `?status=503&delay=100ms&size=1024`.
    fn of(head: &Parts, service: &Service) -> Result<Self, Refusal> {
        if head.method == Method::CONNECT {
            return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this service is not a proxy"));
        }
        let mut wish = Wish { status: service.config.status, delay: service.config.delay, size: None };
        for (name, value) in head.uri.query().unwrap_or_default().split('&').filter_map(|p| p.split_once('='))
        {
            wish.read(name, value).map_err(|why| Refusal::new(StatusCode::BAD_REQUEST, why))?;
        }
        Ok(wish)
    }

    fn read(&mut self, name: &str, value: &str) -> Result<(), String> {
        let invalid =
            || format!("`{name}={value}`: write ?status=200..599, ?delay=100ms, ?size=0..{LARGEST}");
        match name {
            "status" => {
                let code = value.parse().ok().filter(|code| (200..=599).contains(code));
                self.status = code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(invalid)?;
            }
            "delay" => self.delay = parse_duration(value).map_err(|_| invalid())?,
            "size" => {
                let size = value.parse().ok().filter(|size| *size <= LARGEST);
                self.size = Some(size.ok_or_else(invalid)?);
            }
            // A query of the application's own.
            _ => {}
        }
        Ok(())
    }
}

impl Refusal {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Refusal { status, why: why.into() }
    }

    fn into_response(self) -> Response<Body> {
        let body = serde_json::json!({ "error": self.why }).to_string() + "\n";
        let mut response = Response::new(Full::from(body).boxed());
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
