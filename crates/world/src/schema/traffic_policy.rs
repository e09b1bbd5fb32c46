//! `trafficPolicy` of a DestinationRule, of its subsets and its ports.

mod balance;
mod connections;
mod locality;
mod outliers;

use crate::problem::Draft;
use crate::read::Fields;
use lateen_model::{PortPolicy, RetryBudget, TrafficPolicy};
use std::time::Duration;

const PORT: &[&str] = &["port", "loadBalancer", "connectionPool", "outlierDetection", "tls"];

/// `trafficPolicy` of a rule or of a subset.
pub(super) fn read(fields: &Fields<'_>) -> TrafficPolicy {
    let Some(policy) = fields.fields(
        "trafficPolicy",
        &["loadBalancer", "connectionPool", "outlierDetection", "portLevelSettings", "tls", "retryBudget"],
        &["tunnel", "proxyProtocol"],
    ) else {
        return TrafficPolicy::default();
    };
    let mut ports: Vec<PortPolicy> = Vec::new();
    for item in policy.each("portLevelSettings", PORT, &[]) {
        let Some(selector) = item.need("port").and_then(|node| item.reader.fields(node, &["number"], &[]))
        else {
            continue;
        };
        let Some(port) = selector.need("number").and_then(|node| item.reader.port(node)) else { continue };
        if ports.iter().any(|other| other.port == port.value) {
            item.reader.error(port.span, format!("port {} has settings already", port.value));
            continue;
        }
        ports.push(PortPolicy { port: port.value, traffic: one(&item) });
    }
    TrafficPolicy { ports, retry_budget: retry_budget(&policy), ..one(&policy) }
}

/// What policies of hosts and of ports have in common.
fn one(policy: &Fields<'_>) -> TrafficPolicy {
    tls(policy);
    let (balance, locality) = balance::read(policy);
    TrafficPolicy {
        balance,
        locality,
        connections: connections::read(policy),
        outliers: outliers::read(policy),
        retry_budget: None,
        ports: Vec::new(),
    }
}

fn retry_budget(policy: &Fields<'_>) -> Option<RetryBudget> {
    let fields = policy.fields("retryBudget", &["percent", "minRetryConcurrency", "budgetInterval"], &[])?;
    let default = RetryBudget::default();
    Some(RetryBudget {
        share: fields.percent("percent").map_or(default.share, |at| at.value),
        minimum_concurrency: fields.count("minRetryConcurrency").unwrap_or(default.minimum_concurrency),
        interval: fields.duration("budgetInterval").map_or(Duration::ZERO, |at| at.value),
    })
}

/// Mutual TLS between workloads of the mesh is what happens anyway. To originate TLS is not enforced.
fn tls(policy: &Fields<'_>) {
    const OTHERS: &[&str] = &[
        "clientCertificate",
        "privateKey",
        "caCertificates",
        "caCrl",
        "credentialName",
        "subjectAltNames",
        "sni",
        "insecureSkipVerify",
    ];
    #[derive(Clone, Copy)]
    enum Mode {
        Disable,
        Mutual,
        Originated,
    }
    let reader = policy.reader;
    let Some(node) = policy.get("tls") else { return };
    let words = [
        ("DISABLE", Mode::Disable),
        ("SIMPLE", Mode::Originated),
        ("MUTUAL", Mode::Originated),
        ("ISTIO_MUTUAL", Mode::Mutual),
    ];
    // The other fields say how TLS is originated, so with another mode they have no meaning.
    let Some(fields) = reader.fields(node, TLS, &[]) else { return };
    let mode = match fields.get("mode") {
        Some(_) => fields.choice("mode", &words),
        None => fields.need("mode").and(None),
    };
    let Some(mode) = mode else { return };
    let told = OTHERS.iter().find(|name| fields.has(name));
    match (mode.value, told) {
        (Mode::Originated, _) => {
            let message =
                "TLS to hosts outside of the mesh is not originated yet: they are sent to as the caller does";
            reader.unsupported(mode.span, message);
        }
        (_, Some(name)) => {
            let message = format!("`{name}` goes with the modes SIMPLE and MUTUAL only");
            reader.error(fields.key_span(name), message);
        }
        (Mode::Disable, None) => {
            let message = "to workloads that have a proxy mTLS is used all the same; only others are sent to in plaintext";
            reader.push(Draft::warning(mode.span, message));
        }
        (Mode::Mutual, None) => {}
    }
}

const TLS: &[&str] = &[
    "mode",
    "clientCertificate",
    "privateKey",
    "caCertificates",
    "caCrl",
    "credentialName",
    "subjectAltNames",
    "sni",
    "insecureSkipVerify",
];
