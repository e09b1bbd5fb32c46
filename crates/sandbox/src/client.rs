//! The supervisor's side of the holder: starts it, asks, and hears its news.

use std::{
    collections::HashMap,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ipnet::IpNet;
use lateen_capture::refused::Refused;
use lateen_runtime::sock::{send_message, seqpacket_pair, watch as watch_descriptor};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    Environment, Exit, Pod, PodSpec, ProcessId, channel, holder,
    message::{Answer, Ask, Request, Said},
};

/// The holder answers in milliseconds; this only turns a surprise into an error.
const PATIENCE: Duration = Duration::from_secs(20);
/// News of refused packets that nobody fetched yet.
const REFUSED_QUEUE: usize = 64;

/// Why the sandbox could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call failed inside the sandbox.
    #[error(transparent)]
    Call(#[from] lateen_capture::Error),
    /// This program could not be started again as the holder.
    #[error("start the holder from /proc/self/exe; may this user execute the program's file?")]
    Start(#[source] io::Error),
    /// The holder ended, and with it everything inside.
    #[error("the sandbox's holder has ended{0}")]
    Ended(String),
    /// No answer in time.
    #[error("the sandbox's holder does not answer; is the machine out of memory?")]
    Silent,
}

/// Something that happened in the sandbox and that nobody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedNews {
    /// The pod that sent it.
    pub pod: String,
    /// Some of the packets; the pod's counter has all.
    pub packets: Vec<Refused>,
}

/// A running sandbox. When the last handle (this, its pods, their processes) is dropped, the holder and all
/// that it started end; [`Sandbox::shut_down`] also waits for that.
#[derive(Clone)]
pub struct Sandbox(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    environment: Environment,
    holder: u32,
    warnings: Vec<String>,
    socket: Arc<AsyncFd<OwnedFd>>,
    shared: Arc<Shared>,
    reader: JoinHandle<()>,
    ended: watch::Receiver<bool>,
    numbers: AtomicU64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The reader holds the other handle of the socket, whose end is the holder's end.
        self.reader.abort();
    }
}

type Reply = (Result<Answer, lateen_capture::Error>, Option<OwnedFd>);

struct Shared {
    waiting: Mutex<HashMap<u64, oneshot::Sender<Reply>>>,
    processes: Mutex<HashMap<ProcessId, watch::Sender<Option<Exit>>>>,
    refused: mpsc::Sender<RefusedNews>,
}

impl Sandbox {
    /// Starts a holder in `environment` and gives its bridge `gateways`: the address, with the length of the
    /// pod network, that pods of each family use as their gateway. The returned receiver tells of refused
    /// packets; news that nobody fetches are dropped.
    ///
    /// The program must call [`holder::run_if_asked`] first of all in `main`.
    pub async fn start(
        environment: Environment,
        gateways: Vec<IpNet>,
    ) -> Result<(Sandbox, mpsc::Receiver<RefusedNews>), Error> {
        let (ours, theirs) = seqpacket_pair().map_err(Error::Start)?;
        let (holder, ended) = start_holder(environment, theirs).await?;
        let socket = Arc::new(watch_descriptor(ours).map_err(Error::Start)?);
        let (refused, news) = mpsc::channel(REFUSED_QUEUE);
        let shared = Arc::new(Shared { waiting: Mutex::default(), processes: Mutex::default(), refused });
        let warnings = match timeout(PATIENCE, hear(&socket)).await.map_err(|_| Error::Silent)? {
            Some((Said::Ready { warnings }, _)) => warnings,
            Some((Said::Broken(error), _)) => return Err(error.into()),
            _ => return Err(Error::Ended(String::from(" before it was ready"))),
        };
        let reader = tokio::spawn(read(Arc::clone(&socket), Arc::clone(&shared)));
        let numbers = AtomicU64::new(1);
        let sandbox = Sandbox(Arc::new(Inner {
            environment,
            holder,
            warnings,
            socket,
            shared,
            reader,
            ended,
            numbers,
        }));
        sandbox.0.ask(Ask::SetUp { addresses: gateways }, &[]).await?;
        Ok((sandbox, news))
    }

    /// How pods are made here.
    pub fn environment(&self) -> Environment {
        self.0.environment
    }

    /// The holder's process number on the machine.
    pub fn holder_pid(&self) -> u32 {
        self.0.holder
    }

    /// What the sandbox has to do without.
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Makes a pod: its namespaces, link, addresses and rules. Nothing runs in it yet.
    pub async fn make_pod(&self, spec: PodSpec) -> Result<Pod, Error> {
        let name = spec.name.clone();
        match self.0.ask(Ask::MakePod(spec), &[]).await? {
            (Answer::Pod { warnings }, _) => Ok(Pod::new(self.clone(), name, warnings)),
            _ => Err(unexpected()),
        }
    }

    /// Ends everything inside, without asking it, and waits until the holder is gone.
    pub async fn shut_down(&self) -> Result<(), Error> {
        // A holder that is gone already is what we want.
        let _ = self.0.ask(Ask::Shutdown, &[]).await;
        self.ended().await
    }

