//! `lateen completions SHELL`: from the same declarations as the help.

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::args::{Cli, CompletionsArgs};
use crate::output::Output;

pub(super) fn run(args: &CompletionsArgs, output: &mut Output) -> anyhow::Result<ExitCode> {
    // clap_complete panics when a write fails (a closed pipe), so it writes to memory first.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lateen", &mut script);
    output.bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}
