//! `connectionPool`.

use crate::problem::Draft;
use crate::read::Fields;
use lateen_model::{ConnectionPool, H2Upgrade, Http2Keepalive, TcpKeepalive};
use std::time::Duration;

/// How long an answer to a ping may take, where nothing is said.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn read(policy: &Fields<'_>) -> ConnectionPool {
    let mut pool = ConnectionPool::default();
    let Some(fields) = policy.fields("connectionPool", &["tcp", "http"], &[]) else { return pool };
    tcp(&fields, &mut pool);
    http(&fields, &mut pool);
    pool
}

fn tcp(fields: &Fields<'_>, pool: &mut ConnectionPool) {
    let Some(tcp) = fields.fields(
        "tcp",
        &["maxConnections", "connectTimeout", "tcpKeepalive", "maxConnectionDuration", "idleTimeout"],
        &[],
    ) else {
        return;
    };
    pool.max_connections = tcp.limit("maxConnections");
    pool.connect_timeout = tcp.span_of_time("connectTimeout").map(|at| at.value);
    pool.max_connection_duration = tcp.span_of_time("maxConnectionDuration").map(|at| at.value);
    pool.tcp_idle_timeout = tcp.duration("idleTimeout").map(|at| at.value);
    pool.tcp_keepalive =
        tcp.fields("tcpKeepalive", &["probes", "time", "interval"], &[]).map(|keepalive| TcpKeepalive {
            probes: keepalive.limit("probes"),
            time: keepalive.span_of_time("time").map(|at| at.value),
            interval: keepalive.span_of_time("interval").map(|at| at.value),
        });
}

fn http(fields: &Fields<'_>, pool: &mut ConnectionPool) {
    let Some(http) = fields.fields(
        "http",
        &[
            "http1MaxPendingRequests",
            "http2MaxRequests",
            "maxRequestsPerConnection",
            "maxRetries",
            "idleTimeout",
            "h2UpgradePolicy",
            "useClientProtocol",
            "maxConcurrentStreams",
            "http2KeepAlive",
        ],
        &[],
    ) else {
        return;
    };
    pool.max_pending_requests = http.limit("http1MaxPendingRequests");
    pool.max_requests = http.limit("http2MaxRequests");
    pool.max_requests_per_connection = http.limit("maxRequestsPerConnection");
    pool.max_retries = http.limit("maxRetries");
    pool.http_idle_timeout = http.duration("idleTimeout").map(|at| at.value);
    let words = [
        ("DEFAULT", H2Upgrade::Default),
        ("DO_NOT_UPGRADE", H2Upgrade::Never),
        ("UPGRADE", H2Upgrade::Upgrade),
    ];
    pool.h2_upgrade = http.choice("h2UpgradePolicy", &words).map(|at| at.value);
    pool.use_client_protocol = http.boolean("useClientProtocol");
    if pool.use_client_protocol == Some(true) && pool.h2_upgrade == Some(H2Upgrade::Upgrade) {
        let message = "`useClientProtocol` and `h2UpgradePolicy: UPGRADE` exclude each other";
        http.reader.push(Draft::error(http.key_span("useClientProtocol"), message));
    }
    pool.max_concurrent_streams = http.limit("maxConcurrentStreams");
    pool.http2_keepalive = http.fields("http2KeepAlive", &["interval", "timeout"], &[]).and_then(|ping| {
        ping.need("interval")?;
        Some(Http2Keepalive {
            interval: ping.span_of_time("interval")?.value,
            timeout: ping.span_of_time("timeout").map_or(PING_TIMEOUT, |at| at.value),
        })
    });
}
