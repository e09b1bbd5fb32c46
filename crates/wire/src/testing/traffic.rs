//! Generators of what is said of traffic to a host, and of limits.

use super::rules::share;
use super::{duration, host_pattern, request_match, selector, text, visibility};
use lateen_model::{
    Balance, BalanceAlgorithm, ConnectionPool, ConsistentHash, Descriptor, DestinationPolicy, Distribution,
    H2Upgrade, HashKey, HashTable, Http2Keepalive, LimitRule, LocalityMode, LocalityPolicy, OutlierDetection,
    PortPolicy, RateLimit, RequestLimit, RetryBudget, Str, Subset, TcpKeepalive, TrafficPolicy, Warmup,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::time::Duration;

fn token() -> impl Strategy<Value = Str> {
    "[a-z-]{1,4}".prop_map(Str::from)
}

fn balance() -> impl Strategy<Value = Balance> {
    let algorithm = proptest::sample::select(vec![
        BalanceAlgorithm::LeastRequest,
        BalanceAlgorithm::RoundRobin,
        BalanceAlgorithm::Random,
        BalanceAlgorithm::Passthrough,
    ]);
    let cookie = (token(), token(), option::of(duration()), vec((token(), token()), 0..2))
        .prop_map(|(name, path, ttl, attributes)| HashKey::Cookie { name, path, ttl, attributes });
    let key = prop_oneof![
        token().prop_map(HashKey::Header),
        cookie,
        Just(HashKey::SourceAddress),
        text().prop_map(HashKey::QueryParameter),
    ];
    let table = prop_oneof![
        (1u64..100_000).prop_map(|minimum_size| HashTable::Ring { minimum_size }),
        (1u64..100_000).prop_map(|size| HashTable::Maglev { size }),
    ];
    let hash = (key, table).prop_map(|(key, table)| ConsistentHash { key, table });
    let warmup = (duration(), any::<u32>(), any::<u32>()).prop_map(
        |(duration, minimum_permille, aggression_permille)| Warmup {
            duration,
            minimum_permille,
            aggression_permille,
        },
    );
    (algorithm, option::of(hash), option::of(warmup)).prop_map(|(algorithm, hash, warmup)| Balance {
        algorithm,
        hash,
        warmup,
    })
}

fn locality() -> impl Strategy<Value = LocalityPolicy> {
    let regions = || vec((text(), text()), 0..2);
    let priority = || vec(text(), 0..2);
    let distribution =
        (text(), vec((text(), any::<u32>()), 0..2)).prop_map(|(from, to)| Distribution { from, to });
    let mode = prop_oneof![
        (regions(), priority()).prop_map(|(regions, priority)| LocalityMode::Failover { regions, priority }),
        vec(distribution, 0..2).prop_map(LocalityMode::Distribute),
        (any::<u64>(), regions(), priority()).prop_map(|(minimum_cluster_size, regions, priority)| {
            LocalityMode::ZoneAware { minimum_cluster_size, regions, priority }
        }),
    ];
    (any::<bool>(), mode).prop_map(|(enabled, mode)| LocalityPolicy { enabled, mode })
}

fn connections() -> impl Strategy<Value = ConnectionPool> {
    let number = || option::of(any::<u32>());
    let time = || option::of(duration());
    let tcp_keepalive = (number(), time(), time()).prop_map(|(probes, time, interval)| TcpKeepalive {
        probes,
        time,
        interval,
    });
    let http2_keepalive =
        (duration(), duration()).prop_map(|(interval, timeout)| Http2Keepalive { interval, timeout });
    let upgrade = proptest::sample::select(vec![H2Upgrade::Default, H2Upgrade::Never, H2Upgrade::Upgrade]);
    (
        (number(), time(), option::of(tcp_keepalive), time(), time()),
        (number(), number(), number(), number(), time()),
        (option::of(upgrade), option::of(any::<bool>()), number(), option::of(http2_keepalive)),
    )
        .prop_map(|(tcp, http, rest)| {
            let (max_connections, connect_timeout, tcp_keepalive, max_connection_duration, tcp_idle_timeout) =
                tcp;
            let (
                max_pending_requests,
                max_requests,
                max_requests_per_connection,
                max_retries,
                http_idle_timeout,
            ) = http;
            let (h2_upgrade, use_client_protocol, max_concurrent_streams, http2_keepalive) = rest;
            ConnectionPool {
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
            }
        })
}

fn outliers() -> impl Strategy<Value = OutlierDetection> {
    (
        (any::<u32>(), any::<u32>(), any::<u32>(), any::<bool>()),
        (duration(), duration(), 0u8..=100, 0u8..=100, vec((100u16..600, 100u16..600), 0..2)),
    )
        .prop_map(|(counts, rest)| {
            let (consecutive_5xx, consecutive_gateway_errors, consecutive_local_failures, split_local_errors) =
                counts;
            let (interval, base_ejection_time, max_ejection_percent, min_health_percent, error_statuses) = rest;
            OutlierDetection {
                consecutive_5xx,
                consecutive_gateway_errors,
                consecutive_local_failures,
                split_local_errors,
                interval,
                base_ejection_time,
                max_ejection_percent,
                min_health_percent,
                error_statuses,
            }
        })
}

fn traffic_of_port() -> impl Strategy<Value = TrafficPolicy> {
    let budget = (share(), any::<u32>(), duration()).prop_map(|(share, minimum_concurrency, interval)| {
        RetryBudget { share, minimum_concurrency, interval }
    });
    (option::of(balance()), option::of(locality()), connections(), option::of(outliers()), option::of(budget))
        .prop_map(|(balance, locality, connections, outliers, retry_budget)| TrafficPolicy {
            balance,
            locality,
            connections,
            outliers,
            retry_budget,
            ports: Vec::new(),
        })
}

fn traffic() -> impl Strategy<Value = TrafficPolicy> {
    let port = (any::<u16>(), traffic_of_port()).prop_map(|(port, traffic)| PortPolicy { port, traffic });
    (traffic_of_port(), vec(port, 0..2)).prop_map(|(traffic, ports)| TrafficPolicy { ports, ..traffic })
}

pub(super) fn destination() -> impl Strategy<Value = DestinationPolicy> {
    let subset =
        (text(), selector(), traffic()).prop_map(|(name, labels, traffic)| Subset { name, labels, traffic });
    (host_pattern(), traffic(), vec(subset, 0..2), selector(), visibility()).prop_map(
        |(host, traffic, subsets, clients, visibility)| DestinationPolicy {
            host,
            traffic,
            subsets,
            clients,
            visibility,
        },
    )
}

pub(super) fn rate_limit() -> impl Strategy<Value = RateLimit> {
    let descriptor = prop_oneof![
        token().prop_map(Descriptor::Header),
        Just(Descriptor::Path),
        Just(Descriptor::Method),
        Just(Descriptor::Host),
        Just(Descriptor::Principal),
        Just(Descriptor::ClientAddress),
    ];
    let per = duration().prop_map(|per| per + Duration::from_nanos(1));
    let rule = (text(), vec(request_match(), 0..2), vec(descriptor, 0..3), any::<u32>(), per, any::<u32>())
        .prop_map(|(name, matches, key, requests, per, burst)| LimitRule {
            name,
            matches,
            key,
            requests,
            per,
            burst,
        });
    vec(rule, 0..3).prop_map(|rules| RateLimit { rules })
}

pub(super) fn request_limit() -> impl Strategy<Value = RequestLimit> {
    let (bytes, number) = (|| option::of(any::<u64>()), || option::of(any::<u32>()));
    (bytes(), bytes(), number(), number()).prop_map(
        |(request_body, response_body, request_head, request_headers)| RequestLimit {
            request_body,
            response_body,
            request_head,
            request_headers,
        },
    )
}
