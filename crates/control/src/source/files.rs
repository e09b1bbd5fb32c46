//! A directory of YAML and JSON: first everything, then differences.
//!
//! One thread waits for the kernel's events, looks at what they name, and tells the hub what is different by
//! content. A file that is open for writing is left alone until it is closed, so a truncated save is never read;
//! a file that is missing is called removed only after a moment, so that an editor that renames does not make its
//! objects flap; a file that cannot be read is a problem, not a removal. A slow look at everything stands behind
//! the events, for file systems that send none.

mod inotify;
#[cfg(test)]
mod tests;
mod tree;
mod walk;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};

use inotify::{Inotify, wait_for};
use tree::Tree;

/// What became of one file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FileChange {
    /// It has this text.
    Set {
        /// Its name relative to the directory, parts separated by `/`.
        file: Arc<str>,
        /// Its text.
        text: String,
    },
    /// It is there, and could not be read since this source began; told once.
    Hidden {
        /// Its name relative to the directory.
        file: Arc<str>,
    },
    /// It is gone.
    Removed {
        /// Its name relative to the directory.
        file: Arc<str>,
    },
}

/// Why a file (or, with an empty name, the directory) could not be read. What it said before still holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// Its name relative to the directory.
    pub file: String,
    /// What is wrong, with a hint.
    pub message: String,
}

/// What the source tells at once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// What is different.
    pub changes: Vec<FileChange>,
    /// All problems there are now, if that changed.
    pub problems: Option<Vec<Problem>>,
    /// Everything that was there at the start has been told.
    pub synced: bool,
}

/// How much is read, and how long is waited.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest file, in bytes.
    pub file_size: u64,
    /// Text read in one step, in bytes; more is told in several reports.
    pub step_size: usize,
    /// Most files.
    pub files: usize,
    /// Most directories one within another.
    pub depth: usize,
    /// A file must be missing so long to be gone.
    pub removal_grace: Duration,
    /// Between two looks at everything.
    pub rescan: Duration,
    /// Between two looks at everything where the machine gives no events.
    pub poll: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_size: 16 * 1024 * 1024,
            step_size: 64 * 1024 * 1024,
            files: 100_000,
            depth: 32,
            removal_grace: Duration::from_millis(30),
            rescan: Duration::from_secs(10),
            poll: Duration::from_millis(500),
        }
    }
}

/// The running source. It ends when this is dropped.
#[derive(Debug)]
pub struct Files {
    thread: Option<thread::JoinHandle<()>>,
    /// Its closing is the order to stop.
    stop: Option<OwnedFd>,
}

impl Files {
    /// Begins to follow the directory; `tell` is called on the source's own thread, and ends the source by
    /// answering false.
    ///
    /// # Errors
    /// When the machine gives no pipe or no thread.
    pub fn start(
        root: PathBuf,
        limits: Limits,
        tell: impl FnMut(Report) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (stopped, stop) = pipe_with(PipeFlags::CLOEXEC)?;
        let follow = Follow::new(root, limits, stopped);
        let thread = thread::Builder::new().name("files".into()).spawn(move || follow.run(tell))?;
        Ok(Self { thread: Some(thread), stop: Some(stop) })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was printed there.
            let _ = thread.join();
        }
    }
}

struct Follow {
    tree: Tree,
    inotify: Option<Inotify>,
    limits: Limits,
    stopped: OwnedFd,
    problems: Vec<Problem>,
    synced: bool,
    next_rescan: Instant,
}

impl Follow {
    fn new(root: PathBuf, limits: Limits, stopped: OwnedFd) -> Self {
        let inotify = Inotify::open();
        if let Err(error) = &inotify {
            tracing::warn!(%error, "no file events, polling; is fs.inotify.max_user_instances too low?");
        }
        let inotify = inotify.ok();
        Self {
            tree: Tree::new(root, limits.clone(), inotify.is_none()),
            inotify,
            stopped,
            problems: Vec::new(),
            synced: false,
            next_rescan: Instant::now() + limits.rescan.min(limits.poll),
            limits,
        }
    }

    fn run(mut self, mut tell: impl FnMut(Report) -> bool) {
        loop {
            let report = self.step(Instant::now());
            if report != Report::default() && !tell(report) {
                return;
            }
            if self.wait() {
                return;
            }
        }
    }

    /// Looks, hears what happened while looking, and tells what holds nevertheless.
    fn step(&mut self, now: Instant) -> Report {
        self.hear(now);
        let inotify = &mut self.inotify;
        let mut refused = None;
        let (candidates, places) = self.tree.look(now, |place| {
            if let Some(Err(error)) = inotify.as_mut().map(|inotify| inotify.add(place)) {
                refused.get_or_insert(error);
            }
        });
        if let (Some(inotify), Some(places)) = (inotify, &places)
            && let Err(error) = inotify.watch(places)
        {
            refused.get_or_insert(error);
        }
        if let Some(error) = refused {
            tracing::warn!(%error, "not every directory is watched; is fs.inotify.max_user_watches too low?");
        }
        self.hear(now);
        let changes = self.tree.commit(candidates);
        let synced = !self.synced && self.tree.is_rooted() && !self.tree.is_due();
        self.synced |= synced;
        Report { changes, problems: self.changed_problems(), synced }
    }

    fn hear(&mut self, now: Instant) {
        for hint in self.inotify.as_mut().map(Inotify::drain).unwrap_or_default() {
            self.tree.hear(hint, now);
        }
    }

    fn changed_problems(&mut self) -> Option<Vec<Problem>> {
        let problems = self.tree.problems();
        (problems != self.problems).then(|| self.problems.clone_from(&problems)).map(|()| problems)
    }

    /// Waits for the next thing to do; true when it is time to stop.
    fn wait(&mut self) -> bool {
        loop {
            let now = Instant::now();
            if now >= self.next_rescan {
                let every = if self.inotify.is_some() { self.limits.rescan } else { self.limits.poll };
                self.next_rescan = now + every;
                self.tree.rescan(now, self.limits.rescan);
            }
            let deadline = self.tree.deadline().map_or(self.next_rescan, |at| at.min(self.next_rescan));
            let patience = deadline.saturating_duration_since(now);
            match &self.inotify {
                Some(inotify) if !self.tree.is_due() => inotify.wait(&self.stopped, patience),
                Some(_) => {}
                // Who polls looks twice, but not at once.
                None if self.tree.is_due() => wait_for(None, &self.stopped, self.limits.removal_grace),
                None => wait_for(None, &self.stopped, patience),
            }
            if self.is_stopped() {
                return true;
            }
            self.hear(Instant::now());
            let overdue = self.tree.deadline().is_some_and(|at| Instant::now() >= at);
            if self.tree.is_due() || overdue {
                return false;
            }
        }
    }

    fn is_stopped(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut waits = [PollFd::new(&self.stopped, PollFlags::IN)];
        let ready = poll(&mut waits, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        ready.is_ok_and(|ready| ready > 0)
    }
}
