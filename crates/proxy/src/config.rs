//! `Bootstrap`: where a proxy is and who it is. What it does comes as resources.
//!
//! Read once at start, as JSON from an inherited descriptor or a file. Where a field is left out, its
//! default stands beside it; nothing here changes while the proxy runs.

use ipnet::IpNet;
use lateen_model::{
    ClusterId, Identity, InvalidName, Labels, Namespace, NetworkId, NodeName, ProxyRole, ServiceAccount, Str,
    TrustDomain, Viewer,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Everything a proxy must be told before it can ask for more.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bootstrap {
    /// `sidecar`, `gateway`, `waypoint` or `node`.
    pub role: String,
    /// The name of the workload, unique in its namespace.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The account it acts as.
    #[serde(default = "default_account")]
    pub service_account: String,
    /// The trust domain of the mesh.
    #[serde(default = "default_trust_domain")]
    pub trust_domain: String,
    /// Labels of the workload.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The node it runs on.
    #[serde(default)]
    pub node: String,
    /// The cluster it belongs to.
    #[serde(default = "default_cluster")]
    pub cluster: String,
    /// The network its addresses are in.
    #[serde(default)]
    pub network: String,
    /// The addresses of the workload.
    #[serde(default)]
    pub addresses: Vec<std::net::IpAddr>,
    /// Where resources and certificates come from.
    pub control: Control,
    /// How many workers; none is as many as cores, at most 2 for a sidecar.
    #[serde(default)]
    pub workers: Option<usize>,
    /// Where the admin pages are served.
    #[serde(default)]
    pub admin: Option<Endpoint>,
    /// Ports that captured traffic arrives at; none where nothing is captured.
    #[serde(default)]
    pub capture: Option<CapturePorts>,
    /// Listeners of plain mode; none where traffic is captured.
    #[serde(default)]
    pub plain: Option<Plain>,
    /// The inherited end of the broker's socket pair; none where the machine is reached directly.
    #[serde(default)]
    pub broker_fd: Option<i32>,
    /// Networks that are reached without the broker, as CIDR.
    #[serde(default)]
    pub local_ranges: Vec<String>,
    /// Where names that the mesh does not know are asked for; none is through the broker, else nobody.
    #[serde(default)]
    pub resolver: Option<SocketAddr>,
    /// An inherited descriptor that the access log is written to; none is standard output.
    #[serde(default)]
    pub access_log_fd: Option<i32>,
    /// An inherited descriptor closed once the proxy holds certificate and snapshot and listens.
    #[serde(default)]
    pub ready_fd: Option<i32>,
    /// The longest that work under way may go on after a stop was asked for, in seconds.
    #[serde(default = "default_drain_seconds")]
    pub drain_seconds: u64,
}

/// Where resources and certificates come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "from")]
pub enum Control {
    /// A control plane.
    #[serde(rename_all = "camelCase")]
    Plane {
        /// Where it listens.
        at: Endpoint,
        /// The roots its certificate must chain to, PEM.
        root_certificates: String,
        /// Who it is, a SPIFFE id.
        identity: String,
        /// A join token, for the first certificate.
        token: Option<String>,
    },
    /// Files, for a proxy without a control plane.
    #[serde(rename_all = "camelCase")]
    Files {
        /// Resources in the canonical YAML that `/dump` prints.
        resources: PathBuf,
        /// Certificate chain, PEM; none is plaintext only.
        certificate_chain: Option<PathBuf>,
        /// Its key, PEM.
        private_key: Option<PathBuf>,
        /// Roots of peers, PEM.
        root_certificates: Option<PathBuf>,
    },
}

/// An address or a unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Endpoint {
    /// A path, mode 0600.
    Socket(PathBuf),
    /// An address and port.
    Address(SocketAddr),
}

/// Ports that captured traffic arrives at (Istio's numbers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CapturePorts {
    /// What the application sends.
    pub outbound: u16,
    /// What others send in plaintext.
    pub inbound: u16,
    /// HBONE.
    pub hbone: u16,
    /// Names.
    pub dns: u16,
    /// The mark on our own sockets, so that they are not captured again.
    pub mark: u32,
}

impl Default for CapturePorts {
    fn default() -> Self {
        Self { outbound: 15001, inbound: 15006, hbone: 15008, dns: 15053, mark: 0x539 }
    }
}

/// Listeners of plain mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plain {
    /// Where HBONE is listened for.
    pub hbone: SocketAddr,
    /// Ports of the workload and where its application really listens.
    #[serde(default)]
    pub inbound: Vec<PlainInbound>,
    /// Addresses that stand for services.
    #[serde(default)]
    pub outbound: Vec<PlainOutbound>,
    /// Where requests to any host are taken (`HTTP_PROXY`).
    #[serde(default)]
    pub http_proxy: Option<SocketAddr>,
}

/// A port of the workload and where its application really listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlainInbound {
    /// The address others use.
    pub listen: SocketAddr,
    /// Where the application listens.
    pub forward: SocketAddr,
}

