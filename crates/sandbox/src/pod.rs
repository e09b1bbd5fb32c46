//! A pod as the supervisor sees it: start processes in it, open sockets in it, take it away.

use std::os::fd::OwnedFd;

use crate::{
    Error, Process, ProcessSpec, Sandbox, SocketKind,
    client::{borrow, unexpected},
    message::{Answer, Ask},
};

/// A pod that stands. Dropping the handle leaves it standing; see [`Pod::remove`].
#[derive(Clone)]
pub struct Pod {
    sandbox: Sandbox,
    name: String,
    warnings: Vec<String>,
}

/// Descriptors that a process gets beside its environment.
#[derive(Debug, Default)]
pub struct Descriptors(Vec<(OwnedFd, i32)>);

impl Descriptors {
    /// None yet: standard input, output and error are then `/dev/null` of their own.
    pub fn new() -> Descriptors {
        Descriptors::default()
    }

    /// Hands `descriptor` over as number `number`, at most 199 and each only once.
    pub fn with(mut self, number: i32, descriptor: impl Into<OwnedFd>) -> Descriptors {
        self.0.push((descriptor.into(), number));
        self
    }

    /// The standard three that nobody gave become `/dev/null`.
    fn completed(mut self) -> Result<(Vec<OwnedFd>, Vec<i32>), Error> {
        for number in 0..3 {
            if !self.0.iter().any(|(_, given)| *given == number) {
                let nothing = std::fs::File::options().read(true).write(true).open("/dev/null");
                let nothing = nothing.map_err(|error| {
                    lateen_capture::Error::new("open(/dev/null)", error.raw_os_error().unwrap_or_default())
                })?;
                self.0.push((nothing.into(), number));
            }
        }
        Ok(self.0.into_iter().unzip())
    }
}

impl Pod {
    pub(crate) fn new(sandbox: Sandbox, name: String, warnings: Vec<String>) -> Pod {
        Pod { sandbox, name, warnings }
    }

    /// Its name in the sandbox.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it has to do without, in words for the user.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Starts a process; returns once its program runs. It lives until it ends, until it is signalled, or
    /// until the pod or the sandbox go.
    pub async fn spawn(&self, spec: ProcessSpec, descriptors: Descriptors) -> Result<Process, Error> {
        let inner = &self.sandbox.0;
        let (given, numbers) = descriptors.completed()?;
        let (id, exit) = inner.expect_process();
        let ask = Ask::Spawn { process: id, pod: self.name.clone(), spec, descriptors: numbers };
        match inner.ask(ask, &borrow(&given)).await {
            Ok((Answer::Started { pid }, _)) => Ok(Process::new(self.sandbox.clone(), id, pid, exit)),
            Ok(_) => Err(unexpected()),
            Err(error) => {
                inner.forget_process(id);
                Err(error)
            }
        }
    }

    /// Opens a socket in the pod's network, non-blocking and unconnected: what is done with it happens there.
    /// A marked one passes the pod's rules untouched.
    pub async fn open_socket(&self, socket: SocketKind, marked: bool) -> Result<OwnedFd, Error> {
        let ask = Ask::OpenSocket { pod: self.name.clone(), socket, marked };
        match self.sandbox.0.ask(ask, &[]).await? {
            (Answer::Socket, Some(descriptor)) => Ok(descriptor),
            _ => Err(unexpected()),
        }
    }

    /// How many packets the pod's rules refused.
    pub async fn refused_packets(&self) -> Result<u64, Error> {
        match self.sandbox.0.ask(Ask::RefusedPackets { pod: self.name.clone() }, &[]).await? {
            (Answer::Packets(packets), _) => Ok(packets),
            _ => Err(unexpected()),
        }
    }

    /// Kills what still runs in it and takes its namespaces and link away.
    pub async fn remove(self) -> Result<(), Error> {
        self.sandbox.0.ask(Ask::RemovePod { pod: self.name }, &[]).await.map(drop)
    }
}
