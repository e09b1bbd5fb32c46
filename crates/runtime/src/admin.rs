//! A small HTTP/1.1 server for probes, metrics and dumps: for operators and scrapers, never for traffic.
//!
//! Routes are a method, a path and an async function. Bodies, heads, waiting times and the number of connections are
//! bounded, so that the pages of a busy proxy cannot be used against it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

use crate::clock;
use crate::drain::Drain;
use crate::metrics::{Format, Registry};
use crate::ready::Ready;
use crate::stream::Stream;

/// The largest request body, in bytes.
pub const MAX_BODY: usize = 1 << 20;
const MAX_CONNECTIONS: usize = 64;
const HEAD_TIME: Duration = Duration::from_secs(10);
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// A request whose body has been read.
pub type AdminRequest = Request<Bytes>;
/// An answer with its whole body.
pub type AdminResponse = Response<Full<Bytes>>;

type Handler = Arc<dyn Fn(AdminRequest) -> Pin<Box<dyn Future<Output = AdminResponse> + Send>> + Send + Sync>;

/// The pages, built first and served later.
#[derive(Clone, Default)]
pub struct Admin {
    routes: BTreeMap<String, Vec<(Method, Handler)>>,
}

/// Where the pages are served.
#[derive(Debug)]
pub enum AdminListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Admin {
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers `method` on exactly `path` with `handler`; a later route of the same name replaces the earlier. A
    /// `GET` answers `HEAD` too.
    #[must_use]
    pub fn route<H, F>(mut self, method: Method, path: &str, handler: H) -> Self
    where
        H: Fn(AdminRequest) -> F + Send + Sync + 'static,
        F: Future<Output = AdminResponse> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        let methods = self.routes.entry(path.to_owned()).or_default();
        methods.retain(|(known, _)| *known != method);
        methods.push((method, handler));
        self
    }

    /// `GET /metrics`, in the format that the scraper asks for.
    #[must_use]
    pub fn with_metrics(self, registry: Registry) -> Self {
        self.route(Method::GET, "/metrics", move |request| {
            let accept = request.headers().get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
            let format = Format::accepted(accept.unwrap_or_default());
            let answer = respond(StatusCode::OK, format.content_type(), registry.render(format));
            async { answer }
        })
    }

    /// `GET /healthz/ready`: 200 when nothing is missing, else 503 with the names of what is.
    #[must_use]
    pub fn with_readiness(self, ready: Ready) -> Self {
        self.route(Method::GET, "/healthz/ready", move |_| {
            let missing = ready.missing();
            async move {
                if missing.is_empty() {
                    return text(StatusCode::OK, "ready\n");
                }
                text(StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}\n", missing.join(", ")))
            }
        })
    }

    /// Serves until the drain is forced: while draining
    /// the pages stay up, because that is when operators look.
    ///
    /// # Errors
    /// When the listener fails for good.
    pub async fn serve(self, listener: AdminListener, drain: Drain) -> io::Result<()> {
        let admin = Arc::new(self);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let place = Arc::clone(&places).acquire_owned().await.map_err(io::Error::other)?;
            let stream = tokio::select! {
                () = drain.forced() => return Ok(()),
                accepted = listener.accept() => match accepted {
                    Ok(stream) => stream,
                    Err(error) => {
                        // Out of descriptors, most likely: trying again at once would only spin.
                        tracing::warn!(%error, "admin page cannot accept");
                        clock::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
            };
            let (admin, drain) = (Arc::clone(&admin), drain.clone());
            tokio::spawn(async move {
                let _place = place;
                tokio::select! {
                    () = drain.forced() => {}
                    served = admin.connection(stream) => {
                        if let Err(error) = served {
                            tracing::debug!(%error, "admin connection ended");
                        }
                    }
                }
            });
        }
    }

    /// Serves one connection that was accepted elsewhere.
    ///
    /// # Errors
    /// When the peer breaks the protocol or the connection.
    pub async fn connection(self: Arc<Self>, stream: Stream) -> hyper::Result<()> {
        let service = hyper::service::service_fn(move |request| {
            let admin = Arc::clone(&self);
            async move { Ok::<_, Infallible>(admin.answer(request).await) }
        });
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .max_buf_size(64 << 10)
            // A client that says nothing more may still listen.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service)
            .await
    }

    async fn answer(&self, request: Request<Incoming>) -> AdminResponse {
        let Some(methods) = self.routes.get(request.uri().path()) else {
            return text(StatusCode::NOT_FOUND, self.directory());
        };
        let asked = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let Some((_, handler)) = methods.iter().find(|(method, _)| method == asked) else {
            return self.wrong_method(methods);
        };
        let handled = async {
            let (head, body) = request.into_parts();
            match Limited::new(body, MAX_BODY).collect().await {
                Ok(body) => handler(Request::from_parts(head, body.to_bytes())).await,
                Err(error) if error.is::<LengthLimitError>() => {
                    text(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {MAX_BODY} bytes\n"))
                }
                Err(_) => text(StatusCode::BAD_REQUEST, "the body ended early\n"),
            }
        };
        clock::timeout(ANSWER_TIME, handled)
            .await
            .unwrap_or_else(|_| text(StatusCode::GATEWAY_TIMEOUT, "the answer took too long\n"))
    }

    fn wrong_method(&self, methods: &[(Method, Handler)]) -> AdminResponse {
        let known: Vec<_> = methods.iter().map(|(method, _)| method.as_str()).collect();
        let known = known.join(", ");
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("only {known}\n"));
        if let Ok(known) = HeaderValue::try_from(known) {
            answer.headers_mut().insert(ALLOW, known);
        }
        answer
    }

    /// What there is, for who asked for what there is not.
    fn directory(&self) -> String {
        let mut names = String::from("there is:\n");
        for (path, methods) in &self.routes {
            for (method, _) in methods {
                names.push_str(&format!("  {method} {path}\n"));
            }
        }
        names
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.routes.keys()).finish()
    }
}

