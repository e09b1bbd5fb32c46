//! The flags of `lateen demo`.

use clap::Args;

use super::SandboxArgs;

/// Start a small shop as a mesh and walk through what it can do, each step measured.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  lateen demo
  lateen demo --json
  lateen demo --keep")]
pub struct DemoArgs {
    #[command(flatten)]
    pub sandbox: SandboxArgs,

    /// Print the steps and what they measured as JSON, at the end.
    #[arg(long)]
    pub json: bool,

    /// Leave the shop running after the last step, until Ctrl-C.
    #[arg(long)]
    pub keep: bool,
}
