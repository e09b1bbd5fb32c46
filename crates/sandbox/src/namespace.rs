//! The namespaces of the holder: entered once, before any thread exists, and gone with its last process.
//!
//! As root the network, mount and process namespaces are made directly. An ordinary user makes a user
//! namespace around them, in which he keeps his own number: his programs see the user and files that they
//! know, and a program that is started there has no capabilities unless we hand it some.

pub(crate) mod overlay;
pub(crate) mod raw;

use std::{
    fs::{self, File},
    os::fd::OwnedFd,
};

use lateen_capture::{During, Error};
use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::{getegid, geteuid},
};

use crate::Environment;

/// Makes and enters the outer namespaces. The process namespace holds the children made afterwards: the first
/// is its init, and when that ends the kernel kills every other.
pub(crate) fn enter(environment: Environment) -> Result<(), Error> {
    let inner = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    match environment {
        Environment::Plain => Ok(()),
        Environment::Root => unshare(inner).during("unshare(CLONE_NEWNET|CLONE_NEWNS|CLONE_NEWPID)"),
        Environment::UserNamespace => {
            let (user, group) = (geteuid(), getegid());
            unshare(CloneFlags::CLONE_NEWUSER).during("unshare(CLONE_NEWUSER)")?;
            // A kernel before 3.19 has no such file, and needs none.
            write("/proc/self/setgroups", "deny").or_else(|error| match error.is_unsupported() {
                true => Ok(()),
                false => Err(error),
            })?;
            write("/proc/self/uid_map", &format!("{user} {user} 1"))?;
            write("/proc/self/gid_map", &format!("{group} {group} 1"))?;
            unshare(inner).during("unshare(CLONE_NEWNET|CLONE_NEWNS|CLONE_NEWPID) in a user namespace")
        }
    }
}

/// Writes a small file of the kernel.
pub(crate) fn write(path: &str, text: &str) -> Result<(), Error> {
    fs::write(path, text).during(format!("write({path})"))
}

/// A mount namespace of its own for one pod, kept by its descriptor.
#[derive(Debug)]
pub(crate) struct MountNamespace(OwnedFd);

impl MountNamespace {
    fn current() -> Result<MountNamespace, Error> {
        const PATH: &str = "/proc/self/ns/mnt";
        Ok(MountNamespace(File::open(PATH).during(format!("open({PATH})"))?.into()))
    }

    /// A copy of the current one in which `change` has run; the calling process stays where it is.
    pub(crate) fn with<T>(change: impl FnOnce() -> Result<T, Error>) -> Result<(MountNamespace, T), Error> {
        let home = MountNamespace::current()?;
        unshare(CloneFlags::CLONE_NEWNS).during("unshare(CLONE_NEWNS)")?;
        let made = MountNamespace::current();
        let changed = change();
        home.enter()?;
        Ok((made?, changed?))
    }

    /// Moves the calling process into it; its working directory becomes `/`.
    pub(crate) fn enter(&self) -> Result<(), Error> {
        setns(&self.0, CloneFlags::CLONE_NEWNS).during("setns(CLONE_NEWNS)")
    }
}
