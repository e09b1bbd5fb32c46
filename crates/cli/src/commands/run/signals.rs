//! Signals to hand on to the process.

use std::io;

use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

/// What is handed on, and the last resorts when somebody insists.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hang_up: unix::Signal,
    quit: unix::Signal,
    user: [unix::Signal; 2],
    /// How often the end was asked for.
    asked: usize,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
            asked: 0,
        })
    }

    /// The next one for the process. Programs that do not end at Ctrl-C are asked more firmly each time.
    pub(super) async fn next(&mut self) -> Signal {
        let [first, second] = &mut self.user;
        tokio::select! {
            _ = self.interrupt.recv() => escalate(&mut self.asked, Signal::SIGINT),
            _ = self.terminate.recv() => escalate(&mut self.asked, Signal::SIGTERM),
            _ = self.hang_up.recv() => Signal::SIGHUP,
            _ = self.quit.recv() => Signal::SIGQUIT,
            _ = first.recv() => Signal::SIGUSR1,
            _ = second.recv() => Signal::SIGUSR2,
        }
    }
}

/// SIGINT first where that was meant, then SIGTERM, then SIGKILL.
fn escalate(asked: &mut usize, signal: Signal) -> Signal {
    let firmness = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL];
    let least = usize::from(signal == Signal::SIGTERM);
    let step = (*asked).max(least).min(2);
    *asked = step + 1;
    firmness[step]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_insists_is_heard() {
        use Signal::{SIGINT, SIGKILL, SIGTERM};
        let check = |given: &[Signal], sent: &[Signal]| {
            let mut asked = 0;
            let handed: Vec<_> = given.iter().map(|signal| escalate(&mut asked, *signal)).collect();
            assert_eq!(handed, sent, "{given:?}");
        };
        check(&[SIGINT, SIGINT, SIGINT, SIGINT], &[SIGINT, SIGTERM, SIGKILL, SIGKILL]);
        check(&[SIGTERM, SIGTERM], &[SIGTERM, SIGKILL]);
        check(&[SIGINT, SIGTERM, SIGINT], &[SIGINT, SIGTERM, SIGKILL]);
    }
}
