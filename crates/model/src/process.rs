//! `Process` (what should run) and `Instance` (what does).

use crate::{Key, Labels, Namespace, NodeName, ServiceAccount, Str, Tunnel};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// A command to run as workloads of the mesh (`lateen.dev/v1alpha1` Process), or a gateway that some
/// Gateway object asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    /// The object it was made from.
    pub key: Key,
    /// Its name; instances are called `<name>-<ordinal>`.
    pub name: Str,
    /// Its namespace.
    pub namespace: Namespace,
    /// Labels of its instances.
    pub labels: Labels,
    /// The account its instances act as.
    pub service_account: ServiceAccount,
    /// What runs.
    pub run: Run,
    /// Ports it listens on.
    pub ports: Vec<ProcessPort>,
    /// How many.
    pub replicas: u32,
    /// When it may be sent to.
    pub readiness: Option<Probe>,
    /// What happens when it exits.
    pub restart: RestartPolicy,
}

/// What runs in a process' pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Run {
    /// A command of the user.
    Command(Command),
    /// Nothing but a proxy that plays a gateway.
    Gateway,
}

/// A command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// The program and its first arguments.
    pub command: Vec<Str>,
    /// Further arguments.
    pub args: Vec<Str>,
    /// Environment, added to that of `up`.
    pub env: BTreeMap<Str, Str>,
    /// Where it starts, relative to the directory of the objects.
    pub working_dir: Option<Str>,
}

/// A port that a process listens on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessPort {
    /// Its name, empty where none was given.
    pub name: Str,
    /// Its number.
    pub port: u16,
}

/// When a process may be sent to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// How it is asked.
    pub check: ProbeCheck,
    /// Wait before the first.
    pub initial_delay: Duration,
    /// Between two.
    pub period: Duration,
    /// The longest one may take.
    pub timeout: Duration,
    /// So many failures in a row make it unready.
    pub failure_threshold: u32,
    /// So many successes in a row make it ready.
    pub success_threshold: u32,
}

/// How a process is asked whether it is ready.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeCheck {
    /// GET answers 200 to 399.
    HttpGet {
        /// Port of the process.
        port: u16,
        /// Path with query.
        path: Str,
    },
    /// The port takes a connection.
    TcpSocket {
        /// Port of the process.
        port: u16,
    },
    /// A command ends with 0.
    Exec {
        /// The command and its arguments.
        command: Vec<Str>,
    },
}

/// What happens when a process exits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum RestartPolicy {
    /// It is started again, with growing waits.
    #[default]
    Always,
    /// Only after a failure.
    OnFailure,
    /// It stays ended.
    Never,
}

/// An instance that runs and was registered: it becomes a `Workload`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Instance {
    /// Its name, unique within the namespace (`reviews-v1-0`).
    pub name: Str,
    /// Its namespace.
    pub namespace: Namespace,
    /// The Process it is of (its name), or its own name.
    pub process: Str,
    /// Its labels.
    pub labels: Labels,
    /// The account it acts as.
    pub service_account: ServiceAccount,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Names of its ports, for services that name their target port.
    pub ports: Vec<ProcessPort>,
    /// How it is reached.
    pub tunnel: Tunnel,
    /// Whether it may be sent to.
    pub ready: bool,
    /// Where it runs.
    pub node: NodeName,
}
