//! The flags of `lateen status`.

use clap::Args;

use super::{FormatArgs, StateArgs};

/// Show whether the running mesh is well.
///
/// Proxies and the revision that each has acknowledged, certificates and when they expire, objects that
/// are stale or not enforced.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  lateen status
  lateen status --output json")]
pub struct StatusArgs {
    #[command(flatten)]
    pub state: StateArgs,

    #[command(flatten)]
    pub format: FormatArgs,
}
