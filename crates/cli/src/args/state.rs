//! Which mesh of this machine is meant.

use std::path::PathBuf;

use clap::Args;

/// Where a mesh keeps what outlives it: root key, last good objects, addresses, registrations.
#[derive(Debug, Clone, Default, Args)]
pub struct StateArgs {
    /// State directory of the mesh; per user, under the XDG state home, when absent.
    #[arg(long, value_name = "PATH", env = "LATEEN_STATE", hide_env_values = true)]
    pub state: Option<PathBuf>,
}