/// An address that stands for a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlainOutbound {
    /// The address the application uses.
    pub listen: SocketAddr,
    /// The service's host name, as the user wrote it.
    pub host: String,
    /// The service's port.
    pub port: u16,
}

fn default_account() -> String {
    "default".to_owned()
}

fn default_trust_domain() -> String {
    "cluster.local".to_owned()
}

fn default_cluster() -> String {
    "Kubernetes".to_owned()
}

fn default_drain_seconds() -> u64 {
    45
}

/// A bootstrap that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidBootstrap {
    /// It is no JSON of this form.
    #[error("read the bootstrap as JSON")]
    Json(#[from] serde_json::Error),
    /// A name in it has the wrong form.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A role that does not exist.
    #[error("role {0:?} is unknown; expected sidecar, gateway, waypoint or node")]
    Role(String),
    /// A range that is no CIDR.
    #[error("local range {0:?} is not a network; expected for example 10.0.0.0/8")]
    Range(String),
    /// A role that nobody can play yet.
    #[error("the role {0} cannot be played yet; expected sidecar or gateway")]
    NotPlayed(&'static str),
    /// A sidecar that would hear nothing.
    #[error("a sidecar listens nowhere; expected capture or plain in the bootstrap")]
    NoListeners,
}

impl Bootstrap {
    /// Reads a bootstrap.
    ///
    /// # Errors
    /// When it is no JSON of this form; names are checked by [`Bootstrap::viewer`].
    pub fn parse(json: &[u8]) -> Result<Self, InvalidBootstrap> {
        Ok(serde_json::from_slice(json)?)
    }

    /// The role.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn role(&self) -> Result<ProxyRole, InvalidBootstrap> {
        [ProxyRole::Node, ProxyRole::Sidecar, ProxyRole::Waypoint, ProxyRole::Gateway]
            .into_iter()
            .find(|role| role.as_str() == self.role)
            .ok_or_else(|| InvalidBootstrap::Role(self.role.clone()))
    }

    /// Who this proxy is.
    ///
    /// # Errors
    /// When a name has the wrong form.
    pub fn identity(&self) -> Result<Identity, InvalidBootstrap> {
        Ok(Identity::new(
            TrustDomain::parse(&self.trust_domain)?,
            Namespace::parse(&self.namespace)?,
            ServiceAccount::parse(&self.service_account)?,
        ))
    }

    /// How it presents itself to a control plane and to the compiler.
    ///
    /// # Errors
    /// When a name has the wrong form or the role is unknown.
    pub fn viewer(&self) -> Result<Viewer, InvalidBootstrap> {
        Ok(Viewer {
            role: self.role()?,
            name: Str::from(&self.name),
            identity: self.identity()?,
            labels: self.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect::<Labels>(),
            node: NodeName::parse(&self.node)?,
            network: NetworkId::parse(&self.network)?,
        })
    }

    /// Networks that are reached without the broker.
    ///
    /// # Errors
    /// When one is no network.
    pub fn local_ranges(&self) -> Result<Vec<IpNet>, InvalidBootstrap> {
        let read = |range: &String| range.parse().map_err(|_| InvalidBootstrap::Range(range.clone()));
        self.local_ranges.iter().map(read).collect()
    }

    /// The cluster.
    ///
    /// # Errors
    /// When its name has the wrong form.
    pub fn cluster(&self) -> Result<ClusterId, InvalidBootstrap> {
        Ok(ClusterId::parse(&self.cluster)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"{"role":"sidecar","name":"cart-0","namespace":"shop",
        "control":{"from":"plane","at":{"socket":"/run/c.sock"},"rootCertificates":"","identity":"spiffe://cluster.local/ns/istio-system/sa/lateen-control","token":"t"}}"#;

    #[test]
    fn a_small_bootstrap_gets_the_defaults() {
        let bootstrap = Bootstrap::parse(SMALL.as_bytes()).unwrap();
        let viewer = bootstrap.viewer().unwrap();
        assert_eq!(viewer.identity.to_string(), "spiffe://cluster.local/ns/shop/sa/default");
        assert_eq!((viewer.role, bootstrap.drain_seconds), (ProxyRole::Sidecar, 45));
        let again = Bootstrap::parse(&serde_json::to_vec(&bootstrap).unwrap()).unwrap();
        assert_eq!(again.viewer().unwrap(), viewer);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong =
            Bootstrap::parse(SMALL.replace("sidecar", "sidekick").as_bytes()).unwrap().role().unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "role \"sidekick\" is unknown; expected sidecar, gateway, waypoint or node"
        );
        assert!(Bootstrap::parse(SMALL.replace("\"name\"", "\"nom\"").as_bytes()).is_err());
        let mut bootstrap = Bootstrap::parse(SMALL.as_bytes()).unwrap();
        bootstrap.local_ranges = vec!["10.0.0.0/8".to_owned(), "fd00::/8".to_owned()];
        assert_eq!(bootstrap.local_ranges().unwrap().len(), 2);
        bootstrap.local_ranges.push("10.0.0.0/99".to_owned());
        assert!(bootstrap.local_ranges().unwrap_err().to_string().contains("10.0.0.0/99"));
    }
}
