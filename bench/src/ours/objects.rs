//! What users would write: two services, 200 routes on each of their hosts, policies, retries and limits.

use std::fmt::Write as _;

/// The service with an HTTP/1.1 backend.
pub(crate) const HOST: &str = "backend.default.svc.cluster.local";

/// The service with an HTTP/2 backend.
pub(crate) const HOST_HTTP2: &str = "backend-h2.default.svc.cluster.local";

/// The port of both.
pub(super) const PORT: u16 = 80;

/// Routes on each host; the last takes everything.
pub(crate) const ROUTES: u32 = 200;

/// What a route asks for: a quarter each by header, whole path, prefix and regular expression.
pub(crate) enum RouteKind {
    Header { prefix: String, header: &'static str, value: String },
    Exact(String),
    Prefix(String),
    Regex(String),
}

impl RouteKind {
    pub(crate) fn of(number: u32) -> Self {
        match number % 4 {
            _ if number + 1 == ROUTES => Self::Prefix("/".to_owned()),
            0 => Self::Header {
                prefix: format!("/tenants/{number}/"),
                header: "x-tenant",
                value: format!("tenant-{number}"),
            },
            1 => Self::Exact(format!("/exact/{number}/item")),
            2 => Self::Prefix(format!("/api/v1/r{number}/")),
            _ => Self::Regex(format!("/items/{number}/[0-9]+/detail")),
        }
    }

    fn to_match(&self) -> String {
        match self {
            Self::Header { prefix, header, value } => {
                format!("uri: {{prefix: {prefix}}}, headers: {{{header}: {{exact: {value}}}}}")
            }
            Self::Exact(path) => format!("uri: {{exact: {path}}}"),
            Self::Prefix(prefix) => format!("uri: {{prefix: {prefix}}}"),
            Self::Regex(regex) => format!("uri: {{regex: '{regex}'}}"),
        }
    }
}

/// Services and nothing else.
pub(super) fn minimal(ports: [u16; 2], is_logged: bool) -> String {
    let log = if is_logged { "All" } else { "Off" };
    let mesh = format!(
        "---
apiVersion: lateen.dev/v1alpha1
kind: Mesh
metadata: {{name: default}}
spec: {{accessLog: {log}}}
"
    );
    format!("{mesh}{}{}", service("backend", "http", ports[0]), service("backend-h2", "http2", ports[1]))
}

/// Everything.
pub(super) fn full(ports: [u16; 2], gateway_port: u16, is_logged: bool) -> String {
    let mut text = minimal(ports, is_logged);
    let _ = write!(
        text,
        "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: bench, namespace: default}}
spec:
  selector: {{app: gateway}}
  servers:
  - port: {{number: {gateway_port}, name: http, protocol: HTTP}}
    hosts: ['*']
"
    );
    for name in ["backend", "backend-h2"] {
        text.push_str(&routes(name));
        text.push_str(&limits(name));
    }
    for name in ["backend", "gateway"] {
        text.push_str(&policies(name));
    }
    text
}

fn service(name: &str, port_name: &str, target_port: u16) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  selector: {{app: backend}}
  ports: [{{name: {port_name}, port: {PORT}, targetPort: {target_port}}}]
"
    )
}

fn routes(name: &str) -> String {
    let mut text = format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: default}}
spec:
  hosts: [{name}.default.svc.cluster.local]
  gateways: [mesh, bench]
  http:
"
    );
    for number in 0..ROUTES {
        let _ = write!(
            text,
            "  - match: [{{{}}}]
    timeout: 15s
    retries: {{attempts: 2, perTryTimeout: 5s, retryOn: 'gateway-error,connect-failure,refused-stream'}}
    route: [{{destination: {{host: {name}}}}}]
",
            RouteKind::of(number).to_match()
        );
    }
    text
}

fn limits(name: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: default}}
spec:
  host: {name}
  trafficPolicy:
    connectionPool:
      tcp: {{maxConnections: 10000}}
      http: {{http1MaxPendingRequests: 10000, http2MaxRequests: 10000, maxRetries: 100}}
    outlierDetection: {{consecutive5xxErrors: 50, interval: 10s, baseEjectionTime: 30s}}
"
    )
}

fn policies(app: &str) -> String {
    format!(
        "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: deny-admin-{app}, namespace: default}}
spec:
  selector: {{matchLabels: {{app: {app}}}}}
  action: DENY
  rules: [{{to: [{{operation: {{paths: ['/admin*']}}}}]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: allow-calls-{app}, namespace: default}}
spec:
  selector: {{matchLabels: {{app: {app}}}}}
  rules: [{{to: [{{operation: {{methods: [GET, POST], paths: ['/*']}}}}]}}]
"
    )
}
