//! Envoy as Istio would configure it for the same objects.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde_json::Value;

use crate::peers::Peer;
use crate::process::{Process, eventually};

/// A running Envoy.
pub struct Envoy {
    process: Process,
    log: PathBuf,
    /// Where it listens.
    pub address: SocketAddr,
}

/// A cluster: its name, where it is, whether it speaks HTTP/2.
pub type Cluster<'a> = (&'a str, SocketAddr, bool);

impl Envoy {
    /// Starts one with these virtual hosts (a YAML flow sequence) and clusters.
    ///
    /// # Errors
    /// When it does not serve.
    pub fn start(folder: &Path, virtual_hosts: &str, clusters: &[Cluster<'_>]) -> anyhow::Result<Self> {
        let (config, log) = (folder.join("envoy.yaml"), folder.join("envoy.log"));
        let admin = folder.join("envoy.admin");
        let clusters: Vec<String> = clusters.iter().map(cluster).collect();
        let text = TEMPLATE
            .replace("LOG", &log.to_string_lossy())
            .replace("VIRTUAL_HOSTS", virtual_hosts)
            .replace("CLUSTERS", &clusters.join("\n"));
        std::fs::write(&config, text)?;
        let errors = std::fs::File::create(folder.join("envoy.errors"))?;
        let mut command = Command::new(Peer::Envoy.need()?);
        command.arg("-c").arg(&config).arg("--admin-address-path").arg(&admin);
        command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error"]);
        command.args(["--file-flush-interval-msec", "100"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        let mut process = Process::start(command)?;
        let address = eventually("Envoy listens", || {
            if !process.is_alive() {
                return Some(None);
            }
            let admin = std::fs::read_to_string(&admin).ok()?.trim().parse().ok()?;
            listener(admin).map(Some)
        })?;
        let why = || std::fs::read_to_string(folder.join("envoy.errors")).unwrap_or_default();
        let address = address.with_context(|| format!("Envoy ended: {}", why()))?;
        Ok(Self { process, log, address })
    }

    /// Ends it, and gives the lines of its access log.
    ///
    /// # Errors
    /// When they are not JSON.
    pub fn finish(mut self) -> anyhow::Result<Vec<Value>> {
        self.process.end()?;
        let text = std::fs::read_to_string(&self.log)?;
        text.lines().map(|line| serde_json::from_str(line).context("a line of Envoy's log")).collect()
    }
}

/// Where it listens, once it is live.
fn listener(admin: SocketAddr) -> Option<SocketAddr> {
    let ready = crate::client::h1::get(admin, "/ready").ok()?;
    let listeners = crate::client::h1::get(admin, "/listeners?format=json").ok()?;
    if ready.status != 200 {
        return None;
    }
    let json: Value = serde_json::from_slice(&listeners.body).ok()?;
    let at = &json["listener_statuses"][0]["local_address"]["socket_address"];
    format!("{}:{}", at["address"].as_str()?, at["port_value"].as_u64()?).parse().ok()
}

fn cluster((name, at, http2): &Cluster<'_>) -> String {
    let options = if *http2 { HTTP2 } else { HTTP1 };
    format!(
        "  - {{name: {name}, type: STATIC, connect_timeout: 1s, {options}, load_assignment: {{cluster_name: {name}, \
         endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]}}}}",
        at.ip(),
        at.port()
    )
}

const HTTP2: &str = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: \
    {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
    explicit_http_config: {http2_protocol_options: {}}}}";
const HTTP1: &str = "typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: \
    {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, \
    explicit_http_config: {http_protocol_options: {enable_trailers: true}}}}";

/// A gateway: nobody in front of it is trusted; paths are normalised as Istio's BASE does; HTTP/1.0 and trailers are
/// taken, which both need a switch there.
const TEMPLATE: &str = r#"
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
  - name: gateway
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: gateway
          codec_type: AUTO
          server_name: istio-envoy
          use_remote_address: true
          # Nobody is internal; these addresses are for documentation.
          internal_address_config: {unix_sockets: false, cidr_ranges: [{address_prefix: 198.51.100.0, prefix_len: 24}]}
          normalize_path: true
          path_with_escaped_slashes_action: KEEP_UNCHANGED
          http_protocol_options: {accept_http_10: true, enable_trailers: true}
          upgrade_configs: [{upgrade_type: websocket}]
          access_log:
          - name: file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: LOG
              log_format:
                json_format:
                  user_agent: "%REQ(USER-AGENT)%"
                  path: "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"
                  status: "%RESPONSE_CODE%"
                  flags: "%RESPONSE_FLAGS%"
                  details: "%RESPONSE_CODE_DETAILS%"
                  route: "%ROUTE_NAME%"
                  cluster: "%UPSTREAM_CLUSTER%"
          route_config:
            ignore_port_in_host_matching: true
            virtual_hosts: VIRTUAL_HOSTS
          http_filters:
          - name: cors
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}
          - name: fault
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault}
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
CLUSTERS
"#;
