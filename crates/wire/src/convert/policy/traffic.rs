//! How clients treat a host: balancing, localities, connections, outliers.

use super::super::Invalid;
use super::super::common::{
    Result, duration_from_pb, duration_to_pb, each, header_name, header_text, mirror, need, optional_from_pb,
    optional_to_pb, port, share_from_pb, status, strs, texts,
};
use crate::pb::lateen::v1 as pb;
use lateen_model::{
    Balance, BalanceAlgorithm, ConnectionPool, ConsistentHash, Distribution, H2Upgrade, HashKey, HashTable,
    Http2Keepalive, LocalityMode, LocalityPolicy, OutlierDetection, PortPolicy, RetryBudget, Str,
    TcpKeepalive, TrafficPolicy, Warmup,
};

mirror!(algorithm_to_pb, algorithm_from_pb: BalanceAlgorithm = pb::traffic_policy::Balance {
    LeastRequest = LeastRequest, RoundRobin = RoundRobin, Random = Random, Passthrough = Passthrough,
});
mirror!(upgrade_to_pb, upgrade_from_pb: H2Upgrade = pb::connections::H2Upgrade {
    Default = Default, Never = Never, Upgrade = Upgrade,
});

/// The largest table that hashes are looked up in: beyond it a change of one endpoint costs too much.
const MAX_TABLE: u64 = 8 << 20;

pub(super) fn to_pb(traffic: &TrafficPolicy) -> pb::TrafficPolicy {
    let balance = traffic.balance.as_ref();
    pb::TrafficPolicy {
        balance: balance.map(|balance| algorithm_to_pb(balance.algorithm)),
        hash: balance.and_then(|balance| balance.hash.as_ref()).map(hash_to_pb),
        warmup: balance.and_then(|balance| balance.warmup).map(|warmup| pb::Warmup {
            duration: Some(duration_to_pb(warmup.duration)),
            minimum_permille: warmup.minimum_permille,
            aggression_permille: warmup.aggression_permille,
        }),
        locality: traffic.locality.as_ref().map(locality_to_pb),
        connections: (traffic.connections != ConnectionPool::default())
            .then(|| connections_to_pb(&traffic.connections)),
        outliers: traffic.outliers.as_ref().map(outliers_to_pb),
        retry_budget: traffic.retry_budget.map(|budget| pb::RetryBudget {
            parts_per_million: budget.share.parts(),
            minimum_concurrency: budget.minimum_concurrency,
            interval: Some(duration_to_pb(budget.interval)),
        }),
        ports: traffic
            .ports
            .iter()
            .map(|port| pb::PortPolicy { port: port.port.into(), traffic: Some(to_pb(&port.traffic)) })
            .collect(),
    }
}

pub(super) fn from_pb(message: Option<&pb::TrafficPolicy>) -> Result<TrafficPolicy> {
    let message = need(message, "traffic")?;
    let ports = each(&message.ports, "ports", |one| {
        let own = need(one.traffic.as_ref(), "traffic")?;
        if !own.ports.is_empty() {
            return Err(Invalid::new("the policy of a port has no ports of its own"));
        }
        Ok(PortPolicy { port: port(one.port)?, traffic: from_pb(Some(own))? })
    })?;
    Ok(TrafficPolicy {
        balance: balance_from_pb(message)?,
        locality: message.locality.as_ref().map(locality_from_pb).transpose()?,
        connections: match &message.connections {
            Some(connections) => connections_from_pb(connections)?,
            None => ConnectionPool::default(),
        },
        outliers: message.outliers.as_ref().map(outliers_from_pb).transpose()?,
        retry_budget: message.retry_budget.as_ref().map(budget_from_pb).transpose()?,
        ports,
    })
}

fn balance_from_pb(message: &pb::TrafficPolicy) -> Result<Option<Balance>> {
    let warmup = |warmup: &pb::Warmup| {
        Ok::<_, Invalid>(Warmup {
            duration: duration_from_pb(need(warmup.duration, "duration")?)?,
            minimum_permille: warmup.minimum_permille,
            aggression_permille: warmup.aggression_permille,
        })
    };
    let Some(algorithm) = message.balance else {
        return match (&message.hash, &message.warmup) {
            (None, None) => Ok(None),
            _ => Err(Invalid::new("balance is not set")),
        };
    };
    Ok(Some(Balance {
        algorithm: algorithm_from_pb(algorithm)?,
        hash: message.hash.as_ref().map(hash_from_pb).transpose()?,
        warmup: message.warmup.as_ref().map(warmup).transpose()?,
    }))
}

