//! How many connections and requests, for how long, and when an endpoint is left out.

use crate::Share;
use std::time::Duration;

/// Limits and times of the connections to a host. None is the default that stands there.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ConnectionPool {
    /// Connections at the same time, of one proxy (no limit). A request that would need one more waits, then is answered
    /// 503 `UO`.
    pub max_connections: Option<u32>,
    /// The longest a connection may take to open (10 s).
    pub connect_timeout: Option<Duration>,
    /// Keepalive of TCP (as the system has it).
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// A connection is closed when it is so old and has nothing under way (never).
    pub max_connection_duration: Option<Duration>,
    /// A TCP connection over which nothing moves is closed (1 h). Zero is never.
    pub tcp_idle_timeout: Option<Duration>,
    /// Requests that wait for a connection (no limit).
    pub max_pending_requests: Option<u32>,
    /// Requests under way (no limit).
    pub max_requests: Option<u32>,
    /// Requests over one connection before it is closed (no limit).
    pub max_requests_per_connection: Option<u32>,
    /// Retries under way (no limit).
    pub max_retries: Option<u32>,
    /// A kept connection without requests is closed (1 h). Zero is never.
    pub http_idle_timeout: Option<Duration>,
    /// Whether HTTP/1.1 becomes HTTP/2.
    pub h2_upgrade: Option<H2Upgrade>,
    /// The protocol of the caller is spoken with the endpoint.
    pub use_client_protocol: Option<bool>,
    /// Streams of one HTTP/2 connection at the same time (no limit but the endpoint's).
    pub max_concurrent_streams: Option<u32>,
    /// Pings on HTTP/2 connections.
    pub http2_keepalive: Option<Http2Keepalive>,
}

/// Whether HTTP/1.1 becomes HTTP/2 on its way.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum H2Upgrade {
    /// As the mesh says, which is no.
    #[default]
    Default,
    /// No.
    Never,
    /// Yes.
    Upgrade,
}

/// Keepalive of TCP; none is as the system has it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TcpKeepalive {
    /// Probes without an answer before the connection is dead.
    pub probes: Option<u32>,
    /// Silence before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
}

/// Pings on HTTP/2 connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Http2Keepalive {
    /// How often.
    pub interval: Duration,
    /// How long an answer may take before the connection is dead.
    pub timeout: Duration,
}

/// When an endpoint is left out, and for how long (Envoy's outlier detection, Istio's defaults).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutlierDetection {
    /// So many 5xx (and failures without an answer) in a row; 0 is never.
    pub consecutive_5xx: u32,
    /// So many 502, 503, 504 (and failures without an answer) in a row; 0 is never.
    pub consecutive_gateway_errors: u32,
    /// With `split_local_errors`: so many failures without an answer in a row; 0 is never.
    pub consecutive_local_failures: u32,
    /// Failures without an answer are counted apart from answers.
    pub split_local_errors: bool,
    /// How often ejections are looked at, for endpoints to return.
    pub interval: Duration,
    /// The first time out; the n-th time is n times as long.
    pub base_ejection_time: Duration,
    /// Of the endpoints, at most so many per cent are out (at least one may be).
    pub max_ejection_percent: u8,
    /// Below so many per cent of healthy endpoints the ejections are disregarded.
    pub min_health_percent: u8,
    /// Statuses that count as errors; empty is 5xx.
    pub error_statuses: Vec<(u16, u16)>,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway_errors: 0,
            consecutive_local_failures: 5,
            split_local_errors: false,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_percent: 10,
            min_health_percent: 0,
            error_statuses: Vec::new(),
        }
    }
}

/// How many retries at the same time, in proportion to requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryBudget {
    /// Of the requests under way (20 %).
    pub share: Share,
    /// So many are always allowed (3).
    pub minimum_concurrency: u32,
    /// Over which time requests are counted; zero is those under way now.
    pub interval: Duration,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { share: Share::per_million(200_000), minimum_concurrency: 3, interval: Duration::ZERO }
    }
}
