//! What Envoy is told: the same routes, policies, retries and limits as ours.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::ours::Certificate;
use crate::ours::objects::{HOST, HOST_HTTP2, ROUTES, RouteKind};

const HTTP: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
                    HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const RBAC: &str = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC";
const UPSTREAM_TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const DOWNSTREAM_TLS: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const OPTIONS: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Callers in plaintext, policies, all routes, both backends in plaintext.
pub(super) fn single(listen: SocketAddr, http1: SocketAddr, http2: SocketAddr) -> Value {
    let hosts = json!([routes("one", HOST, "one"), routes("two", HOST_HTTP2, "two")]);
    let clusters = json!([cluster("one", http1, false), cluster("two", http2, true)]);
    let listener = listener(listen, hosts, policies(), None);
    json!({ "static_resources": { "listeners": [listener], "clusters": clusters } })
}

/// Callers in plaintext, all routes, mTLS to the other.
pub(super) fn client(listen: SocketAddr, other: SocketAddr, files: &Certificate) -> Value {
    let mut cluster = cluster("one", other, false);
    cluster["transport_socket"] = tls(UPSTREAM_TLS, files);
    let listener = listener(listen, json!([routes("one", HOST, "one")]), Vec::new(), None);
    json!({ "static_resources": { "listeners": [listener], "clusters": [cluster] } })
}

/// Callers by mTLS alone, policies, one route to the backend.
pub(super) fn server(listen: SocketAddr, http1: SocketAddr, files: &Certificate) -> Value {
    let all = json!({ "match": { "prefix": "/" }, "route": { "cluster": "one", "timeout": "0s" } });
    let hosts = json!([{ "name": "all", "domains": ["*"], "routes": [all] }]);
    let mut tls = tls(DOWNSTREAM_TLS, files);
    tls["typed_config"]["require_client_certificate"] = true.into();
    tls["typed_config"]["common_tls_context"]["alpn_protocols"] = json!(["h2", "http/1.1"]);
    // Ours has no resumption either, since it would skip the verification of the caller.
    tls["typed_config"]["disable_stateless_session_resumption"] = true.into();
    let listener = listener(listen, hosts, policies(), Some(tls));
    json!({ "static_resources": { "listeners": [listener], "clusters": [cluster("one", http1, false)] } })
}

fn listener(listen: SocketAddr, hosts: Value, mut filters: Vec<Value>, tls: Option<Value>) -> Value {
    filters.push(json!({ "name": "router", "typed_config": { "@type": ROUTER } }));
    let mut manager = json!({
        "@type": HTTP,
        "stat_prefix": "bench",
        "codec_type": "AUTO",
        "route_config": { "virtual_hosts": hosts },
        "http_filters": filters,
    });
    let mut chain = json!({});
    if let Some(tls) = tls {
        manager["forward_client_cert_details"] = "SANITIZE_SET".into();
        manager["set_current_client_cert_details"] = json!({ "uri": true });
        chain["transport_socket"] = tls;
    }
    chain["filters"] = json!([{ "name": "http", "typed_config": manager }]);
    json!({ "address": socket(listen), "filter_chains": [chain] })
}

/// Two filters: nobody may see `/admin`, everybody may read and call.
fn policies() -> Vec<Value> {
    let anybody = json!([{ "any": true }]);
    let path = |prefix: &str| json!({ "url_path": { "path": { "prefix": prefix } } });
    let method = |name: &str| json!({ "header": { "name": ":method", "string_match": { "exact": name } } });
    let methods = json!({ "or_rules": { "rules": [method("GET"), method("POST")] } });
    let read = json!({ "and_rules": { "rules": [methods, path("/")] } });
    [("DENY", path("/admin")), ("ALLOW", read)]
        .map(|(action, permission)| {
            let policy = json!({ "permissions": [permission], "principals": anybody });
            let rules = json!({ "action": action, "policies": { "policy": policy } });
            json!({ "name": action, "typed_config": { "@type": RBAC, "rules": rules } })
        })
        .into()
}

fn routes(name: &str, host: &str, cluster: &str) -> Value {
    let retries = json!({
        "retry_on": "gateway-error,connect-failure,refused-stream",
        "num_retries": 2,
        "per_try_timeout": "5s",
    });
    let action = json!({ "cluster": cluster, "timeout": "15s", "retry_policy": retries });
    let routes: Vec<Value> = (0..ROUTES)
        .map(|number| match RouteKind::of(number) {
            RouteKind::Header { prefix, header, value } => json!({
                "prefix": prefix,
                "headers": [{ "name": header, "string_match": { "exact": value } }],
            }),
            RouteKind::Exact(path) => json!({ "path": path }),
            RouteKind::Prefix(prefix) => json!({ "prefix": prefix }),
            RouteKind::Regex(regex) => json!({ "safe_regex": { "regex": regex } }),
        })
        .map(|matching| json!({ "match": matching, "route": action }))
        .collect();
    json!({ "name": name, "domains": [host], "routes": routes })
}

fn cluster(name: &str, to: SocketAddr, is_http2: bool) -> Value {
    let endpoint = json!({ "endpoint": { "address": socket(to) } });
    let protocol = if is_http2 { "http2_protocol_options" } else { "http_protocol_options" };
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": OPTIONS,
                "explicit_http_config": { protocol: {} },
            },
        },
        "circuit_breakers": { "thresholds": [{
            "max_connections": 10_000, "max_pending_requests": 10_000, "max_requests": 10_000, "max_retries": 100,
        }] },
        "outlier_detection": { "consecutive_5xx": 50, "interval": "10s", "base_ejection_time": "30s" },
    })
}

fn tls(kind: &str, files: &Certificate) -> Value {
    let certificate = json!({
        "certificate_chain": { "filename": files.chain },
        "private_key": { "filename": files.key },
    });
    let common = json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
        "tls_certificates": [certificate],
        "validation_context": { "trusted_ca": { "filename": files.roots } },
    });
    json!({ "name": "tls", "typed_config": { "@type": kind, "common_tls_context": common } })
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}
