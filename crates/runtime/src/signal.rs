//! Why the process should end: SIGTERM, SIGINT, or somebody asking through the admin pages, as one future.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

/// Who asked for the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Terminate,
    Interrupt,
    Admin,
}

/// Hears requests to end. Keep it: the first asks for a graceful end, a second one means at once.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    admin: Arc<Notify>,
}

/// Asks for the end from inside the process.
#[derive(Clone, Debug)]
pub struct EndTrigger(Arc<Notify>);

impl Signals {
    /// Starts listening; from here on SIGTERM and SIGINT no longer end the process by themselves.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn listen() -> io::Result<(Self, EndTrigger)> {
        let admin = Arc::new(Notify::new());
        let signals = Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            admin: Arc::clone(&admin),
        };
        Ok((signals, EndTrigger(admin)))
    }

    /// The next request to end.
    pub async fn next(&mut self) -> Ending {
        tokio::select! {
            _ = self.terminate.recv() => Ending::Terminate,
            _ = self.interrupt.recv() => Ending::Interrupt,
            () = self.admin.notified() => Ending::Admin,
        }
    }
}

impl EndTrigger {
    /// Asks once. A request that nobody waits for yet is kept.
    pub fn pull(&self) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_trigger_and_a_signal_both_end() {
        let (mut signals, trigger) = Signals::listen().expect("listen");
        trigger.pull();
        assert_eq!(signals.next().await, Ending::Admin);
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::TERM).expect("signal to ourselves");
        assert_eq!(signals.next().await, Ending::Terminate);
    }
}
