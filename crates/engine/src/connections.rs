//! `ConnectionLimits`: how many connections and requests a group of endpoints takes of one proxy, and for how long.

use lateen_model::{ConnectionPool, H2Upgrade, RetryBudget, ServiceId, Str, TrafficPolicy};
use std::sync::Arc;
use std::time::Duration;

/// What a policy says of connections to one group of endpoints. Groups of which nobody says anything have none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionLimits {
    /// The group that is counted: `namespace/host:port`, and `/subset` for one.
    pub group: Str,
    /// Limits and times.
    pub pool: ConnectionPool,
    /// How many retries at the same time, in proportion; counts instead of the pool's `max_retries`.
    pub retry_budget: Option<RetryBudget>,
}

impl ConnectionLimits {
    pub(crate) fn of(
        service: &ServiceId,
        port: u16,
        subset: Option<&Str>,
        traffic: &TrafficPolicy,
    ) -> Option<Arc<Self>> {
        if traffic.connections == ConnectionPool::default() && traffic.retry_budget.is_none() {
            return None;
        }
        let subset = subset.map_or_else(String::new, |subset| format!("/{subset}"));
        let group = Str::from(format!("{}/{}:{port}{subset}", service.namespace, service.hostname));
        Some(Arc::new(Self { group, pool: traffic.connections.clone(), retry_budget: traffic.retry_budget }))
    }

    /// In words, one for each thing that is said.
    #[must_use]
    pub fn describe(&self) -> Vec<String> {
        let ConnectionPool {
            max_connections,
            connect_timeout,
            tcp_keepalive,
            max_connection_duration,
            tcp_idle_timeout,
            max_pending_requests,
            max_requests,
            max_requests_per_connection,
            max_retries,
            http_idle_timeout,
            h2_upgrade,
            use_client_protocol,
            max_concurrent_streams,
            http2_keepalive,
        } = &self.pool;
        let counts = [
            (max_connections, "connections"),
            (max_pending_requests, "requests waiting for a connection"),
            (max_requests, "requests under way"),
            (max_requests_per_connection, "requests over one connection"),
            (max_concurrent_streams, "streams of one HTTP/2 connection"),
            (if self.retry_budget.is_none() { max_retries } else { &None }, "retries under way"),
        ];
        let counts =
            counts.into_iter().filter_map(|(most, what)| Some(format!("at most {} {what}", (*most)?)));
        let times = [
            (connect_timeout, "a connection must open within"),
            (max_connection_duration, "a connection ends after"),
            (tcp_idle_timeout, "a forwarded connection ends when nothing moves for"),
            (http_idle_timeout, "a kept connection ends without requests for"),
        ];
        let never = |time: &Duration| if time.is_zero() { "ever".to_owned() } else { format!("{time:?}") };
        let times =
            times.into_iter().filter_map(|(time, what)| Some(format!("{what} {}", never(time.as_ref()?))));
        let protocol = match (use_client_protocol, h2_upgrade) {
            (Some(true), _) => Some("the caller's protocol is spoken with the endpoint"),
            (_, Some(H2Upgrade::Upgrade)) => Some("HTTP/1.1 becomes HTTP/2"),
            _ => None,
        };
        let budget = self.retry_budget.map(|budget| {
            let least = budget.minimum_concurrency;
            let over = if budget.interval.is_zero() {
                "under way".to_owned()
            } else {
                format!("of {:?}", budget.interval)
            };
            format!(
                "retries under way are at most {} of the requests {over}, and {least} always",
                budget.share
            )
        });
        let pings = http2_keepalive.map(|pings| {
            format!(
                "HTTP/2 connections are asked every {:?} and must answer within {:?}",
                pings.interval, pings.timeout
            )
        });
        let keepalive = tcp_keepalive.map(|keepalive| {
            let or = |time: Option<Duration>| {
                time.map_or_else(|| "as the system has it".to_owned(), |time| format!("{time:?}"))
            };
            let probes = keepalive
                .probes
                .map_or_else(|| "the system's number of".to_owned(), |probes| probes.to_string());
            let (time, interval) = (or(keepalive.time), or(keepalive.interval));
            format!("TCP keepalive after {time}, every {interval}, {probes} probes")
        });
        counts
            .chain(times)
            .chain(protocol.map(str::to_owned))
            .chain(budget)
            .chain(pings)
            .chain(keepalive)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_is_a_limit_and_all_of_it_is_told() {
        let id = ServiceId::parse("default/app.default.svc.cluster.local").expect("an id");
        assert_eq!(ConnectionLimits::of(&id, 80, None, &TrafficPolicy::default()), None);
        let connections = ConnectionPool {
            max_connections: Some(3),
            http_idle_timeout: Some(Duration::from_secs(5)),
            tcp_idle_timeout: Some(Duration::ZERO),
            ..ConnectionPool::default()
        };
        let retry_budget = Some(RetryBudget::default());
        let traffic = TrafficPolicy { connections, retry_budget, ..TrafficPolicy::default() };
        let limits = ConnectionLimits::of(&id, 80, Some(&"v1".into()), &traffic).expect("limits");
        assert_eq!(&*limits.group, "default/app.default.svc.cluster.local:80/v1");
        assert_eq!(
            limits.describe(),
            [
                "at most 3 connections",
                "a forwarded connection ends when nothing moves for ever",
                "a kept connection ends without requests for 5s",
                "retries under way are at most 20 % of the requests under way, and 3 always",
            ]
        );
    }
}
