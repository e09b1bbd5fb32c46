//! The door for `lateen run`: one more process in the mesh, for as long as its caller stays.
//!
//! A caller connects to a socket that only its owner may open, and says what shall run; its standard
//! descriptors come along. The process gets a pod as if the directory had named it, and a service when it has
//! ports. The caller hears of its start and its end, and asks for signals; when the caller goes, so does all.

mod guest;
mod message;
mod service;
mod wish;

pub(crate) use guest::Guest;
pub(crate) use message::{Answer, Ask, Join, Line};
pub(crate) use service::sweep;
pub(crate) use wish::check;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use lateen_control::api::types::Process;
use lateen_sandbox::Exit;
use nix::sys::signal::Signal;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::instance::{Facts, Life};
use super::pods::Pods;
use crate::output::WithHint as _;

/// How long a caller may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where callers come to, in the directory of the sockets.
pub(crate) fn socket(run: &Path) -> PathBuf {
    run.join("run.sock")
}

/// Connects to the door of a mesh.
///
/// # Errors
/// When nobody listens there.
pub(crate) fn knock(run: &Path) -> anyhow::Result<Line> {
    let path = socket(run);
    let connect = || -> io::Result<Line> {
        let knocking = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
        knocking.connect(&SockAddr::unix(&path)?)?;
        Line::new(knocking.into())
    };
    connect().with_context(|| format!("connect to {}", path.display()))
}

/// The open door.
pub(crate) struct Door(AsyncFd<OwnedFd>);

impl Door {
    /// Opens it in the directory of the sockets.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub(crate) fn open(run: &Path) -> anyhow::Result<Self> {
        let path = socket(run);
        let open = || -> io::Result<Self> {
            let door = Socket::new(Domain::UNIX, Type::SEQPACKET, None)?;
            door.bind(&SockAddr::unix(&path)?)?;
            // Nobody can have come before: nothing connects before the next line.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            door.listen(16)?;
            Ok(Self(lateen_runtime::sock::watch(door.into())?))
        };
        open().with_context(|| format!("listen on {}", path.display()))
    }

    /// Lets callers in until the mesh stops.
    pub(crate) async fn serve(self, pods: Arc<Pods>, stop: CancellationToken) {
        loop {
            let line = tokio::select! {
                line = self.accept() => line,
                () = stop.cancelled() => return,
            };
            match line {
                Ok(line) => drop(tokio::spawn(receive(line, Arc::clone(&pods), stop.clone()))),
                Err(error) => {
                    // Out of descriptors, most likely: trying again at once would only spin.
                    tracing::warn!(%error, "nobody can join");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn accept(&self) -> io::Result<Line> {
        use rustix::net::{SocketFlags, accept_with};
        let accept = |socket: &OwnedFd| Ok(accept_with(socket, SocketFlags::CLOEXEC)?);
        Line::new(self.0.async_io(Interest::READABLE, accept).await?)
    }
}

/// One caller, from its first word to its end.
async fn receive(line: Line, pods: Arc<Pods>, stop: CancellationToken) {
    // The mode of the socket says the same; the kernel's word does not depend on a file.
    match line.peer() {
        Ok(user) if user.is_root() || user == rustix::process::geteuid() => {}
        Ok(user) => return tracing::warn!(user = user.as_raw(), "another user may not join"),
        Err(_) => return,
    }
    let asked = tokio::time::timeout(PATIENCE, line.receive::<Ask>()).await;
    let (ask, stdio) = match asked {
        Ok(Ok(Some(asked))) => asked,
        Ok(Ok(None)) | Err(_) => return,
        Ok(Err(error)) => {
            let error = anyhow::Error::new(error).context("read what to run");
            let error = Err::<(), _>(error).hint("is `lateen` of the same version as the mesh?");
            return refuse(&line, error).await;
        }
    };
    let Ask::Join(join) = ask else { return };
    match admit(join, stdio, &pods, &stop) {
        Ok(visit) => visit.run(&line, &pods).await,
        Err(error) => refuse(&line, Err(error)).await,
    }
}

/// Tells a caller why it cannot join.
async fn refuse(line: &Line, why: anyhow::Result<()>) {
    if let Err(error) = why {
        // Who has gone does not need to know.
        let _ = line.send(&Answer::problem(&error), &[]).await;
    }
}

/// A caller that has joined.
struct Visit {
    pod: String,
    ended: CancellationToken,
    news: tokio::sync::mpsc::UnboundedReceiver<Answer>,
}

fn admit(
    join: Join,
    stdio: Vec<OwnedFd>,
    pods: &Arc<Pods>,
    stop: &CancellationToken,
) -> anyhow::Result<Visit> {
    anyhow::ensure!(!stop.is_cancelled(), "the mesh is stopping");
    anyhow::ensure!(stdio.len() == 3, "expected standard input, output and error, not {}", stdio.len());
    let process = wish::process(&join)?;
    let pod = format!("{}.{}", process.name, process.namespace);
    let (guest, news) = Guest::new(join.env, join.directory, stdio);
    let ended = pods.join(process, guest).hint("choose another one with --name or --namespace")?;
    Ok(Visit { pod, ended, news })
}

impl Visit {
    /// Carries news to the caller and signals to the process, until one of both is gone.
    async fn run(mut self, line: &Line, pods: &Pods) {
        loop {
            tokio::select! {
                answer = self.news.recv() => {
                    let answer = answer.unwrap_or_else(|| Answer::problem(&anyhow::anyhow!("the mesh ended")));
                    let is_last = !matches!(answer, Answer::Started { .. });
                    if is_last {
                        // First, so that the name is free when the caller comes again at once.
                        self.ended.cancel();
                    }
                    if line.send(&answer, &[]).await.is_err() || is_last {
                        break;
                    }
                }
                asked = line.receive::<Ask>() => match asked {
                    Ok(Some((Ask::Signal(signal), _))) => {
                        if let Some(answer) = self.signal(signal, pods).await {
                            let _ = line.send(&answer, &[]).await;
                            break;
                        }
                    }
                    // Gone, or not of our kind.
                    _ => break,
                },
            }
        }
        self.ended.cancel();
    }

    /// Signals the process; one that has not started yet never does, which is its end.
    async fn signal(&self, signal: i32, pods: &Pods) -> Option<Answer> {
        let signal = Signal::try_from(signal).ok()?;
        match pods.facts(&self.pod).and_then(|facts| facts.application()) {
            Some(application) => {
                // It may just have ended, of which the caller hears anyway.
                let _ = application.signal(signal as i32, true).await;
                None
            }
            None => Some(Answer::Exited(Exit::Signal(signal as i32))),
        }
    }
}

/// The life of a guest: its pod, and beside it its service.
pub(crate) async fn live(
    shared: &Arc<Shared>,
    pod: &str,
    process: &Process,
    guest: &Guest,
    facts: &Facts,
    stop: &CancellationToken,
) {
    let life = Life { shared, pod, process, guest: Some(guest), facts, stop };
    let serve = async {
        if let Err(error) = service::offer(shared, process).await {
            guest.fail(&error);
            stop.cancel();
        }
        // The pod's end is the end.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        lived = life.once() => if let Err(error) = lived {
            shared.events.problem(pod, &error);
            guest.fail(&error);
        },
        () = serve => {}
    }
    service::withdraw(shared, process).await;
}
