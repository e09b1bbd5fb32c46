//! The `lateen` command: parse, run, exit code. Everything behind it is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before any thread exists: entering a namespace is for single-threaded processes.
    lateen_sandbox::holder::run_if_asked();
    lateen_cli::main(std::env::args_os())
}
