//! One file for each command.

mod completions;
mod control;
mod echo;
mod explain;
mod load;
mod proxy;

use std::process::ExitCode;

use crate::args::Command;
use crate::output::Output;

/// Runs one command to its end; an error is reported by the caller and means exit code 1.
pub fn run(command: Command, output: &mut Output) -> anyhow::Result<ExitCode> {
    match command {
        Command::Echo(args) => echo::run(args, output),
        Command::Explain(args) => explain::run(&args, output),
        Command::Load(args) => load::run(args, output),
        Command::Control(args) => control::run(args),
        Command::Proxy(args) => proxy::run(&args),
        Command::Completions(args) => completions::run(&args, output),
    }
}
