//! Every command and flag with its sentence of help, and an example for each command.
//!
//! Help, shell completions and the reference pages all come from these declarations. A command is listed
//! in [`Command`] from the day it works.

mod check;
mod control;
mod demo;
mod dump;
mod duration;
mod echo;
mod explain;
mod format;
mod load;
mod percent;
mod proxy;
mod run;
mod sandbox;
mod state;
mod status;
mod up;

pub use check::CheckArgs;
pub use control::ControlArgs;
pub use demo::DemoArgs;
pub use dump::DumpArgs;
pub use duration::{InvalidDuration, parse_duration};
pub use echo::EchoArgs;
pub use explain::ExplainArgs;
pub use format::{Format, FormatArgs};
pub use load::LoadArgs;
pub use percent::parse_percent;
pub use proxy::ProxyArgs;
pub use run::RunArgs;
pub use sandbox::{Environment, SandboxArgs};
pub use state::StateArgs;
pub use status::StatusArgs;
pub use up::UpArgs;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Lateen, a service mesh: identity, routing and policy between processes, on one machine or many.
#[derive(Debug, Parser)]
#[command(
    name = "lateen",
    version,
    max_term_width = 110,
    propagate_version = false,
    disable_help_subcommand = true,
    after_help = "Every command has an example: lateen COMMAND --help"
)]
pub struct Cli {
    /// Colour what is printed: on a terminal (unless NO_COLOR is set), always, or never.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,

    #[command(subcommand)]
    pub command: Command,
}

/// When output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Color {
    // On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    Always,
    Never,
}

/// What `lateen` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(DemoArgs),
    Up(UpArgs),
    Run(RunArgs),
    Status(StatusArgs),
    Dump(DumpArgs),
    Check(CheckArgs),
    Echo(EchoArgs),
    Explain(ExplainArgs),
    Load(LoadArgs),
    Control(ControlArgs),
    Proxy(ProxyArgs),
    Completions(CompletionsArgs),
}

/// Print the completions of a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  lateen completions bash > ~/.local/share/bash-completion/completions/lateen")]
pub struct CompletionsArgs {
    /// The shell that shall complete.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn declarations_are_consistent() {
        Cli::command().debug_assert();
    }

    /// Every command, with those whose flags are settled before their work has landed.
    fn commands() -> Vec<clap::Command> {
        let listed = Cli::command().get_subcommands().cloned().collect::<Vec<_>>();
        let settled = [
            UpArgs::augment_args(clap::Command::new("up")),
            DemoArgs::augment_args(clap::Command::new("demo")),
            RunArgs::augment_args(clap::Command::new("run")),
            StatusArgs::augment_args(clap::Command::new("status")),
            DumpArgs::augment_args(clap::Command::new("dump")),
        ];
        listed.into_iter().chain(settled).collect()
    }

    #[test]
    fn every_command_has_an_example_and_every_flag_a_sentence() {
        for command in commands() {
            let name = command.get_name();
            command.clone().debug_assert();
            assert!(command.get_about().is_some(), "{name} says what it does");
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains(&format!("lateen {name}")), "{name} has an example in after_help");
            for argument in command.get_arguments() {
                let id = argument.get_id();
                assert!(argument.get_help().is_some(), "{name} {id} has a sentence of help");
            }
        }
    }
}
