//! Measures Lateen beside its floor and its peers, so that the figures count.
//!
//! Everything that is compared runs in one interleaved run (A B C, A B C, …) on the same machine in the
//! same minutes, since single runs vary by a fifth and more. The proxy under test has core 0 for itself;
//! the load generator and the backend, both made to be cheap, share core 1. CPU is what the scheduler
//! says the proxy's threads spent, kernel work for its sockets included, divided by the requests of the
//! same window. No figure is printed of a round in which a request failed, and rounds that the machine
//! was stolen from are thrown away openly.
#![forbid(unsafe_code)]

mod backend;
mod child;
mod contender;
mod control;
mod docs;
mod drive;
mod engine;
mod envoy;
mod figures;
mod http;
mod instructions;
mod machine;
mod memory;
mod others;
mod ours;
mod relay;
mod shape;
mod sheet;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lateen_cli::args::Color;
use lateen_cli::output::Output;

/// Measure Lateen beside its floor and its peers.
#[derive(Debug, Parser)]
#[command(name = "lateen-bench", version)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    Http(http::HttpArgs),
    Control(control::ControlArgs),
    Memory(memory::MemoryArgs),
    Engine(engine::EngineArgs),
    Instructions(instructions::InstructionsArgs),
    /// All of these, one after the other, each in a process of its own.
    All {
        /// Short runs, to see that everything works.
        #[arg(long)]
        quick: bool,
    },
    Docs(docs::DocsArgs),
}

fn main() -> ExitCode {
    // This program starts itself again as what it measures.
    if let Some(code) = child::become_what_was_asked() {
        return code;
    }
    let cli = Cli::parse();
    let mut output = Output::of_process(Color::Auto);
    let result = match cli.bench {
        Bench::Http(args) => http::run(&args, &mut output),
        Bench::Control(args) => control::run(&args, &mut output),
        Bench::Memory(args) => memory::run(&args, &mut output),
        Bench::Engine(args) => engine::run(&args, &mut output),
        Bench::Instructions(args) => instructions::run(&args, &mut output),
        Bench::All { quick } => all(quick),
        Bench::Docs(args) => docs::run(&args, &mut output),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.report(&error);
            ExitCode::FAILURE
        }
    }
}

fn all(quick: bool) -> anyhow::Result<()> {
    for bench in ["engine", "memory", "http", "control"] {
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command.arg(bench);
        if quick && bench != "engine" {
            command.arg("--quick");
        }
        let status = command.status()?;
        anyhow::ensure!(status.success(), "{bench} failed: {status}");
    }
    Ok(())
}
