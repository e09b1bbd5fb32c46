//! The holder: a process with one thread that owns the namespaces and starts everything inside them.
//!
//! It is this same program, started again with [`ARGUMENT`]; the program must call [`run_if_asked`] first of
//! all in `main`. The supervisor's socket is its standard input. When that closes, or the holder is killed,
//! it ends; it is the init of its process namespace, so the kernel then kills everything that it started, and
//! the network namespaces go with the last process. Without namespaces it adopts orphans and kills what it
//! knows, which is the best there is.

pub(crate) mod pods;
pub(crate) mod privileges;
pub(crate) mod processes;
pub(crate) mod spawn;

use std::{
    os::fd::{AsFd, OwnedFd},
    process::exit,
};

use lateen_capture::{During, Error, refused::Refused};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, getppid, setpgid},
};

use self::{pods::Pods, processes::Processes};
use crate::{
    Environment, channel,
    message::{Answer, Ask, Request, Said},
    namespace::{self, overlay, raw},
};

/// The hidden first argument that makes a program a holder.
pub const ARGUMENT: &str = "__holder";
/// The hidden argument with which the program ends at once: what the probe starts in its pod.
pub(crate) const NOTHING: &str = "__nothing";

/// Becomes the holder, and never returns, if this process was started as one. To be called before any thread
/// exists.
pub fn run_if_asked() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(ARGUMENT) => {}
        Some(NOTHING) => exit(0),
        _ => return,
    }
    let environment = arguments.next().and_then(|name| Environment::parse(&name));
    let parent = arguments.next().and_then(|text| text.parse().ok());
    match (environment, parent) {
        (Some(environment), Some(parent)) => exit(run(environment, Pid::from_raw(parent))),
        // Somebody typed the hidden word.
        _ => exit(2),
    }
}

fn run(environment: Environment, parent: Pid) -> i32 {
    let Ok(socket) = begin(parent) else { return 1 };
    if let Err(error) = namespace::enter(environment) {
        tell(&socket, &Said::Broken(error));
        return 1;
    }
    if !environment.has_namespaces() {
        return serve(socket, environment, None, None);
    }
    match begin_init(&socket) {
        Ok(None) => exit(1),
        Ok(Some((machine, lifeline))) => serve(socket, environment, Some(machine), Some(lifeline)),
        Err(error) => {
            tell(&socket, &Said::Broken(error));
            1
        }
    }
}

/// Ties this process to its parent, away from the terminal's group, and takes the socket off standard input.
fn begin(parent: Pid) -> Result<OwnedFd, Error> {
    prctl::set_pdeathsig(Signal::SIGKILL).during("prctl(PR_SET_PDEATHSIG)")?;
    if getppid() != parent {
        exit(1);
    }
    raw::close_at_exec();
    setpgid(Pid::from_raw(0), Pid::from_raw(0)).during("setpgid()")?;
    let input = rustix::stdio::stdin();
    let socket = rustix::io::fcntl_dupfd_cloexec(input, 3).during("fcntl(F_DUPFD_CLOEXEC)")?;
    // This end waits; the supervisor's does not.
    rustix::io::ioctl_fionbio(&socket, false).during("ioctl(FIONBIO)")?;
    let nothing = std::fs::File::open("/dev/null").during("open(/dev/null)")?;
    rustix::stdio::dup2_stdin(&nothing).during("dup2(0)")?;
    Ok(socket)
}

/// Forks the init of the process namespace. The parent stays behind to die with the supervisor and to take
/// the init with it; it never returns. The child gets the machine's `/proc`, and a pipe that closes when the
/// parent is gone.
fn begin_init(socket: &OwnedFd) -> Result<Option<(OwnedFd, OwnedFd)>, Error> {
    let (lifeline, held) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).during("pipe()")?;
    let machine: OwnedFd = std::fs::File::open("/proc").during("open(/proc)")?.into();
    match raw::fork()? {
        ForkResult::Child => {
            drop(held);
            prctl::set_pdeathsig(Signal::SIGKILL).during("prctl(PR_SET_PDEATHSIG)")?;
            Ok(Some((machine, lifeline)))
        }
        ForkResult::Parent { child } => {
            // Only the init may keep the supervisor's socket open.
            let nothing = std::fs::File::open("/dev/null").during("open(/dev/null)")?;
            raw::place(nothing.as_fd(), std::os::fd::AsRawFd::as_raw_fd(socket))?;
            drop(lifeline);
            loop {
                match waitpid(child, None) {
                    Err(Errno::EINTR) => {}
                    Ok(WaitStatus::Exited(_, code)) => exit(code),
                    _ => exit(1),
                }
            }
        }
    }
}

fn serve(
    socket: OwnedFd,
    environment: Environment,
    machine: Option<OwnedFd>,
    lifeline: Option<OwnedFd>,
) -> i32 {
    match Holder::set_up(socket.as_fd(), environment, machine) {
        Ok((mut holder, warnings)) => {
            tell(&socket, &Said::Ready { warnings });
            let ended = holder.serve(lifeline.as_ref());
            holder.processes.kill_all();
            i32::from(ended.is_err())
        }
        Err(error) => {
            tell(&socket, &Said::Broken(error));
            1
        }
    }
}

fn tell(socket: impl AsFd, said: &Said) {
    let bytes = serde_json::to_vec(said).expect("messages of ours are plain data");
    // A supervisor that is gone is noticed by the loop.
    let _ = channel::send(socket, &bytes, &[]);
}

