//! What `up` and `demo` may use of the machine.

use clap::{Args, ValueEnum};
use ipnet::IpNet;

/// How processes are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Environment {
    /// The best that a throw-away pod shows to work.
    #[default]
    Auto,
    /// Network namespaces, made directly.
    Root,
    /// Network namespaces inside a user namespace.
    User,
    /// No namespaces: addresses in 127.64.0.0/10; no security boundary.
    Plain,
}

/// How a mesh is laid over the machine.
#[derive(Debug, Clone, Args)]
pub struct SandboxArgs {
    /// How processes are kept apart; found out when absent.
    #[arg(long, value_enum, default_value_t = Environment::Auto, value_name = "HOW")]
    pub environment: Environment,

    /// Range of the pods' addresses, one for each family; kept in the state directory.
    #[arg(long, value_name = "CIDR")]
    pub pod_range: Vec<IpNet>,

    /// Range of the services' addresses, one for each family; kept in the state directory.
    #[arg(long, value_name = "CIDR")]
    pub service_range: Vec<IpNet>,

    /// Threads of each sidecar.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub sidecar_workers: u16,
}
