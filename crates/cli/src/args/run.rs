//! The flags of `lateen run`.

use std::ffi::OsString;

use clap::Args;

use super::StateArgs;

/// Join one more process to the running mesh.
///
/// The process has its own address, name and identity in the mesh for as long as this command runs;
/// its output and its exit code are this command's.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  lateen run --name cart --port 8080 -- ./cart
  lateen run --name shell --namespace tools -- bash")]
pub struct RunArgs {
    /// Name of the workload, and of its service when it has a port.
    #[arg(long)]
    pub name: String,

    /// Namespace of the workload.
    #[arg(long, short, default_value = "default")]
    pub namespace: String,

    /// Service account that its identity names.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub service_account: String,

    /// Port that the process listens on; repeatable.
    #[arg(long, short, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Vec<u16>,

    /// Label of the workload; repeatable.
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub label: Vec<String>,

    #[command(flatten)]
    pub state: StateArgs,

    /// Program and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
