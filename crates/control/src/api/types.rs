//! What travels over the API: plain JSON, names in camel case as in the objects that users write. Points in time
//! are seconds since 1970.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// `GET /v1/status`: is the mesh well?
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// Whether proxies are served.
    pub ready: bool,
    /// What is still waited for.
    pub waiting_for: Vec<String>,
    /// The newest state of the mesh.
    pub revision: u64,
    /// The trust domain of all identities.
    pub trust_domain: String,
    /// Objects here hold for every namespace.
    pub root_namespace: String,
    /// Where the objects are read from.
    pub directory: String,
    /// Where the state is kept.
    pub state: String,
    /// Where changes come from.
    pub sources: Vec<Source>,
    /// Resources by kind.
    pub resources: BTreeMap<String, usize>,
    /// Connected proxies.
    pub proxies: Vec<Proxy>,
    /// The authority's own certificates.
    pub authority: Option<Authority>,
    /// Objects that are broken, stale, or not wholly enforced.
    pub objects: Vec<Object>,
    /// Problems that belong to no object.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// One source of changes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// `files`, `registration`.
    pub name: String,
    /// Whether all that was there at the start has been read.
    pub synced: bool,
    /// What could not be read.
    #[serde(default)]
    pub problems: Vec<String>,
}

/// One connected proxy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proxy {
    /// How it calls itself: `<instance>.<namespace>`.
    pub node: String,
    /// Who it is.
    pub identity: String,
    /// `sidecar`, `gateway`, `waypoint`, `node`.
    pub role: String,
    /// The newest state that it has in force.
    pub revision: Option<u64>,
    /// Whether that is the newest there is.
    pub current: bool,
    /// Resources that it refused, with why.
    #[serde(default)]
    pub refused: BTreeMap<String, String>,
    /// When its certificate ends, if it got one from this control plane or showed one.
    pub certificate_expires: Option<u64>,
    /// Since when it is connected.
    pub connected_since: u64,
}

/// The certificates of the authority.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authority {
    /// When the root ends.
    pub root_expires: u64,
    /// When the control plane's own certificate ends.
    pub server_expires: u64,
    /// Certificates signed since the start.
    pub issued: u64,
    /// The roots, PEM.
    pub roots: String,
}

/// One user object and what became of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// `apiVersion` group and kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The file it stands in.
    pub file: String,
    /// The line it begins at.
    pub line: u32,
    /// What is to be said of it in one word.
    pub state: ObjectState,
    /// What holds of it.
    #[serde(default)]
    pub conditions: Vec<Condition>,
    /// What is wrong in it.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// What is to be said of an object in one word: the worst that holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ObjectState {
    /// It is in force as it is written.
    Accepted,
    /// It is in force, but refers to something that is not there or not allowed.
    Unresolved,
    /// Some of its fields are not enforced yet.
    Unsupported,
    /// Nothing of it is enforced yet.
    NotEnforced,
    /// Another object that came first wants the same.
    Conflicted,
    /// An older version is in force, since the text is broken.
    Stale,
    /// It is not in force.
    Rejected,
}

/// One statement about an object, as Kubernetes has them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Accepted`, `ResolvedRefs`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: bool,
    /// One word.
    pub reason: String,
    /// A sentence; may be empty.
    #[serde(default)]
    pub message: String,
}

impl Object {
    /// Whether there is nothing to say about it.
    pub fn is_well(&self) -> bool {
        self.state == ObjectState::Accepted && self.problems.is_empty()
    }
}

/// One problem of an object or a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `error`, `unsupported`, `warning`.
    pub severity: String,
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// What is wrong, what was expected, what was perhaps meant.
    pub message: String,
}

/// `GET /v1/objects`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Objects {
    /// The state of the mesh they are of.
    pub revision: u64,
    /// All objects, by kind, namespace and name.
    pub objects: Vec<Object>,
    /// Problems that belong to no object: files that are not YAML, kinds that are not known.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// `POST /v1/tokens`: a join token for this identity.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenRequest {
    /// The SPIFFE id that the proxy will get a certificate for.
    pub identity: String,
    /// The workload it is for; for logs.
    #[serde(default)]
    pub uid: Option<String>,
}

