//! For people or for programs.

use clap::{Args, ValueEnum};

/// How a result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// The flag of commands whose result programs read as well.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct FormatArgs {
    /// Write the result for people or for programs.
    #[arg(long, short, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub output: Format,
}
