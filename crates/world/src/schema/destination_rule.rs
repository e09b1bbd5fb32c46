//! DestinationRule.

use super::{ExportTo, traffic_policy};
use crate::problem::At;
use crate::read::Reader;
use crate::yaml::Node;
use lateen_model::{HostPattern, Labels, Selector, Str, TrafficPolicy};

/// DestinationRule.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct DestinationRuleSpec {
    pub(crate) host: At<Str>,
    pub(crate) export_to: ExportTo,
    pub(crate) traffic: TrafficPolicy,
    pub(crate) subsets: Vec<SubsetSpec>,
    /// Labels of the clients it is for.
    pub(crate) clients: Option<At<Selector>>,
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
        reader.fields(node, &["host", "exportTo", "trafficPolicy", "subsets", "workloadSelector"], &[])?;
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
        subsets.push(SubsetSpec {
            name,
            labels: item.labels("labels"),
            traffic: traffic_policy::read(&item),
        });
    }
    Some(DestinationRuleSpec {
        host: host?,
        export_to: ExportTo::read(&fields),
        traffic: traffic_policy::read(&fields),
        subsets,
        clients: super::selector(&fields, "workloadSelector", &["matchLabels"]).filter(|at| !at.is_empty()),
    })
}
