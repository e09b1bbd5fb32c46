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
mod envoy;
mod figures;
mod http;
mod machine;
mod ours;
mod relay;

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
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.report(&error);
            ExitCode::FAILURE
        }
    }
}
