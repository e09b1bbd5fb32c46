//! Requests of a shape, and a look at what a contender does to one.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use lateen_cli::load::{self, Plan};

use crate::contender::{Contender, Running};
use crate::drive::{Drive, Driven};
use crate::ours::objects::{HOST, HOST_HTTP2};
use crate::shape::{Caller, PATH, Shape};

/// An identity that nobody verified.
const FORGED: &str = "x-forwarded-client-cert: forged\r\n";

/// A gRPC message without content.
const CALL: &[u8] = &[0; 5];

/// Sees by the backend's own account that the proxy is what it should be.
pub(super) fn check(contender: Contender, running: &Running) -> anyhow::Result<()> {
    let name = contender.title();
    let answer = ask(running, "/head")?.to_ascii_lowercase();
    anyhow::ensure!(answer.starts_with("http/1.1 200"), "{name}: no answer:\n{answer}");
    for trace in contender.traces() {
        anyhow::ensure!(answer.contains(trace), "{name}: the backend should see {trace:?}:\n{answer}");
    }
    let believes = contender.removes_claims() && answer.contains("forged");
    anyhow::ensure!(!believes, "{name}: a forged identity reached the backend:\n{answer}");
    if let Some(path) = contender.denied_path() {
        let answer = ask(running, path)?;
        anyhow::ensure!(answer.starts_with("HTTP/1.1 403"), "{name}: {path} is not denied:\n{answer}");
    }
    Ok(())
}

/// One request on a connection of its own: all that is answered.
fn ask(running: &Running, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(running.http1)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{FORGED}connection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("read the answer")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A load that is run twice: to warm up, and to measure.
pub(super) enum Load {
    /// Bare epoll, for HTTP/1.1 as fast as answers come.
    Drive(Drive),
    /// The load generator of `lateen load`: constant rates, and HTTP/2.
    Plan(Plan),
}

impl Load {
    pub(super) fn new(shape: Shape, running: &Running) -> anyhow::Result<Self> {
        let address = if shape.is_http2_behind() { running.http2 } else { running.http1 };
        let host = if shape.is_http2_behind() { HOST_HTTP2 } else { HOST };
        if shape.caller() == Caller::Http1 && shape.rate().is_none() {
            let request = request(host);
            return Ok(Self::Drive(Drive::connect(address, shape.connections(), request)?));
        }
        Ok(Self::Plan(plan(shape, address, host)?))
    }

    pub(super) fn run(&mut self, duration: Duration) -> anyhow::Result<Driven> {
        match self {
            Self::Drive(drive) => drive.run(duration),
            Self::Plan(plan) => {
                let report = load::Load::start(Plan { duration, ..plan.clone() })?.finish();
                let (statuses, errors) = (&report.statuses, &report.errors);
                anyhow::ensure!(report.failures() == 0, "requests failed: {statuses:?} {errors:?}");
                Ok(Driven {
                    answers: report.answers,
                    seconds: report.seconds,
                    p50_micros: report.latency.p50,
                    p99_micros: report.latency.p99,
                })
            }
        }
    }
}

/// Headers beside the host, as a request between services has them.
const HEADERS: [(&str, &str); 5] = [
    ("user-agent", "lateen-bench"),
    ("accept", "*/*"),
    ("accept-encoding", "gzip"),
    ("end-user", "jason"),
    ("x-tenant", "nobody"),
];

/// A request in bytes.
pub(crate) fn request(host: &str) -> Vec<u8> {
    let headers = HEADERS.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
    format!("GET {PATH} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n").into_bytes()
}

fn plan(shape: Shape, address: SocketAddr, host: &'static str) -> anyhow::Result<Plan> {
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    let is_grpc = shape.caller() == Caller::Grpc;
    let grpc = grpc.into_iter().filter(|_| is_grpc);
    let headers = [("host", host)].into_iter().chain(HEADERS).chain(grpc);
    let headers =
        headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    Ok(Plan {
        rate: shape.rate(),
        connections: shape.connections(),
        threads: 1,
        method: if is_grpc { Method::POST } else { Method::GET },
        body: if is_grpc { CALL.into() } else { Vec::new().into() },
        headers: headers.collect(),
        http2_streams: shape.streams(),
        ..Plan::new(&format!("http://{address}{PATH}"))?
    })
}
