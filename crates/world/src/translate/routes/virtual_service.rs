//! VirtualService.

mod attach;
mod delegates;
mod merge;
mod rules;
mod targets;

pub(crate) use delegates::delegate_key;

use super::super::{key, visible};
use crate::manifest::Manifest;
use crate::problem::At;
use crate::schema::virtual_service::VirtualServiceSpec;
use crate::view::{Derived, View};
use attach::{check_match_gateways, full_name, parents, tell_loser};
use lateen_model::{HostPattern, Origin, Parent, Precedence, Resource, Route, Rule, Str};
use rules::Prepared;

pub(crate) fn virtual_service(
    view: &View<'_>,
    manifest: &Manifest,
    spec: &VirtualServiceSpec,
    derived: &mut Derived,
) {
    if spec.hosts.is_empty() {
        return delegates::delegate(view, manifest, spec, derived);
    }
    let namespace = &manifest.key.namespace;
    let hosts: Vec<HostPattern> = spec
        .hosts
        .iter()
        .filter_map(|host| HostPattern::parse(&view.state.qualify(host, namespace)).ok())
        .collect();
    if spec.http.is_empty() {
        derived.not_enforced = Some("none of its routes is enforced yet".to_owned());
        return;
    }
    let mesh = At { value: Str::from("mesh"), span: manifest.meta.name_span };
    let gateways =
        if spec.gateways.is_empty() { std::slice::from_ref(&mesh) } else { spec.gateways.as_slice() };
    let attached: Vec<(&At<Str>, Vec<Parent>)> =
        gateways.iter().map(|gateway| (gateway, parents(view, manifest, gateway, &hosts, derived))).collect();
    let visibility = spec.export_to.visibility(namespace);
    if attached.iter().any(|(_, parents)| parents.contains(&Parent::Mesh)) {
        tell_loser(view, manifest, spec, &visibility, derived);
    }
    check_match_gateways(spec, gateways, namespace, derived);
    let prepared: Vec<Prepared> = delegates::expand(view, manifest, spec, derived);
    let rules_at = |gateway: Option<&str>| -> Vec<Rule> {
        prepared.iter().flat_map(|prepared| prepared.rules(gateway)).collect()
    };
    let mut push = |section: Option<&str>, parents: Vec<Parent>, rules: Vec<Rule>| {
        if parents.is_empty() {
            return;
        }
        let id = key(manifest, Origin::VirtualService);
        let id = match section {
            Some(section) => id.section(section),
            None => id,
        };
        let route = Route {
            key: id.clone(),
            parents,
            hosts: hosts.clone(),
            rules,
            precedence: Precedence::Listed,
            created: manifest.meta.created,
            visibility: visibility.clone(),
        };
        derived.entries.push(visible(id, &visibility, Resource::Route(route)));
    };
    if prepared.iter().any(Prepared::asks_for_gateways) {
        // Some matches hold at some gateways only, so each gateway has a route of its own.
        for (gateway, parents) in attached {
            let full = full_name(gateway, namespace);
            push(Some(&full), parents, rules_at(Some(&full)));
        }
    } else {
        push(None, attached.into_iter().flat_map(|(_, parents)| parents).collect(), rules_at(None));
    }
    if derived.entries.is_empty() {
        derived.rejected.get_or_insert(("NoGateway", "none of its gateways takes it".to_owned()));
    }
}
