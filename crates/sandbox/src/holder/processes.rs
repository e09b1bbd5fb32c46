//! The processes that a holder started: by number, until they are reaped.

use std::{collections::BTreeMap, fs, os::fd::OwnedFd, os::unix::fs::MetadataExt};

use lateen_capture::{During, Error};
use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill, killpg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::Pid,
};

use super::{pods::Pod, spawn};
use crate::message::{Exit, ProcessId, ProcessSpec};

pub(crate) struct Processes {
    /// The machine's `/proc`, where process numbers are those of the machine; absent without namespaces.
    machine: Option<OwnedFd>,
    running: BTreeMap<ProcessId, Running>,
}

struct Running {
    pid: Pid,
    pod: String,
}

impl Processes {
    pub(crate) fn new(machine: Option<OwnedFd>) -> Processes {
        Processes { machine, running: BTreeMap::new() }
    }

    pub(crate) fn start(
        &mut self,
        process: ProcessId,
        name: &str,
        pod: &Pod,
        spec: &ProcessSpec,
        given: &[OwnedFd],
        numbers: &[i32],
    ) -> Result<i32, Error> {
        let started = spawn::spawn(pod, spec, given, numbers, self.machine.as_ref())?;
        self.running.insert(process, Running { pid: started.pid, pod: String::from(name) });
        Ok(started.machine_pid)
    }

    pub(crate) fn signal(&self, process: ProcessId, number: i32, group: bool) -> Result<(), Error> {
        // One that ended a moment ago got what it needed.
        let Some(running) = self.running.get(&process) else { return Ok(()) };
        let signal = Signal::try_from(number).during(format!("kill({number})"))?;
        let sent = if group { killpg(running.pid, signal) } else { kill(running.pid, signal) };
        sent.during(format!("kill({signal})"))
    }

    /// Everything that has ended. With a process goes the rest of its group: what it left behind would keep
    /// its ports from the next one.
    pub(crate) fn reap(&mut self) -> Vec<(ProcessId, Exit)> {
        let mut ended = Vec::new();
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Ok(status) = waitid(Id::All, peek) {
            let Some(pid) = status.pid() else { break };
            let known = self.running.iter().find(|(_, running)| running.pid == pid).map(|(id, _)| *id);
            if known.is_some() {
                // While it is a zombie its number cannot be another group's.
                let _ = killpg(pid, Signal::SIGKILL);
            }
            let Ok(status) = waitpid(pid, None) else { break };
            if let Some(process) = known {
                self.running.remove(&process);
                ended.push((process, exit_of(status)));
            }
        }
        ended
    }

    /// Kills all that runs in a pod, also what left its group.
    pub(crate) fn kill_pod(&self, name: &str, pod: &Pod) {
        for running in self.running.values().filter(|running| running.pod == name) {
            let _ = killpg(running.pid, Signal::SIGKILL);
        }
        let Some(rooms) = &pod.rooms else { return };
        let Ok(network) = rustix::fs::fstat(&rooms.network) else { return };
        for pid in processes_of(network.st_ino) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    /// Kills every child, and every child's orphan that was adopted, until none is left.
    pub(crate) fn kill_all(&mut self) {
        for running in self.running.values() {
            let _ = killpg(running.pid, Signal::SIGKILL);
        }
        // The init of a process namespace has only to end.
        if self.machine.is_some() {
            return;
        }
        loop {
            let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
            for child in children.split_whitespace().filter_map(|text| text.parse().ok()) {
                let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
            }
            match waitpid(None, None) {
                Err(Errno::EINTR) | Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}

/// The processes in the network namespace with this inode, this one excepted. Empty where `/proc` shows the
/// machine's processes, whose numbers mean nothing here.
fn processes_of(network: u64) -> Vec<Pid> {
    let itself = std::process::id().to_string();
    if fs::read_link("/proc/self").ok().and_then(|link| link.into_os_string().into_string().ok())
        != Some(itself.clone())
    {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    numbers
        .filter(|name| *name != itself)
        .filter_map(|name| name.parse::<i32>().ok())
        .filter(|pid| fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|found| found.ino() == network))
        .map(Pid::from_raw)
        .collect()
}

fn exit_of(status: WaitStatus) -> Exit {
    match status {
        WaitStatus::Exited(_, code) => Exit::Code(code),
        WaitStatus::Signaled(_, signal, _) => Exit::Signal(signal as i32),
        _ => Exit::Code(1),
    }
}
