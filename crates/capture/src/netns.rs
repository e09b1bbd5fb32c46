//! Network namespaces: make one, enter one, open something inside one.
//!
//! A namespace belongs to a thread, so every call here changes the calling thread only, and [`Netns::inside`]
//! brings it back. Entering a namespace of another user namespace needs that user namespace first.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::sched::{CloneFlags, setns, unshare};

use crate::{During, Error};

const CURRENT: &str = "/proc/thread-self/ns/net";

/// A network namespace, kept alive by this descriptor.
#[derive(Debug)]
pub struct Netns(OwnedFd);

impl Netns {
    /// The namespace of the calling thread.
    pub fn current() -> Result<Netns, Error> {
        let file = File::open(CURRENT).during(format!("open({CURRENT})"))?;
        Ok(Netns(file.into()))
    }

    /// A new, empty namespace; the calling thread stays where it is. The first socket that a thread opens in
    /// it is up to the caller, see [`Netns::inside`].
    pub fn create() -> Result<Netns, Error> {
        let home = Netns::current()?;
        unshare(CloneFlags::CLONE_NEWNET).during("unshare(CLONE_NEWNET)")?;
        let made = Netns::current();
        home.enter()?;
        made
    }

    /// Moves the calling thread into this namespace for good.
    pub fn enter(&self) -> Result<(), Error> {
        setns(&self.0, CloneFlags::CLONE_NEWNET).during("setns(CLONE_NEWNET)")
    }

    /// Runs `work` inside this namespace and returns the calling thread to where it was. What `work` opens
    /// belongs to this namespace for ever.
    ///
    /// # Errors
    /// Also when the thread cannot return: it must then do no more network work and should end.
    pub fn inside<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let home = Netns::current()?;
        self.enter()?;
        let done = work();
        home.enter()?;
        done
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
