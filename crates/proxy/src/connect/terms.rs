//! `Terms`: how a new connection is opened, by the limits of its group or by the defaults.

use std::rc::Rc;
use std::time::Duration;

use lateen_model::{ConnectionPool, Http2Keepalive, TcpKeepalive};

use super::breaker::Group;
use crate::worker::Settings;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// The longest it may take, TLS and tunnel included.
    pub(crate) connect: Duration,
    /// Keepalive of TCP, where a policy says any. Tunnels between proxies are shared by groups and have their own.
    pub(crate) keepalive: Option<TcpKeepalive>,
    /// A forwarded connection over which nothing moves is closed.
    pub(crate) tcp_idle: Duration,
    /// A kept connection without requests is closed.
    pub(crate) pool_idle: Duration,
    /// Streams of one HTTP/2 connection.
    pub(crate) streams: usize,
    /// Pings on HTTP/2 connections.
    pub(crate) pings: Option<Http2Keepalive>,
}

impl Terms {
    /// The defaults, and what the group says of them.
    pub(crate) fn of(settings: &Settings, group: Option<&Rc<Group>>) -> Self {
        let defaults = Self {
            connect: settings.connect,
            keepalive: None,
            tcp_idle: settings.tcp_idle,
            pool_idle: settings.pool_idle,
            streams: settings.streams_per_connection,
            pings: None,
        };
        group.map_or(defaults, |group| defaults.with(&group.limits.pool))
    }

    fn with(self, pool: &ConnectionPool) -> Self {
        // Zero is never, which here is longer than any connection lives.
        let or = |said: Option<Duration>, default: Duration| match said {
            Some(Duration::ZERO) => Duration::MAX,
            Some(said) => said,
            None => default,
        };
        let streams = pool.max_concurrent_streams.and_then(|most| usize::try_from(most).ok());
        Self {
            connect: pool.connect_timeout.unwrap_or(self.connect),
            keepalive: pool.tcp_keepalive,
            tcp_idle: or(pool.tcp_idle_timeout, self.tcp_idle),
            pool_idle: or(pool.http_idle_timeout, self.pool_idle),
            streams: streams.map_or(self.streams, |most| most.min(self.streams).max(1)),
            pings: pool.http2_keepalive,
        }
    }
}
