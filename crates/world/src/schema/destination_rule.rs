//! DestinationRule.

use super::{ExportTo, head};
use crate::problem::{At, Draft};
use crate::read::{Fields, Reader};
use crate::yaml::Node;
use lateen_model::{BalanceAlgorithm, HostPattern, Labels, Str, TrafficPolicy};

/// DestinationRule.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct DestinationRuleSpec {
    pub(crate) host: At<Str>,
    pub(crate) export_to: ExportTo,
    pub(crate) traffic: TrafficPolicy,
    pub(crate) subsets: Vec<SubsetSpec>,
}

/// One entry of `subsets`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct SubsetSpec {
    pub(crate) name: At<Str>,
    pub(crate) labels: Labels,
    pub(crate) traffic: TrafficPolicy,
}

pub(crate) fn destination_rule(node: &Node, reader: &Reader) -> Option<DestinationRuleSpec> {
    let fields =
        reader.fields(node, &["host", "exportTo", "trafficPolicy", "subsets"], &["workloadSelector"])?;
    let host = fields.need_text("host");
    if let Some(host) = &host {
        reader.parse(host, HostPattern::parse);
    }
    let mut subsets: Vec<SubsetSpec> = Vec::new();
    for item in fields.each("subsets", &["name", "labels", "trafficPolicy"], &[]) {
        let Some(name) = item.need_text("name") else { continue };
        if subsets.iter().any(|subset| subset.name.value == name.value) {
            reader.error(name.span, format!("a subset named {:?} is there already", name.as_str()));
            continue;
        }
        subsets.push(SubsetSpec { name, labels: item.labels("labels"), traffic: traffic(&item) });
    }
    Some(DestinationRuleSpec {
        host: host?,
        export_to: ExportTo::read(&fields),
        traffic: traffic(&fields),
        subsets,
    })
}

fn traffic(fields: &Fields<'_>) -> TrafficPolicy {
    let reader = fields.reader;
    let Some(policy) = fields.fields(
        "trafficPolicy",
        &["loadBalancer", "tls"],
        &[
            "connectionPool",
            "outlierDetection",
            "portLevelSettings",
            "tunnel",
            "proxyProtocol",
            "retryBudget",
        ],
    ) else {
        return TrafficPolicy::default();
    };
    if let Some(tls) = policy.get("tls") {
        // Mutual TLS between our proxies is what happens anyway.
        if tls.get("mode").and_then(Node::as_text) != Some("ISTIO_MUTUAL") {
            let message = "`tls` is not enforced yet; between workloads of the mesh mTLS is used without it";
            reader.unsupported(policy.key_span("tls"), message);
        }
    }
    let balance = policy
        .fields(
            "loadBalancer",
            &["simple"],
            &["consistentHash", "localityLbSetting", "warmup", "warmupDurationSecs", "zoneAwareLbSetting"],
        )
        .and_then(|balancer| {
            let words = [
                ("LEAST_REQUEST", BalanceAlgorithm::LeastRequest),
                ("ROUND_ROBIN", BalanceAlgorithm::RoundRobin),
                ("RANDOM", BalanceAlgorithm::Random),
                ("PASSTHROUGH", BalanceAlgorithm::Passthrough),
                ("LEAST_CONN", BalanceAlgorithm::LeastRequest),
                ("UNSPECIFIED", BalanceAlgorithm::LeastRequest),
            ];
            let simple = balancer.choice("simple", &words);
            if simple.is_none() && !balancer.has("simple") && balancer.node.get("consistentHash").is_none() {
                reader.push(
                    Draft::warning(head(&balancer), "`loadBalancer` says nothing").expected("`simple`"),
                );
            }
            simple
        })
        .map(|at| at.value);
    TrafficPolicy { balance: balance.map(Into::into), ..TrafficPolicy::default() }
}
