//! The flags of `lateen dump`.

use clap::Args;

use super::StateArgs;

/// Print what a proxy believes, as YAML that a proxy can load again.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  lateen dump default/front > front.yaml
  lateen dump front")]
pub struct DumpArgs {
    /// Workload or gateway whose proxy is asked; in the namespace default when none is named.
    #[arg(value_name = "[NAMESPACE/]NAME")]
    pub proxy: String,

    #[command(flatten)]
    pub state: StateArgs,
}