    /// Waits until the holder is gone, for whatever reason; then nothing of the sandbox is left.
    pub async fn ended(&self) -> Result<(), Error> {
        let mut ended = self.0.ended.clone();
        let waited = timeout(PATIENCE, ended.wait_for(|ended| *ended)).await;
        waited.map(drop).map_err(|_| Error::Silent)
    }

    /// Waits, however long, until the holder is gone.
    pub async fn watch_end(&self) {
        let _ = self.0.ended.clone().wait_for(|ended| *ended).await;
    }
}

impl Inner {
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Announces a process, so that its end cannot come before somebody listens.
    pub(crate) fn expect_process(&self) -> (ProcessId, watch::Receiver<Option<Exit>>) {
        let (sender, receiver) = watch::channel(None);
        let process = ProcessId(self.number());
        lock(&self.shared.processes).insert(process, sender);
        (process, receiver)
    }

    pub(crate) fn forget_process(&self, process: ProcessId) {
        lock(&self.shared.processes).remove(&process);
    }

    pub(crate) async fn ask(
        &self,
        ask: Ask,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Answer, Option<OwnedFd>), Error> {
        let id = self.number();
        let bytes = serde_json::to_vec(&Request { id, ask }).expect("messages of ours are plain data");
        if bytes.len() > channel::LONGEST {
            let call = format!("send {} bytes to the holder; are the arguments too long?", bytes.len());
            return Err(lateen_capture::Error::new(call, libc::E2BIG).into());
        }
        let (sender, receiver) = oneshot::channel();
        lock(&self.shared.waiting).insert(id, sender);
        let send =
            self.socket.async_io(Interest::WRITABLE, |socket| send_message(socket, &bytes, descriptors));
        if let Err(error) = send.await {
            lock(&self.shared.waiting).remove(&id);
            return Err(Error::Ended(format!(": {error}")));
        }
        match timeout(PATIENCE, receiver).await {
            Ok(Ok((answer, descriptor))) => Ok((answer?, descriptor)),
            Ok(Err(_)) => Err(Error::Ended(String::new())),
            Err(_) => Err(Error::Silent),
        }
    }
}

pub(crate) fn unexpected() -> Error {
    Error::Ended(String::from(": it answered something else"))
}

/// Starts this program again as the holder. The thread that forks waits for it until the end: the holder's
/// death signal is tied to that thread.
async fn start_holder(
    environment: Environment,
    socket: OwnedFd,
) -> Result<(u32, watch::Receiver<bool>), Error> {
    let (started, start) = oneshot::channel();
    let (end, ended) = watch::channel(false);
    let body = move || {
        let child = Command::new("/proc/self/exe")
            .arg(holder::ARGUMENT)
            .arg(environment.name())
            .arg(std::process::id().to_string())
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            .spawn();
        match child {
            Ok(mut child) => {
                let _ = started.send(Ok(child.id()));
                match child.wait() {
                    Ok(status) if !status.success() => {
                        tracing::debug!(code = status.code(), signal = status.signal(), "holder ended");
                    }
                    _ => {}
                }
            }
            Err(error) => drop(started.send(Err(error))),
        }
        let _ = end.send(true);
    };
    std::thread::Builder::new().name("holder".into()).spawn(body).map_err(Error::Start)?;
    match start.await {
        Ok(Ok(pid)) => Ok((pid, ended)),
        Ok(Err(error)) => Err(Error::Start(error)),
        Err(_) => Err(Error::Ended(String::from(" before it began"))),
    }
}

/// The next message, or nothing at the end.
async fn hear(socket: &AsyncFd<OwnedFd>) -> Option<(Said, Vec<OwnedFd>)> {
    let mut buffer = vec![0; channel::LONGEST];
    let heard = socket.async_io(Interest::READABLE, |socket| {
        let Some((bytes, descriptors)) = channel::receive(socket, &mut buffer)? else { return Ok(None) };
        let said = serde_json::from_slice(bytes).map_err(io::Error::other)?;
        Ok(Some((said, descriptors)))
    });
    match heard.await {
        Ok(heard) => heard,
        Err(error) => {
            tracing::debug!(%error, "the holder's socket failed");
            None
        }
    }
}

async fn read(socket: Arc<AsyncFd<OwnedFd>>, shared: Arc<Shared>) {
    while let Some((said, descriptors)) = hear(&socket).await {
        let answer = |id, result| {
            if let Some(waiting) = lock(&shared.waiting).remove(&id) {
                let _ = waiting.send((result, descriptors.into_iter().next()));
            }
        };
        match said {
            Said::Done { id, answer: done } => answer(id, Ok(done)),
            Said::Failed { id, error } => answer(id, Err(error)),
            Said::Exited { process, exit } => {
                if let Some(listener) = lock(&shared.processes).remove(&process) {
                    let _ = listener.send(Some(exit));
                }
            }
            Said::Refused { pod, packets } => drop(shared.refused.try_send(RefusedNews { pod, packets })),
            Said::Ready { .. } | Said::Broken(_) => tracing::debug!("the holder spoke out of turn"),
        }
    }
    // Whoever still waits learns it from the closed channels; a process without a holder is a killed one.
    lock(&shared.waiting).clear();
    for (_, listener) in lock(&shared.processes).drain() {
        let _ = listener.send(Some(Exit::Signal(libc::SIGKILL)));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Borrows what is to be handed over.
pub(crate) fn borrow(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}
