//! Requests at a steady rate whatever comes back, and what failed of them, one by one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::strict::find;

/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// So many connections carry the requests of HTTP/2.
const CONNECTIONS: usize = 4;

/// How requests are said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// HTTP/1.1; one in so many is a POST, the others GET; 0 is never.
    Http1 {
        /// One in so many.
        posts: usize,
    },
    /// HTTP/2.
    Http2,
    /// gRPC, unary.
    Grpc,
}

/// Requests of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How they are said.
    pub kind: Kind,
    /// Where to.
    pub at: SocketAddr,
    /// How many a second.
    pub rate: u32,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its path, by which the access log knows it.
    pub path: String,
    /// Its method.
    pub method: &'static str,
    /// What came back.
    pub why: String,
}

/// What became of all.
#[derive(Default, Debug)]
pub struct Tally {
    /// How many were sent.
    pub sent: usize,
    /// Those that failed.
    pub failed: Vec<Failure>,
    /// Every value of `x-edit` that answers had.
    pub edits: BTreeSet<String>,
}

/// Requests that are being sent.
pub struct Running {
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
    thread: JoinHandle<std::io::Result<Vec<Tally>>>,
}

#[derive(Default)]
struct Progress {
    sent: AtomicUsize,
    done: AtomicUsize,
}

/// Begins to send, on a thread of its own, until told to stop.
#[must_use]
pub fn start(plans: Vec<Plan>) -> Running {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let progress = Arc::new(Progress::default());
    let counted = Arc::clone(&progress);
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(async {
            let mut all = Vec::new();
            let running: Vec<_> = plans
                .into_iter()
                .map(|plan| tokio::spawn(run(plan, Arc::clone(&told), Arc::clone(&counted))))
                .collect();
            for plan in running {
                all.push(plan.await.unwrap_or_default());
            }
            all
        }))
    });
    Running { stop, progress, thread }
}

impl Running {
    /// Waits until as many requests are over as were sent by now: what is done to backends next does not meet, on a slow
    /// machine, requests that met the last.
    ///
    /// # Errors
    /// When they are not in time.
    pub fn settle(&self) -> anyhow::Result<()> {
        let sent = self.progress.sent.load(Ordering::Relaxed);
        crate::process::eventually("the requests under way end", || {
            (self.progress.done.load(Ordering::Relaxed) >= sent).then_some(())
        })
    }

    /// Stops, waits for what is under way, and tells what became of each plan.
    ///
    /// # Errors
    /// When it could not be sent at all.
    pub fn stop(self) -> anyhow::Result<Vec<Tally>> {
        self.stop.store(true, Ordering::Relaxed);
        let tallies = self.thread.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
        Ok(tallies)
    }
}

async fn run(plan: Plan, stop: Arc<AtomicBool>, progress: Arc<Progress>) -> Tally {
    let caller = Arc::new(Caller { plan, idle: Mutex::default(), senders: Mutex::default() });
    let mut tally = Tally::default();
    let mut ticks = interval(Duration::from_secs(1) / plan.rate);
    // The schedule does not wait for answers, nor is it stretched when the machine was late.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = JoinSet::new();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        tally.sent += 1;
        progress.sent.fetch_add(1, Ordering::Relaxed);
        let (caller, progress, number) = (Arc::clone(&caller), Arc::clone(&progress), tally.sent);
        under_way.spawn(async move {
            let called = caller.call(number).await;
            progress.done.fetch_add(1, Ordering::Relaxed);
            called
        });
        while let Some(done) = under_way.try_join_next() {
            tally.take(done);
        }
    }
    while let Some(done) = under_way.join_next().await {
        tally.take(done);
    }
    tally
}

impl Tally {
    fn take(&mut self, done: Result<Result<Option<String>, Failure>, tokio::task::JoinError>) {
        match done {
            Ok(Ok(edit)) => self.edits.extend(edit),
            Ok(Err(failure)) => self.failed.push(failure),
            Err(error) => {
                self.failed.push(Failure { path: String::new(), method: "", why: error.to_string() });
            }
        }
    }
}

/// A connection that is kept, and what was read from it beyond an answer.
type Kept = TcpStream;

struct Caller {
    plan: Plan,
    idle: Mutex<Vec<Kept>>,
    senders: Mutex<Vec<h2::client::SendRequest<Bytes>>>,
}

