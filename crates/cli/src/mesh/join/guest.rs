//! A process that a `lateen run` brought: what it inherits from its caller, and who waits for its news.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use lateen_sandbox::Descriptors;
use tokio::sync::mpsc;

use super::message::Answer;

/// What differs from a process that the directory names.
pub(crate) struct Guest {
    /// The caller's environment, under what the mesh sets.
    pub(crate) env: Vec<(String, String)>,
    /// The caller's working directory.
    pub(crate) directory: PathBuf,
    /// The caller's standard input, output and error, until the process has them.
    stdio: Mutex<Vec<OwnedFd>>,
    news: mpsc::UnboundedSender<Answer>,
}

impl Guest {
    /// A guest with three descriptors, and its news.
    pub(crate) fn new(
        env: Vec<(String, String)>,
        directory: PathBuf,
        stdio: Vec<OwnedFd>,
    ) -> (Self, mpsc::UnboundedReceiver<Answer>) {
        let (news, listener) = mpsc::unbounded_channel();
        (Self { env, directory, stdio: Mutex::new(stdio), news }, listener)
    }

    /// Tells the caller, if it still listens.
    pub(crate) fn tell(&self, answer: Answer) {
        let _ = self.news.send(answer);
    }

    /// Tells the caller why it cannot join or stay.
    pub(crate) fn fail(&self, error: &anyhow::Error) {
        self.tell(Answer::problem(error));
    }

    /// The caller's descriptors, for the process. They are given once: their last owner has to be the process,
    /// so that whoever reads its output sees its end.
    pub(crate) fn descriptors(&self) -> Descriptors {
        let stdio = std::mem::take(&mut *self.stdio.lock().unwrap_or_else(PoisonError::into_inner));
        stdio
            .into_iter()
            .zip(0..)
            .fold(Descriptors::new(), |all, (descriptor, number)| all.with(number, descriptor))
    }
}
