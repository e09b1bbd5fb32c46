//! The flags of `lateen up`.

use std::path::PathBuf;

use clap::Args;

use super::{SandboxArgs, StateArgs};

/// Start the processes that a directory of YAML names, joined into one mesh.
///
/// The directory holds Kubernetes, Gateway API, Istio and lateen.dev objects; a file that is changed,
/// added or deleted changes the mesh at once. Ctrl-C stops everything.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  lateen up examples/shop
  lateen up . --state /var/lib/shop --environment plain")]
pub struct UpArgs {
    /// Directory of YAML files, read with its subdirectories.
    pub dir: PathBuf,

    #[command(flatten)]
    pub state: StateArgs,

    #[command(flatten)]
    pub sandbox: SandboxArgs,

    /// Let traffic pass that a security object not enforced yet would have to judge.
    #[arg(long)]
    pub allow_unenforced: bool,
}
