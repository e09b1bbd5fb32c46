//! The control plane as a child: started, watched, started again.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use lateen_control::api::ApiClient;
use lateen_sandbox::address::Ranges;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Notify;

use super::{Event, Events, Home, LOG_FILTER, Options, QUIET};

/// The longest a control plane may take until it answers.
const START: Duration = Duration::from_secs(30);

/// A control plane that is started again whenever it ends.
pub struct ControlProcess {
    pid: AtomicU32,
    stopping: Notify,
    stopped: Notify,
}

impl ControlProcess {
    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// When it does not start, ends at once, or does not answer in time; its own words are on standard error.
    pub(crate) async fn start(
        home: &Home,
        options: &Options,
        ranges: Ranges,
        events: Events,
    ) -> anyhow::Result<Arc<Self>> {
        let mut command = command(home, options, ranges);
        let (mut child, input) = spawn(&mut command).context("start the control plane")?;
        let api = ApiClient::new(home.run().join("api.sock"));
        tokio::select! {
            ready = tokio::time::timeout(START, ready(&api)) => ready.context("wait for the control plane")?,
            exit = child.wait() => anyhow::bail!("the control plane ended at its start: {}", exit?),
        }
        let control = Arc::new(Self {
            pid: AtomicU32::new(child.id().unwrap_or_default()),
            stopping: Notify::new(),
            stopped: Notify::new(),
        });
        tokio::spawn(Arc::clone(&control).watch(command, child, input, events));
        Ok(control)
    }

    /// Its process on the machine; another one after each restart.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Ends it and waits for its end.
    pub(crate) async fn stop(&self) {
        self.stopping.notify_one();
        self.stopped.notified().await;
    }

    async fn watch(
        self: Arc<Self>,
        mut command: Command,
        mut child: Child,
        mut input: Option<ChildStdin>,
        events: Events,
    ) {
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                _ = child.wait() => {}
                () = self.stopping.notified() => break,
            }
            events.tell(Event::ControlEnded);
            tokio::time::sleep(wait).await;
            wait = (wait * 2).clamp(Duration::from_millis(100), Duration::from_secs(5));
            match spawn(&mut command) {
                Ok(next) => (child, input) = next,
                Err(error) => events.problem("control", &anyhow::Error::new(error).context("start it again")),
            }
            self.pid.store(child.id().unwrap_or_default(), Ordering::Relaxed);
        }
        // It ends when its standard input does.
        drop(input);
        if tokio::time::timeout(super::GRACE, child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
        self.stopped.notify_one();
    }
}

/// Starts it. Its standard input is held apart, since waiting for a child closes what it holds itself.
fn spawn(command: &mut Command) -> std::io::Result<(Child, Option<ChildStdin>)> {
    let mut child = command.spawn()?;
    let input = child.stdin.take();
    Ok((child, input))
}

fn command(home: &Home, options: &Options, ranges: Ranges) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("control")
        .arg("--dir")
        .arg(&options.dir)
        .arg("--state")
        .arg(home.state())
        .arg("--run")
        .arg(home.run())
        .arg("--service-range")
        .arg(ranges.services.to_string())
        .arg("--service-range")
        .arg(ranges.services6.to_string())
        // It ends with us: its end of the pipe closes however we end.
        .arg("--end-with-input")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        // Ctrl-C is for us; we end it in our order.
        .process_group(0)
        .kill_on_drop(true);
    if std::env::var_os(LOG_FILTER).is_none() {
        command.env(LOG_FILTER, QUIET);
    }
    if options.allow_unenforced {
        command.arg("--allow-unenforced");
    }
    if !options.show_output {
        command.stderr(Stdio::null());
    }
    command
}

async fn ready(api: &ApiClient) {
    // There is nothing to wait on before the socket exists, so it is asked.
    while !api.status().await.is_ok_and(|status| status.ready) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
