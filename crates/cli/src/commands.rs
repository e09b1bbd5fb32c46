//! One file for each command.

mod check;
mod completions;
mod control;
mod demo;
mod dump;
mod echo;
mod explain;
mod load;
mod proxy;
mod run;
mod status;
mod up;

use std::process::ExitCode;

use crate::args::Command;
use crate::output::Output;

/// Runs one command to its end; an error is reported by the caller and means exit code 1.
pub fn run(command: Command, output: &mut Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check(args) => check::run(&args, output),
        Command::Echo(args) => echo::run(args, output),
        Command::Explain(args) => explain::run(&args, output),
        Command::Load(args) => load::run(args, output),
        Command::Control(args) => control::run(args),
        Command::Proxy(args) => proxy::run(&args),
        Command::Demo(args) => demo::run(args, output),
        Command::Up(args) => up::run(args, output),
        Command::Run(args) => run::run(args, output),
        Command::Status(args) => status::run(args, output),
        Command::Dump(args) => dump::run(args, output),
        Command::Completions(args) => completions::run(&args, output),
    }
}