fn hash_to_pb(hash: &ConsistentHash) -> pb::ConsistentHash {
    use pb::consistent_hash::{Attribute, Cookie, Key, SourceAddress, Table};
    let key = match &hash.key {
        HashKey::Header(name) => Key::Header(name.to_string()),
        HashKey::Cookie { name, path, ttl, attributes } => Key::Cookie(Cookie {
            name: name.to_string(),
            path: path.to_string(),
            ttl: optional_to_pb(*ttl),
            attributes: attributes
                .iter()
                .map(|(name, value)| Attribute { name: name.to_string(), value: value.to_string() })
                .collect(),
        }),
        HashKey::SourceAddress => Key::SourceAddress(SourceAddress {}),
        HashKey::QueryParameter(name) => Key::QueryParameter(name.to_string()),
    };
    let table = match hash.table {
        HashTable::Ring { minimum_size } => Table::RingMinimumSize(minimum_size),
        HashTable::Maglev { size } => Table::MaglevSize(size),
    };
    pb::ConsistentHash { key: Some(key), table: Some(table) }
}

fn hash_from_pb(message: &pb::ConsistentHash) -> Result<ConsistentHash> {
    use pb::consistent_hash::{Attribute, Key, Table};
    let attribute = |one: &Attribute| Ok((header_text(one.name.clone())?, header_text(one.value.clone())?));
    let key = match need(message.key.as_ref(), "key")? {
        Key::Header(name) => HashKey::Header(header_name(name)?),
        Key::Cookie(cookie) => HashKey::Cookie {
            name: header_text(cookie.name.clone())?,
            path: header_text(cookie.path.clone())?,
            ttl: optional_from_pb(cookie.ttl)?,
            attributes: each(&cookie.attributes, "attributes", attribute)?,
        },
        Key::SourceAddress(_) => HashKey::SourceAddress,
        Key::QueryParameter(name) => HashKey::QueryParameter(name.into()),
    };
    let (size, table) = match *need(message.table.as_ref(), "table")? {
        Table::RingMinimumSize(minimum_size) => (minimum_size, HashTable::Ring { minimum_size }),
        Table::MaglevSize(size) => (size, HashTable::Maglev { size }),
    };
    if size == 0 || size > MAX_TABLE {
        return Err(Invalid::new(format!("a hash table of {size} places; 1 to {MAX_TABLE} are possible")));
    }
    Ok(ConsistentHash { key, table })
}

fn locality_to_pb(locality: &LocalityPolicy) -> pb::Locality {
    use pb::locality::{Distribute, Distribution as WireDistribution, Failover, Mode, Part, ZoneAware};
    let distribution = |one: &Distribution| WireDistribution {
        from: one.from.to_string(),
        to: one
            .to
            .iter()
            .map(|(locality, weight)| Part { locality: locality.to_string(), weight: *weight })
            .collect(),
    };
    let mode = match &locality.mode {
        LocalityMode::Failover { regions, priority } => {
            Mode::Failover(Failover { regions: regions_to_pb(regions), priority: texts(priority) })
        }
        LocalityMode::Distribute(list) => {
            Mode::Distribute(Distribute { distributions: list.iter().map(distribution).collect() })
        }
        LocalityMode::ZoneAware { minimum_cluster_size, regions, priority } => Mode::ZoneAware(ZoneAware {
            minimum_cluster_size: *minimum_cluster_size,
            regions: regions_to_pb(regions),
            priority: texts(priority),
        }),
    };
    pb::Locality { enabled: locality.enabled, mode: Some(mode) }
}

fn regions_to_pb(regions: &[(Str, Str)]) -> Vec<pb::locality::Region> {
    let region =
        |(from, to): &(Str, Str)| pb::locality::Region { from: from.to_string(), to: to.to_string() };
    regions.iter().map(region).collect()
}

fn regions_from_pb(regions: &[pb::locality::Region]) -> Vec<(Str, Str)> {
    regions.iter().map(|region| (region.from.as_str().into(), region.to.as_str().into())).collect()
}

fn locality_from_pb(message: &pb::Locality) -> Result<LocalityPolicy> {
    use pb::locality::{Distribution as WireDistribution, Mode};
    let distribution = |one: &WireDistribution| Distribution {
        from: one.from.as_str().into(),
        to: one.to.iter().map(|part| (part.locality.as_str().into(), part.weight)).collect(),
    };
    let mode = match need(message.mode.as_ref(), "mode")? {
        Mode::Failover(failover) => LocalityMode::Failover {
            regions: regions_from_pb(&failover.regions),
            priority: strs(failover.priority.clone()),
        },
        Mode::Distribute(list) => {
            LocalityMode::Distribute(list.distributions.iter().map(distribution).collect())
        }
        Mode::ZoneAware(zone) => LocalityMode::ZoneAware {
            minimum_cluster_size: zone.minimum_cluster_size,
            regions: regions_from_pb(&zone.regions),
            priority: strs(zone.priority.clone()),
        },
    };
    Ok(LocalityPolicy { enabled: message.enabled, mode })
}