/// The answer to [`TokenRequest`]. Its `Debug` does not show the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenAnswer {
    /// Good for one certificate and one stream.
    pub token: String,
    /// When it expires.
    pub expires: u64,
    /// The roots that the control plane's own certificate chains to, PEM.
    pub roots: String,
    /// Who the control plane is.
    pub control_identity: String,
}

impl std::fmt::Debug for TokenAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenAnswer").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// One line of `GET /v1/processes`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Processes {
    /// The state of the mesh they are of.
    pub revision: u64,
    /// What should run, by namespace and name.
    pub processes: Vec<Process>,
}

/// What should run as workloads of the mesh.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// The key of the object it was made from, in its printed form.
    pub key: String,
    /// Its name; instances are called `<name>-<ordinal>`.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Labels of its instances.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The account its instances act as.
    pub service_account: String,
    /// What runs.
    pub run: Run,
    /// Ports it listens on.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// How many.
    pub replicas: u32,
    /// When it may be sent to.
    pub readiness: Option<Probe>,
    /// `Always`, `OnFailure`, `Never`.
    pub restart: Restart,
}

/// What runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Run {
    /// A command of the user.
    Command(Command),
    /// Nothing but a proxy that plays a gateway.
    Gateway,
}

/// A command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Command {
    /// The program and its first arguments.
    pub command: Vec<String>,
    /// Further arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where it starts, relative to the directory of the objects.
    pub working_dir: Option<String>,
}

/// A port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// Its name, empty where none was given.
    #[serde(default)]
    pub name: String,
    /// Its number.
    pub port: u16,
}

/// When a process may be sent to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Probe {
    /// How it is asked.
    pub check: ProbeCheck,
    /// Wait before the first, in milliseconds.
    pub initial_delay_ms: u64,
    /// Between two, in milliseconds.
    pub period_ms: u64,
    /// The longest one may take, in milliseconds.
    pub timeout_ms: u64,
    /// So many failures in a row make it unready.
    pub failure_threshold: u32,
    /// So many successes in a row make it ready.
    pub success_threshold: u32,
}

/// How a process is asked whether it is ready.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProbeCheck {
    /// GET answers 200 to 399.
    HttpGet {
        /// Port of the process.
        port: u16,
        /// Path with query.
        path: String,
    },
    /// The port takes a connection.
    TcpSocket {
        /// Port of the process.
        port: u16,
    },
    /// A command ends with 0.
    Exec {
        /// The command and its arguments.
        command: Vec<String>,
    },
}

/// What happens when a process exits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Restart {
    /// It is started again.
    Always,
    /// Only after a failure.
    OnFailure,
    /// It stays ended.
    Never,
}

/// `PUT /v1/instances/<namespace>/<name>`: something that runs. Namespace and name stand in the path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Instance {
    /// The name of the Process it is of, or its own name.
    pub process: String,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The account it acts as.
    #[serde(default = "default_account")]
    pub service_account: String,
    /// Its addresses.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Names of its ports.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// How it is reached.
    #[serde(default)]
    pub tunnel: Tunnel,
    /// Whether it may be sent to.
    #[serde(default)]
    pub ready: bool,
    /// Where it runs.
    #[serde(default)]
    pub node: String,
}

/// One element of `GET /v1/instances`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamedInstance {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub instance: Instance,
}

fn default_account() -> String {
    "default".to_owned()
}

/// How a workload is reached.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Tunnel {
    /// Plain TCP: it has no proxy.
    #[default]
    None,
    /// HBONE on port 15008.
    Hbone,
    /// Istio's sidecar mTLS on the port itself.
    IstioMtls,
}

/// The body of every answer that is not 2xx.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ApiError {
    /// What went wrong, with a hint.
    pub error: String,
}
