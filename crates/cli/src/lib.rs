//! The command line of Lateen: everything behind one binary.
//!
//! A command is three things that are easy to find: its flags with their sentences of help in
//! [`args`], its story in `commands/<name>.rs`, and a line in [`args::Command`] and in
//! [`commands::run`] that joins them. A command writes its results through [`output::Output`] (a
//! table for people, JSON for programs, colour only where a terminal shows it) and fails with an
//! `anyhow::Error`, to which [`output::WithHint`] adds the way out. The exit code is 0 when it
//! worked, 1 when it did not, 2 when it was called wrongly.
//!
//! Two commands are small programs of their own, usable as a library by benches and whole-mesh
//! tests: [`echo`], the service that says what it received, and [`load`], the load generator that
//! does not hide how late it was.
#![forbid(unsafe_code)]

pub mod args;
pub mod commands;
pub mod demo;
pub mod echo;
pub mod load;
pub mod mesh;
pub mod objects;
pub mod output;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Cli;
use crate::output::Output;

/// Runs the command named by `arguments` (the program's own name first) to its end.
///
/// No thread and no runtime exists before a command makes one: processes that enter namespaces can
/// do so first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let mut output = Output::of_process(cli.color);
    match commands::run(cli.command, &mut output) {
        Ok(code) => code,
        // `lateen … | head` is not a failure of ours.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output.report(&error);
            if error.is::<output::WrongUsage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Prints what clap has to say: help and version on stdout with 0, wrong usage on stderr with 2.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be done when the terminal is gone.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}
