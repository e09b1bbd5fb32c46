//! What a test service is called, how it answers, where it listens.

use std::net::IpAddr;
use std::time::Duration;

use hyper::StatusCode;

use super::call::Call;

/// How the service answers.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name and version given in answers.
    pub name: String,
    pub version: String,
    /// The instance: the host's name.
    pub host: String,
    pub status: StatusCode,
    pub delay: Duration,
    /// 0 to 100.
    pub fail_percent: f64,
    pub calls: Vec<Call>,
    /// Answer 502 when a call fails.
    pub need_calls: bool,
    /// How long requests under way may take when the service is stopped.
    pub drain: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            name: "echo".to_owned(),
            version: String::new(),
            host: host_name(),
            status: StatusCode::OK,
            delay: Duration::ZERO,
            fail_percent: 0.0,
            calls: Vec::new(),
            need_calls: false,
            drain: Duration::from_secs(10),
        }
    }
}

/// Where the service listens.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    /// All addresses of both families when absent.
    pub address: Option<IpAddr>,
    pub http: Vec<u16>,
    pub grpc: Vec<u16>,
    pub tcp: Vec<u16>,
}

/// The name of this host: in a pod, the pod's.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
