//! What is measured runs in processes of its own, on a core of its own, and dies with the bench.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal};
use rustix::thread::CpuSet;

use crate::{engine, relay};

/// `__on CORE PROGRAM ARGUMENTS`: run a program on one core.
const ON: &str = "__on";
/// `__lateen ARGUMENTS`: be `lateen`.
const LATEEN: &str = "__lateen";
/// `__relay LISTEN BACKEND`: be the floor.
const RELAY: &str = "__relay";
/// `__engine`: measure decisions in a fresh process, and print what was found.
const ENGINE: &str = "__engine";

/// Takes another role when the first argument says so.
pub(crate) fn become_what_was_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let role = arguments.next()?;
    let rest: Vec<OsString> = arguments.collect();
    let result = match role.to_str()? {
        ON => run_on_core(&rest),
        RELAY => relay::run(&rest),
        ENGINE => engine::measure_and_print(),
        LATEEN => return Some(lateen_cli::main([OsString::from("lateen")].into_iter().chain(rest))),
        _ => return None,
    };
    Some(result.map_or_else(
        |error| {
            lateen_cli::output::Output::of_process(lateen_cli::args::Color::Auto).report(&error);
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    ))
}

fn run_on_core(arguments: &[OsString]) -> anyhow::Result<()> {
    let [core, program, arguments @ ..] = arguments else { anyhow::bail!("wants CORE PROGRAM") };
    let core = core.to_str().and_then(|core| core.parse().ok()).context("a core is a number")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    pin(core)?;
    Err(Command::new(program).args(arguments).exec()).context("start the program")
}

/// Keeps this process, and the threads that it will make, on one core.
pub(crate) fn pin(core: usize) -> anyhow::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    rustix::thread::sched_setaffinity(None, &cores).with_context(|| format!("use core {core}"))
}

/// How long one may take to end.
const STOP: Duration = Duration::from_secs(30);

/// A process that is measured; killed when dropped.
pub(crate) struct Measured {
    child: Child,
}

/// A command that runs `program` on `core`.
pub(crate) fn on_core(core: usize, program: impl Into<OsString>) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ON).arg(core.to_string()).arg(program.into()).stdin(Stdio::null());
    Ok(command)
}

/// A command that runs this program on `core` as `lateen`.
pub(crate) fn lateen(core: usize) -> anyhow::Result<Command> {
    let mut command = on_core(core, std::env::current_exe()?)?;
    command.arg(LATEEN);
    Ok(command)
}

/// The same under callgrind, which counts instructions into a file.
pub(crate) fn counted_lateen(core: usize, to: &Path) -> anyhow::Result<Command> {
    let mut command = on_core(core, "valgrind")?;
    command.args(["--tool=callgrind", "--quiet"]);
    command.arg(format!("--callgrind-out-file={}", to.display()));
    command.arg(std::env::current_exe()?).arg(LATEEN);
    Ok(command)
}

/// A command that runs this program on `core` as the floor.
pub(crate) fn relay(core: usize) -> anyhow::Result<Command> {
    let mut command = on_core(core, std::env::current_exe()?)?;
    command.arg(RELAY);
    Ok(command)
}

/// A command that runs this program on `core` to measure decisions.
pub(crate) fn engine(core: usize) -> anyhow::Result<Command> {
    let mut command = on_core(core, std::env::current_exe()?)?;
    command.arg(ENGINE);
    Ok(command)
}

impl Measured {
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        Ok(Measured { child })
    }

    /// What all its threads spent on a core so far, by the scheduler's account.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let mut total = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // A thread may end while we look.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let spent = text.split_ascii_whitespace().next().and_then(|spent| spent.parse::<u64>().ok());
            total += spent.context("schedstat of a thread is not readable")?;
        }
        Ok(Duration::from_nanos(total))
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        memory_of(&self.child.id().to_string())
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let start = Instant::now();
        while self.is_alive() {
            anyhow::ensure!(start.elapsed() < STOP, "it does not end when asked to");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// Resident memory of a process, in bytes.
pub(crate) fn memory_of(process: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.context("VmRSS is not readable")? * 1024)
}

impl Drop for Measured {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