impl AdminListener {
    async fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(listener) => listener.accept().await?.0.into(),
            Self::Unix(listener) => listener.accept().await?.0.into(),
        })
    }
}

/// An answer of plain text.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> AdminResponse {
    respond(status, "text/plain; charset=utf-8", body)
}

/// An answer of JSON, already written.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> AdminResponse {
    respond(status, "application/json", body)
}

/// An answer of any type.
pub fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> AdminResponse {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn ask(admin: Admin, request: &str) -> String {
        let (mut near, far) = tokio::io::duplex(4 << 20);
        let served = tokio::spawn(Arc::new(admin).connection(far.into()));
        near.write_all(request.as_bytes()).await.expect("write");
        near.shutdown().await.expect("shut down");
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.expect("read");
        drop(served.await.expect("no panic"));
        answer
    }

    fn pages() -> Admin {
        let ready = Ready::new();
        std::mem::forget(ready.task("snapshot"));
        Admin::new().with_metrics(Registry::new()).with_readiness(ready).route(
            Method::POST,
            "/echo",
            |request| async move { text(StatusCode::OK, request.into_body()) },
        )
    }

    #[tokio::test]
    async fn routes_answer_by_path_and_method() {
        for (request, status, part) in [
            ("GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n", "200", "lateen_metrics_overflow_total 0"),
            ("GET /healthz/ready HTTP/1.1\r\nhost: a\r\n\r\n", "503", "waiting for: snapshot"),
            ("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello", "200", "\r\n\r\nhello"),
            ("GET /echo HTTP/1.1\r\nhost: a\r\n\r\n", "405", "allow: POST"),
            ("GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n", "404", "GET /metrics"),
            ("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 50\r\n\r\nhello", "400", "ended early"),
            ("this is not http\r\n\r\n", "400", ""),
        ] {
            let answer = ask(pages(), request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
            assert!(answer.contains(part), "{request}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_large_body_is_refused() {
        let body = "x".repeat(MAX_BODY + 1);
        let length = body.len();
        let request = format!("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}");
        assert!(ask(pages(), &request).await.starts_with("HTTP/1.1 413 "));
    }

    #[tokio::test]
    async fn it_serves_a_port_until_the_drain_is_forced() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let (drainer, drain) = drain::channel();
        let served = tokio::spawn(pages().serve(AdminListener::Tcp(listener), drain));
        let mut client = TcpStream::connect(address).await.expect("connect");
        client.write_all(b"HEAD /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("write");
        let mut begin = [0; 12];
        client.read_exact(&mut begin).await.expect("read");
        assert_eq!(&begin, b"HTTP/1.1 200");
        drainer.drain(Duration::ZERO).await;
        served.await.expect("no panic").expect("ends well");
    }
}
