//! The `lateen` command: parse, run, exit code. Everything behind it is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    lateen_cli::main(std::env::args_os())
}