struct Holder<'a> {
    socket: std::os::fd::BorrowedFd<'a>,
    children: SignalFd,
    pods: Pods,
    processes: Processes,
}

/// Why the loop went on or ended.
enum Next {
    Continue,
    End,
}

impl<'a> Holder<'a> {
    fn set_up(
        socket: std::os::fd::BorrowedFd<'a>,
        environment: Environment,
        machine: Option<OwnedFd>,
    ) -> Result<(Holder<'a>, Vec<String>), Error> {
        let mask = SigSet::from(Signal::SIGCHLD);
        mask.thread_block().during("sigprocmask(SIGCHLD)")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let children = SignalFd::with_flags(&mask, flags).during("signalfd(SIGCHLD)")?;
        let mut warnings = Vec::new();
        if environment.has_namespaces() {
            warnings = overlay::prepare()?;
        } else {
            prctl::set_child_subreaper(true).during("prctl(PR_SET_CHILD_SUBREAPER)")?;
        }
        let pods = Pods::new(environment.has_namespaces())?;
        Ok((Holder { socket, children, pods, processes: Processes::new(machine) }, warnings))
    }

    fn serve(&mut self, lifeline: Option<&OwnedFd>) -> Result<(), Error> {
        let mut buffer = vec![0; channel::LONGEST];
        loop {
            let listening = self.pods.listening();
            let mut waits = vec![
                PollFd::new(self.socket, PollFlags::POLLIN),
                PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
            ];
            // The write end is never written to: readiness means that its holder is gone.
            waits.extend(lifeline.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
            let before = waits.len();
            waits.extend(listening.iter().map(|(_, listener)| PollFd::new(*listener, PollFlags::POLLIN)));
            let timeout = self.pods.quiet_timeout().map_or(PollTimeout::NONE, PollTimeout::from);
            match poll(&mut waits, timeout) {
                Err(Errno::EINTR) => continue,
                other => other.during("poll()")?,
            };
            let ready: Vec<bool> = waits.iter().map(|wait| wait.any().unwrap_or(true)).collect();
            let spoke: Vec<String> = listening
                .iter()
                .zip(&ready[before..])
                .filter(|(_, ready)| **ready)
                .map(|((name, _), _)| String::from(*name))
                .collect();
            drop(waits);
            if lifeline.is_some() && ready[2] {
                return Ok(());
            }
            if ready[1] {
                self.reap();
            }
            for pod in spoke {
                self.tell_refused(pod);
            }
            if ready[0] && matches!(self.hear(&mut buffer)?, Next::End) {
                return Ok(());
            }
        }
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.children.read_signal() {}
        for (process, exit) in self.processes.reap() {
            tell(self.socket, &Said::Exited { process, exit });
        }
    }

    fn tell_refused(&mut self, pod: String) {
        let packets: Vec<Refused> = self.pods.refused(&pod);
        if !packets.is_empty() {
            tell(self.socket, &Said::Refused { pod, packets });
        }
    }

    fn hear(&mut self, buffer: &mut [u8]) -> Result<Next, Error> {
        let Some((bytes, descriptors)) = channel::receive(self.socket, buffer).during("recvmsg()")? else {
            return Ok(Next::End);
        };
        // Only our own program speaks here: what cannot be read is a bug, and the end.
        let Ok(request) = serde_json::from_slice::<Request>(bytes) else {
            return Err(Error::new("read a request", Errno::EBADMSG as i32));
        };
        let id = request.id;
        let shutdown = matches!(request.ask, Ask::Shutdown);
        let (said, descriptor) = match self.answer(request.ask, &descriptors) {
            Ok((answer, descriptor)) => (Said::Done { id, answer }, descriptor),
            Err(error) => (Said::Failed { id, error }, None),
        };
        let bytes = serde_json::to_vec(&said).expect("messages of ours are plain data");
        let attached: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
        if channel::send(self.socket, &bytes, &attached).is_err() {
            return Ok(Next::End);
        }
        Ok(if shutdown { Next::End } else { Next::Continue })
    }

    fn answer(&mut self, ask: Ask, given: &[OwnedFd]) -> Result<(Answer, Option<OwnedFd>), Error> {
        let answer = match ask {
            Ask::SetUp { addresses } => self.pods.set_up(&addresses).map(|()| Answer::Nothing)?,
            Ask::MakePod(spec) => Answer::Pod { warnings: self.pods.make(spec)? },
            Ask::RemovePod { pod } => {
                self.processes.kill_pod(&pod, self.pods.find(&pod)?);
                self.pods.remove(&pod)?;
                Answer::Nothing
            }
            Ask::Spawn { process, pod, spec, descriptors } => {
                let found = self.pods.find(&pod)?;
                let pid = self.processes.start(process, &pod, found, &spec, given, &descriptors)?;
                Answer::Started { pid }
            }
            Ask::Signal { process, signal, group } => {
                self.processes.signal(process, signal, group)?;
                Answer::Nothing
            }
            Ask::OpenSocket { pod, socket, marked } => {
                let opened = self.pods.find(&pod)?.open_socket(socket, marked)?;
                return Ok((Answer::Socket, Some(opened)));
            }
            Ask::RefusedPackets { pod } => Answer::Packets(self.pods.find(&pod)?.refused_packets()?),
            Ask::Shutdown => Answer::Nothing,
        };
        Ok((answer, None))
    }
}