fn connections_to_pb(pool: &ConnectionPool) -> pb::Connections {
    pb::Connections {
        max_connections: pool.max_connections,
        connect_timeout: optional_to_pb(pool.connect_timeout),
        tcp_keepalive: pool.tcp_keepalive.map(|keepalive| pb::connections::TcpKeepalive {
            probes: keepalive.probes,
            time: optional_to_pb(keepalive.time),
            interval: optional_to_pb(keepalive.interval),
        }),
        max_connection_duration: optional_to_pb(pool.max_connection_duration),
        tcp_idle_timeout: optional_to_pb(pool.tcp_idle_timeout),
        max_pending_requests: pool.max_pending_requests,
        max_requests: pool.max_requests,
        max_requests_per_connection: pool.max_requests_per_connection,
        max_retries: pool.max_retries,
        http_idle_timeout: optional_to_pb(pool.http_idle_timeout),
        h2_upgrade: pool.h2_upgrade.map(upgrade_to_pb),
        use_client_protocol: pool.use_client_protocol,
        max_concurrent_streams: pool.max_concurrent_streams,
        http2_keepalive: pool.http2_keepalive.map(|keepalive| pb::connections::Http2Keepalive {
            interval: Some(duration_to_pb(keepalive.interval)),
            timeout: Some(duration_to_pb(keepalive.timeout)),
        }),
    }
}

fn connections_from_pb(message: &pb::Connections) -> Result<ConnectionPool> {
    let tcp_keepalive = |keepalive: &pb::connections::TcpKeepalive| {
        Ok::<_, Invalid>(TcpKeepalive {
            probes: keepalive.probes,
            time: optional_from_pb(keepalive.time)?,
            interval: optional_from_pb(keepalive.interval)?,
        })
    };
    let http2_keepalive = |keepalive: &pb::connections::Http2Keepalive| {
        Ok::<_, Invalid>(Http2Keepalive {
            interval: duration_from_pb(need(keepalive.interval, "interval")?)?,
            timeout: duration_from_pb(need(keepalive.timeout, "timeout")?)?,
        })
    };
    Ok(ConnectionPool {
        max_connections: message.max_connections,
        connect_timeout: optional_from_pb(message.connect_timeout)?,
        tcp_keepalive: message.tcp_keepalive.as_ref().map(tcp_keepalive).transpose()?,
        max_connection_duration: optional_from_pb(message.max_connection_duration)?,
        tcp_idle_timeout: optional_from_pb(message.tcp_idle_timeout)?,
        max_pending_requests: message.max_pending_requests,
        max_requests: message.max_requests,
        max_requests_per_connection: message.max_requests_per_connection,
        max_retries: message.max_retries,
        http_idle_timeout: optional_from_pb(message.http_idle_timeout)?,
        h2_upgrade: message.h2_upgrade.map(upgrade_from_pb).transpose()?,
        use_client_protocol: message.use_client_protocol,
        max_concurrent_streams: message.max_concurrent_streams,
        http2_keepalive: message.http2_keepalive.as_ref().map(http2_keepalive).transpose()?,
    })
}

fn outliers_to_pb(outliers: &OutlierDetection) -> pb::Outliers {
    let range = |(first, last): &(u16, u16)| pb::outliers::StatusRange {
        first: (*first).into(),
        last: (*last).into(),
    };
    pb::Outliers {
        consecutive_5xx: outliers.consecutive_5xx,
        consecutive_gateway_errors: outliers.consecutive_gateway_errors,
        consecutive_local_failures: outliers.consecutive_local_failures,
        split_local_errors: outliers.split_local_errors,
        interval: Some(duration_to_pb(outliers.interval)),
        base_ejection_time: Some(duration_to_pb(outliers.base_ejection_time)),
        max_ejection_percent: outliers.max_ejection_percent.into(),
        min_health_percent: outliers.min_health_percent.into(),
        error_statuses: outliers.error_statuses.iter().map(range).collect(),
    }
}

fn outliers_from_pb(message: &pb::Outliers) -> Result<OutlierDetection> {
    let range = |range: &pb::outliers::StatusRange| Ok((status(range.first)?, status(range.last)?));
    Ok(OutlierDetection {
        consecutive_5xx: message.consecutive_5xx,
        consecutive_gateway_errors: message.consecutive_gateway_errors,
        consecutive_local_failures: message.consecutive_local_failures,
        split_local_errors: message.split_local_errors,
        interval: duration_from_pb(need(message.interval, "interval")?)?,
        base_ejection_time: duration_from_pb(need(message.base_ejection_time, "base_ejection_time")?)?,
        max_ejection_percent: percent(message.max_ejection_percent)?,
        min_health_percent: percent(message.min_health_percent)?,
        error_statuses: each(&message.error_statuses, "error_statuses", range)?,
    })
}

fn percent(number: u32) -> Result<u8> {
    match u8::try_from(number) {
        Ok(percent) if percent <= 100 => Ok(percent),
        _ => Err(Invalid::new(format!("{number} per cent is more than all"))),
    }
}

fn budget_from_pb(message: &pb::RetryBudget) -> Result<RetryBudget> {
    Ok(RetryBudget {
        share: share_from_pb(message.parts_per_million)?,
        minimum_concurrency: message.minimum_concurrency,
        interval: duration_from_pb(need(message.interval, "interval")?)?,
    })
}
