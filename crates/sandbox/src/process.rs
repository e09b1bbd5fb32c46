//! A process in a pod as the supervisor sees it.

use tokio::sync::watch;

use crate::{Error, Exit, ProcessId, Sandbox, message::Ask};

/// A process that was started. Dropping the handle leaves it running.
#[derive(Clone)]
pub struct Process {
    sandbox: Sandbox,
    id: ProcessId,
    pid: i32,
    exit: watch::Receiver<Option<Exit>>,
}

impl Process {
    pub(crate) fn new(
        sandbox: Sandbox,
        id: ProcessId,
        pid: i32,
        exit: watch::Receiver<Option<Exit>>,
    ) -> Process {
        Process { sandbox, id, pid, exit }
    }

    /// The sandbox's own number for it, never used twice.
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Its number on the machine, for people; signals go through [`Process::signal`].
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits for its end. What it left in its group has then been killed as well.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(ended) => ended.unwrap_or(Exit::Signal(libc::SIGKILL)),
            // The sandbox is gone, and it took the process with it.
            Err(_) => self.exit().unwrap_or(Exit::Signal(libc::SIGKILL)),
        }
    }

    /// Sends a signal to it, or to its whole group. One that has ended is no error.
    pub async fn signal(&self, signal: i32, group: bool) -> Result<(), Error> {
        self.sandbox.0.ask(Ask::Signal { process: self.id, signal, group }, &[]).await.map(drop)
    }

    /// Asks its group to end, and after `grace` kills it. Returns how it ended.
    pub async fn stop(&self, grace: std::time::Duration) -> Result<Exit, Error> {
        self.signal(libc::SIGTERM, true).await?;
        match tokio::time::timeout(grace, self.wait()).await {
            Ok(exit) => Ok(exit),
            Err(_) => {
                self.signal(libc::SIGKILL, true).await?;
                Ok(self.wait().await)
            }
        }
    }
}
