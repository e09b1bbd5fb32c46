//! Starting one process: everything between fork and exec.

use std::{
    convert::Infallible,
    ffi::CString,
    fs::File,
    io::{Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
};

use lateen_capture::{During, Error};
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    sys::{prctl, signal::Signal},
    unistd::{ForkResult, Pid, chdir, execve, setpgid},
};

use super::{pods::Pod, privileges};
use crate::{
    message::{Kind, ProcessSpec},
    namespace::{overlay, raw},
};

/// Numbers above all that a supervisor gives out, so that placing one never overwrites another.
const PARKING: i32 = 200;

/// A process that has begun.
pub(crate) struct Started {
    /// Its number here.
    pub(crate) pid: Pid,
    /// Its number as the machine sees it.
    pub(crate) machine_pid: i32,
}

/// Starts `spec` in `pod`, with `given[i]` as descriptor `numbers[i]`. Returns when the program runs, or with
/// the call that prevented it. `machine` is the machine's `/proc`.
pub(crate) fn spawn(
    pod: &Pod,
    spec: &ProcessSpec,
    given: &[OwnedFd],
    numbers: &[i32],
    machine: Option<&OwnedFd>,
) -> Result<Started, Error> {
    if given.len() != numbers.len() || numbers.iter().any(|number| !(0..PARKING).contains(number)) {
        return Err(Error::new("number the descriptors", Errno::EINVAL as i32));
    }
    let (report, reporter) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).during("pipe()")?;
    match raw::fork()? {
        ForkResult::Child => {
            // Out of the way of the numbers given out, so that an exec that fails can still be told.
            let reporter = park(reporter.as_fd()).unwrap_or(reporter);
            let mut reporter = File::from(reporter);
            let _ = writeln!(reporter, "{}", machine_pid(machine));
            let descriptors: Vec<_> = given.iter().map(AsFd::as_fd).zip(numbers.iter().copied()).collect();
            let Err(error) = become_program(pod, spec, &descriptors);
            let _ = serde_json::to_writer(&reporter, &error);
            std::process::exit(127);
        }
        ForkResult::Parent { child } => {
            drop(reporter);
            // The pipe ends at the exec, or after the error.
            let mut told = String::new();
            File::from(report).read_to_string(&mut told).during("read(report)")?;
            let (number, error) = told.split_once('\n').unwrap_or_default();
            match serde_json::from_str(error) {
                Ok(error) => Err(error),
                Err(_) => Ok(Started { pid: child, machine_pid: number.parse().unwrap_or(child.as_raw()) }),
            }
        }
    }
}

fn become_program(
    pod: &Pod,
    spec: &ProcessSpec,
    descriptors: &[(BorrowedFd<'_>, i32)],
) -> Result<Infallible, Error> {
    prctl::set_pdeathsig(Signal::SIGKILL).during("prctl(PR_SET_PDEATHSIG)")?;
    setpgid(Pid::from_raw(0), Pid::from_raw(0)).during("setpgid()")?;
    raw::reset_signals()?;
    enter(pod, spec.kind)?;
    let directory = spec.cwd.as_deref().unwrap_or(Path::new("/"));
    chdir(directory).during(format!("chdir({})", directory.display()))?;
    let program = find_program(spec)?;
    privileges::reduce(spec.kind, pod.rooms.is_some())?;
    let arguments = c_strings(spec.argv.iter().cloned())?;
    let environment = c_strings(spec.env.iter().map(|(name, value)| format!("{name}={value}")))?;
    let path = c_strings([program.to_string_lossy().into_owned()])?.remove(0);
    place(descriptors)?;
    execve(&path, &arguments, &environment).during(format!("execve({})", program.display()))
}

fn enter(pod: &Pod, kind: Kind) -> Result<(), Error> {
    let Some(rooms) = &pod.rooms else { return Ok(()) };
    rooms.network.enter()?;
    rooms.mounts.enter()?;
    if kind == Kind::Application && !pod.hidden.is_empty() {
        // In a namespace of its own: the pod's proxy goes on seeing what is hidden here.
        unshare(CloneFlags::CLONE_NEWNS).during("unshare(CLONE_NEWNS)")?;
        overlay::hide(&pod.hidden)?;
    }
    if !pod.hostname.is_empty() {
        unshare(CloneFlags::CLONE_NEWUTS).during("unshare(CLONE_NEWUTS)")?;
        rustix::system::sethostname(pod.hostname.as_bytes()).during("sethostname()")?;
    }
    Ok(())
}

/// Gives each descriptor its number. All are parked above first, so that none overwrites one still needed.
fn place(descriptors: &[(BorrowedFd<'_>, i32)]) -> Result<(), Error> {
    let parked: Result<Vec<_>, Error> =
        descriptors.iter().map(|(descriptor, number)| Ok((park(*descriptor)?, *number))).collect();
    for (descriptor, number) in &parked? {
        raw::place(descriptor.as_fd(), *number)?;
    }
    Ok(())
}

fn park(descriptor: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    rustix::io::fcntl_dupfd_cloexec(descriptor, PARKING).during("fcntl(F_DUPFD_CLOEXEC)")
}

/// The file to run: a path as it stands, a bare name through `PATH` of the new environment.
fn find_program(spec: &ProcessSpec) -> Result<PathBuf, Error> {
    let Some(name) = spec.argv.first().filter(|name| !name.is_empty()) else {
        return Err(Error::new("execve(): no program is named", Errno::EINVAL as i32));
    };
    if name.contains('/') {
        return Ok(PathBuf::from(name));
    }
    let path = spec.env.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_str());
    let path = path.unwrap_or("/usr/local/bin:/usr/bin:/bin");
    let runnable = |file: &PathBuf| {
        file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let found = path.split(':').map(|directory| Path::new(directory).join(name)).find(runnable);
    found.ok_or_else(|| Error::new(format!("find {name} in PATH {path}"), Errno::ENOENT as i32))
}

/// The number of this process in the namespace of the machine's `/proc`.
fn machine_pid(machine: Option<&OwnedFd>) -> String {
    let itself = machine.and_then(|proc| rustix::fs::readlinkat(proc, "self", Vec::new()).ok());
    let itself = itself.and_then(|link| link.into_string().ok());
    itself.unwrap_or_else(|| std::process::id().to_string())
}

fn c_strings(texts: impl IntoIterator<Item = String>) -> Result<Vec<CString>, Error> {
    let convert = |text: String| {
        CString::new(text).map_err(|_| Error::new("execve(): a NUL in the arguments", Errno::EINVAL as i32))
    };
    texts.into_iter().map(convert).collect()
}