impl Caller {
    async fn call(&self, number: usize) -> Result<Option<String>, Failure> {
        let (method, path) = match self.plan.kind {
            Kind::Http1 { posts } if posts > 0 && number.is_multiple_of(posts) => {
                ("POST", format!("/post/{number}"))
            }
            Kind::Http1 { .. } => ("GET", format!("/get/{number}")),
            Kind::Http2 => ("GET", format!("/h2/{number}")),
            Kind::Grpc => ("POST", "/grpc.health.v1.Health/Check".to_owned()),
        };
        let called = async {
            match self.plan.kind {
                Kind::Http1 { .. } => self.http1(method, &path).await,
                Kind::Http2 => self.http2(method, &path, number, false).await,
                Kind::Grpc => self.http2(method, &path, number, true).await,
            }
        };
        let outcome = timeout(PATIENCE, called).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        outcome.map_err(|why| Failure { path, method, why })
    }

    async fn http1(&self, method: &str, path: &str) -> Result<Option<String>, String> {
        let kept = lock(&self.idle).pop();
        let mut tcp = match kept {
            Some(tcp) => tcp,
            None => TcpStream::connect(self.plan.at).await.map_err(|error| format!("connect: {error}"))?,
        };
        let body = if method == "POST" { "content-length: 5\r\n\r\nhello" } else { "\r\n" };
        let request = format!("{method} {path} HTTP/1.1\r\nhost: app\r\n{body}");
        tcp.write_all(request.as_bytes()).await.map_err(|error| format!("write: {error}"))?;
        let mut answer = Vec::new();
        let end = loop {
            let mut piece = vec![0; 4096];
            let read = tcp.read(&mut piece).await.map_err(|error| format!("read: {error}"))?;
            answer.extend_from_slice(&piece[..read]);
            if let Some(end) = end_of(&answer) {
                break end;
            }
            if read == 0 {
                return Err(format!("ended after {} bytes", answer.len()));
            }
        };
        let head = String::from_utf8_lossy(&answer[..end.0]).into_owned();
        if !head.starts_with("HTTP/1.1 200") || answer.len() != end.1 {
            return Err(String::from_utf8_lossy(&answer).into_owned());
        }
        lock(&self.idle).push(tcp);
        Ok(field(&head, "x-edit").map(str::to_owned))
    }

    async fn sender(&self, number: usize) -> Result<h2::client::SendRequest<Bytes>, String> {
        let kept = {
            let senders = lock(&self.senders);
            (senders.len() == CONNECTIONS).then(|| senders[number % CONNECTIONS].clone())
        };
        if let Some(sender) = kept {
            return Ok(sender);
        }
        let tcp = TcpStream::connect(self.plan.at).await.map_err(|error| format!("connect: {error}"))?;
        let (sender, connection) =
            // Room for answers that come faster than they are read: the library ends a connection over many small ones.
            h2::client::Builder::new()
                .initial_connection_window_size(16 << 20)
                .handshake(tcp)
                .await
                .map_err(|error| format!("begin: {error}"))?;
        tokio::spawn(connection);
        let mut senders = lock(&self.senders);
        if senders.len() < CONNECTIONS {
            senders.push(sender.clone());
        }
        Ok(sender)
    }

    async fn http2(
        &self,
        method: &str,
        path: &str,
        number: usize,
        grpc: bool,
    ) -> Result<Option<String>, String> {
        let sender = self.sender(number).await?;
        let mut sender = sender.ready().await.map_err(|error| format!("wait: {error}"))?;
        let mut request = Request::builder().method(method).uri(format!("http://app{path}"));
        if grpc {
            request = request.header("content-type", "application/grpc").header("te", "trailers");
        }
        let request = request.body(()).map_err(|error| error.to_string())?;
        let (response, mut stream) =
            sender.send_request(request, !grpc).map_err(|error| format!("send: {error}"))?;
        if grpc {
            // One message, empty.
            stream.send_data(Bytes::from_static(&[0; 5]), true).map_err(|error| format!("send: {error}"))?;
        }
        let (parts, mut body) = response.await.map_err(|error| format!("no answer: {error}"))?.into_parts();
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.map_err(|error| format!("body: {error}"))?;
            let _ = body.flow_control().release_capacity(data.len());
            bytes.extend_from_slice(&data);
        }
        let trailers = body.trailers().await.map_err(|error| format!("trailers: {error}"))?;
        let status = trailers.as_ref().unwrap_or(&parts.headers).get("grpc-status").cloned();
        let content = status.is_some_and(|status| status == "0");
        if parts.status != 200 || (grpc && !content) {
            let (status, headers) = (parts.status, parts.headers);
            return Err(format!("{status} {headers:?} {trailers:?} {}", bytes.escape_ascii()));
        }
        let edit = parts.headers.get("x-edit").and_then(|edit| edit.to_str().ok());
        Ok(edit.map(str::to_owned))
    }
}

/// Where the head ends and where the answer ends, once both are there.
fn end_of(answer: &[u8]) -> Option<(usize, usize)> {
    let head = find(answer, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&answer[..head]).into_owned();
    let length: usize = field(&text, "content-length")?.parse().ok()?;
    (answer.len() >= head + length).then_some((head, head + length))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
