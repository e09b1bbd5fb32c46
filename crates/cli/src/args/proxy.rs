//! The flags of `lateen proxy`.

use std::path::PathBuf;

use clap::Args;

/// Run a proxy: a sidecar or a gateway.
///
/// Who it is and where its control plane listens is told by a bootstrap of JSON.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  lateen proxy --bootstrap-fd 3
  lateen proxy --bootstrap front.json --resources front.yaml")]
pub struct ProxyArgs {
    /// Inherited descriptor to read the bootstrap from.
    #[arg(long, value_name = "FD", required_unless_present = "bootstrap")]
    pub bootstrap_fd: Option<i32>,

    /// File to read the bootstrap from.
    #[arg(long, value_name = "PATH", conflicts_with = "bootstrap_fd")]
    pub bootstrap: Option<PathBuf>,

    /// Resources to serve, as `lateen dump` writes them, instead of a control plane's.
    #[arg(long, value_name = "PATH")]
    pub resources: Option<PathBuf>,
}
