//! Processes that end with the test, and the roles that the test binary itself takes as a process.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};

use anyhow::Context as _;
use lateen_proxy::app::App;
use lateen_proxy::config::Bootstrap;
use rustix::process::{Pid, Signal, kill_process};

/// `__lateen ARGUMENTS`: be `lateen`.
const LATEEN: &str = "__lateen";
/// `__proxy BOOTSTRAP TELL`: be a proxy that writes into the file TELL where it listens, once it serves.
const PROXY: &str = "__proxy";

/// Takes another role when the first argument says so.
#[must_use]
pub fn become_what_was_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let role = arguments.next()?;
    let rest: Vec<OsString> = arguments.collect();
    match role.to_str()? {
        LATEEN => {
            end_with_parent();
            Some(lateen_cli::main([OsString::from("lateen")].into_iter().chain(rest)))
        }
        PROXY => {
            end_with_parent();
            Some(match be_proxy(&rest) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    complain(&error);
                    ExitCode::FAILURE
                }
            })
        }
        _ => None,
    }
}

fn complain(error: &anyhow::Error) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "proxy: {error:#}");
}

/// The parent holds the other end of our standard input: its end is ours.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
}

fn be_proxy(arguments: &[OsString]) -> anyhow::Result<()> {
    let [bootstrap, tell] = arguments else { anyhow::bail!("wants BOOTSTRAP and TELL") };
    let bootstrap = Bootstrap::parse(&std::fs::read(bootstrap)?)?;
    let filter = std::env::var("LATEEN_LOG").unwrap_or_else(|_| "error".to_owned());
    let filter = lateen_runtime::log::init(lateen_runtime::log::Format::Text, &filter)?;
    let app = App::build(&bootstrap, Some(filter))?;
    let (ready, listening, opened) = (app.ready(), app.listening(), app.opened());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let announce = async {
        ready.wait().await;
        let bound: Vec<_> = listening.borrow().iter().chain(opened.borrow().iter()).cloned().collect();
        // Written whole or not at all: somebody waits for it.
        let written = Path::new(tell).with_extension("new");
        let text = serde_json::to_string(&bound).unwrap_or_default();
        let _ = std::fs::write(&written, text).and_then(|()| std::fs::rename(&written, tell));
        std::future::pending::<()>().await;
    };
    runtime.block_on(async {
        tokio::select! {
            ended = app.run() => ended,
            () = announce => Ok(()),
        }
    })?;
    runtime.shutdown_background();
    Ok(())
}

/// A process that is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    // Held until the end: waiting for the child would close it first, and then it would end for that.
    _stdin: Option<ChildStdin>,
}

/// This program as `lateen`.
///
/// # Errors
/// When it cannot find itself.
pub fn lateen() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(LATEEN).stdin(Stdio::piped());
    Ok(command)
}

/// This program as a proxy that logs into the file `log` and tells where it listens in `tell`.
///
/// # Errors
/// When it cannot find itself.
pub fn proxy(bootstrap: &Path, log: &Path, tell: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(PROXY).arg(bootstrap).arg(tell).stdin(Stdio::piped()).stdout(File::create(log)?);
    Ok(command)
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let stdin = child.stdin.take();
        Ok(Self { child, _stdin: stdin })
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal; a process that has gone needs none.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When the machine cannot tell.
    pub fn wait(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// Asks it to end as an operator would, and waits.
    ///
    /// # Errors
    /// When the machine cannot tell.
    pub fn end(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until there is an answer; `what` is said when there is none in time.
///
/// # Errors
/// When half a minute has gone by.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> anyhow::Result<T> {
    let begun = std::time::Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        anyhow::ensure!(begun.elapsed() < std::time::Duration::from_secs(30), "{what}: not in time");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
