//! gRPC by hand over HTTP/2: the unary call `lateen.test.Echo/Echo` and `grpc.health.v1.Health/Check`.
//!
//! Framing and statuses follow
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::net::SocketAddr;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::request::Parts;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use prost::Message;

use super::Service;
use super::answer::{Answer, Caller, Received};
use super::http::{Body, json_line, make_calls, status};

/// The path of the echo call.
pub(super) const ECHO: &str = "/lateen.test.Echo/Echo";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// The largest message taken: gRPC's own default.
pub(super) const LARGEST: usize = 4 << 20;

pub(super) const CONTENT: HeaderValue = HeaderValue::from_static("application/grpc");
pub(super) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What `lateen.test.Echo/Echo` receives.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct EchoRequest {
    #[prost(string, tag = "1")]
    pub(super) message: String,
}

/// What it answers: the message, and the same JSON that HTTP gets.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct EchoResponse {
    #[prost(string, tag = "1")]
    pub(super) message: String,
    #[prost(string, tag = "2")]
    pub(super) answer: String,
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Eq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`; 1 is SERVING.
#[derive(Clone, PartialEq, Eq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// The statuses used here, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// A call that fails, with what it says.
struct Failure(Code, &'static str);

/// Whether a request is a gRPC call.
pub(super) fn is_call(request: &Request<Incoming>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    request.version() == Version::HTTP_2 && kind.starts_with(b"application/grpc")
}

pub(super) async fn handle(
    service: &Service,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    Ok(match answer(service, peer, request).await {
        Ok(message) => success(message),
        Err(Failure(code, why)) => failure(code, why),
    })
}

async fn answer(service: &Service, peer: SocketAddr, request: Request<Incoming>) -> Result<Bytes, Failure> {
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        return Err(Failure(Code::Unimplemented, "gRPC calls are POST requests"));
    }
    let body = Limited::new(body, LARGEST + 5).collect().await;
    let body =
        body.map_err(|_| Failure(Code::ResourceExhausted, "the message is cut or larger than 4 MiB"))?;
    let body = body.to_bytes();
    match head.uri.path() {
        ECHO => echo(service, peer, &head, &body).await,
        HEALTH => health(&body),
        _ => Err(Failure(Code::Unimplemented, "only lateen.test.Echo/Echo and health checks are served")),
    }
}

async fn echo(service: &Service, peer: SocketAddr, head: &Parts, body: &Bytes) -> Result<Bytes, Failure> {
    let request: EchoRequest = decode(body.clone())?;
    if !service.config.delay.is_zero() {
        tokio::time::sleep(service.config.delay).await;
    }
    let calls = make_calls(service, &head.headers).await;
    let status = status(service, service.config.status, &calls);
    if let Some(code) = Code::of_http(status) {
        return Err(Failure(code, "as asked by --status, --fail-percent or --need-calls"));
    }
    let received = Received { protocol: "gRPC".to_owned(), ..Received::new(head, body.len() as u64) };
    let answer = Answer::new(&service.config, received, Caller::new(peer, &head.headers), calls);
    let answer = String::from_utf8_lossy(&json_line(&answer)).into_owned();
    Ok(frame(&EchoResponse { message: request.message, answer }))
}

fn health(body: &Bytes) -> Result<Bytes, Failure> {
    let request: HealthCheckRequest = decode(body.clone())?;
    match request.service.as_str() {
        "" | "lateen.test.Echo" => Ok(frame(&HealthCheckResponse { status: 1 })),
        _ => Err(Failure(Code::NotFound, "no such service")),
    }
}

impl Code {
    /// What gRPC says where HTTP says `status`; `None` for success
    /// (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
    fn of_http(status: StatusCode) -> Option<Self> {
        Some(match status.as_u16() {
            200..=399 => return None,
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502..=504 => Code::Unavailable,
            _ => Code::Unknown,
        })
    }
}

/// One message: a flag for compression, four bytes of length, the message.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(length + 5);
    framed.put_u8(0);
    framed.put_u32(u32::try_from(length).expect("messages here are far below 4 GiB"));
    message.encode(&mut framed).expect("the buffer grows");
    framed.freeze()
}

/// The one message of a unary call.
pub(super) fn unframe<M: Message + Default>(mut body: Bytes) -> Result<M, &'static str> {
    if body.len() < 5 {
        return Err("the message is cut");
    }
    if body.get_u8() != 0 {
        return Err("compressed messages are not read");
    }
    let length = body.get_u32() as usize;
    if body.len() != length {
        return Err("a unary call carries one message");
    }
    M::decode(body).map_err(|_| "the message is malformed")
}

fn decode<M: Message + Default>(body: Bytes) -> Result<M, Failure> {
    unframe(body).map_err(|why| Failure(Code::InvalidArgument, why))
}

fn success(message: Bytes) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, HeaderValue::from_static("0"));
    let mut response = Response::new(Full::new(message).with_trailers(async { Some(Ok(trailers)) }).boxed());
    response.headers_mut().insert(CONTENT_TYPE, CONTENT);
    response
}

/// An answer of trailers only: they travel as headers.
fn failure(code: Code, why: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::default().boxed());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, CONTENT);
    headers.insert(STATUS, HeaderValue::from(code as u16));
    headers.insert(MESSAGE, HeaderValue::from_static(why));
    response
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_comes_back_from_its_frame() {
        let message = EchoRequest { message: "hello".to_owned() };
        assert_eq!(unframe::<EchoRequest>(frame(&message)), Ok(message));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_message_or_a_reason(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = unframe::<EchoRequest>(Bytes::from(bytes));
        }
    }
}
