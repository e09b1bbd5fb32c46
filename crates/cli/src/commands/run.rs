//! `lateen run`: one more process in the running mesh.

mod input;
mod signals;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;

use anyhow::Context as _;
use lateen_sandbox::Exit;

use crate::args::RunArgs;
use crate::mesh::Announcement;
use crate::mesh::join::{self, Answer, Ask, Join, Line};
use crate::output::{Output, WithHint as _, WrongUsage};
use signals::Signals;

const UP: &str = "start one with `lateen up DIR`, or name its state with --state";

pub(super) fn run(args: RunArgs, output: &mut Output) -> anyhow::Result<ExitCode> {
    let state = args.state.state.clone();
    let join = wish(args)?;
    let mesh = Announcement::find(state.as_deref())?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(visit(join, &mesh, output))
}

/// What the flags ask for, with what is ours to hand on.
fn wish(args: RunArgs) -> anyhow::Result<Join> {
    let mut labels = BTreeMap::new();
    for label in &args.label {
        let wrong = || WrongUsage(format!("label {label:?} is not valid: expected KEY=VALUE"));
        let (key, value) = label.split_once('=').ok_or_else(wrong)?;
        labels.insert(key.to_owned(), value.to_owned());
    }
    let command = args.command.into_iter().map(|argument| {
        let wrong = |argument: OsString| WrongUsage(format!("the argument {argument:?} is not UTF-8"));
        argument.into_string().map_err(wrong)
    });
    let command = command.collect::<Result<_, _>>()?;
    let join = Join {
        name: args.name,
        namespace: args.namespace,
        service_account: args.service_account,
        labels,
        ports: args.port,
        command,
        env: crate::mesh::environment(),
        directory: std::env::current_dir().context("find the working directory")?,
    };
    join::check(&join).map_err(|error| WrongUsage(error.to_string()))?;
    Ok(join)
}

/// Joins, and stays until the process has ended.
async fn visit(join: Join, mesh: &Announcement, output: &mut Output) -> anyhow::Result<ExitCode> {
    // Before anything runs that a signal should end.
    let mut signals = Signals::listen().context("listen for signals")?;
    let line = join::knock(&mesh.run).context("no mesh runs any more").hint(UP)?;
    let stdin = input::stdin().context("hand on standard input")?;
    ask(&line, join, stdin).await?;
    loop {
        tokio::select! {
            answer = line.receive::<Answer>() => {
                let answer = answer.context("hear from the mesh").hint("is `lateen` of the same version?")?;
                match answer {
                    Some((Answer::Started { .. }, _)) => {}
                    Some((Answer::Exited(exit), _)) => return Ok(code(exit)),
                    Some((Answer::Problem { problem, hint }, _)) => {
                        let failed = Err(anyhow::anyhow!(problem));
                        return match hint {
                            Some(hint) => failed.hint(hint),
                            None => failed,
                        };
                    }
                    None => return Err(anyhow::anyhow!("the mesh ended, and the process with it")),
                }
            }
            signal = signals.next() => {
                // A mesh that has gone is seen above.
                let _ = line.send(&Ask::Signal(signal as i32), &[]).await;
                if output.is_watched() && signal == nix::sys::signal::Signal::SIGTERM {
                    output.note("asking the process to end; Ctrl-C once more kills it")?;
                }
            }
        }
    }
}

/// Says what shall run. Our own copies of the descriptors end here, so that the process has the last ones.
async fn ask(line: &Line, join: Join, stdin: OwnedFd) -> anyhow::Result<()> {
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    let stdio = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let asked = line.send(&Ask::Join(join), &stdio).await.context("ask the mesh to run it");
    asked.hint("a smaller environment helps when it is too large: env -i PATH=\"$PATH\" lateen run …")
}

/// As a shell gives it: its own code, or 128 and the signal.
fn code(exit: Exit) -> ExitCode {
    let code = match exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal,
    };
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}
