//! The flags of `lateen check`.

use std::path::PathBuf;

use clap::Args;

use super::FormatArgs;

/// Find what is wrong in files of YAML, without running anything.
///
/// Every problem has its file, line and column, what was expected and the nearest right name. Errors
/// exit with 1.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  lateen check examples/shop
  lateen check route.yaml policies/ --strict --output json")]
pub struct CheckArgs {
    /// Files, and directories with all that is below them.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Exit with 1 for warnings too.
    #[arg(long)]
    pub strict: bool,

    #[command(flatten)]
    pub format: FormatArgs,
}
