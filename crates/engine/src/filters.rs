//! `Filters`: what a rule and its backend do to requests and responses, taken apart by purpose when the snapshot is
//! compiled, so that nobody looks through a list for each request.

use crate::rule::{GroupTarget, Resolved};
use crate::{Effective, Forward};
use lateen_model::{
    Backend, BackendTarget, Cors, FaultInjection, Filter, Format, HeaderEdit, Mirror, PathRewrite, Route,
    Rule, ServiceId, Share, Str,
};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

mod describe;

/// What is done to requests and responses of a rule, by purpose. A rule that does nothing has none.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Filters {
    /// Changes to the head of the request, one after the other. None of them names the authority.
    pub request: Box<[HeaderEdit]>,
    /// Changes to the head of the response, one after the other.
    pub response: Box<[HeaderEdit]>,
    /// What the authority becomes. A header edit that sets it counts more than a rewrite, as in Istio.
    pub authority: Option<Format>,
    /// What the path becomes.
    pub path: Option<PathRewrite>,
    /// Where copies go.
    pub mirrors: Box<[Mirrored]>,
    /// Who may call from a browser.
    pub cors: Option<Cors>,
    /// Trouble on purpose.
    pub fault: Option<FaultInjection>,
}

/// Where copies of requests go, and of how many.
#[derive(Clone)]
pub struct Mirrored {
    /// Of how many requests.
    pub share: Share,
    /// Where, in words.
    pub what: BackendTarget,
    target: Option<GroupTarget>,
}

impl Mirrored {
    /// Where a copy goes, of a request that was meant for this address. None: what was named does not exist.
    pub fn forward(&self, original: SocketAddr) -> Option<Forward> {
        self.target.as_ref().map(|target| target.forward_silently(original))
    }
}

impl PartialEq for Mirrored {
    fn eq(&self, other: &Self) -> bool {
        let leads = |mirror: &Self| mirror.target.as_ref().map(|target| target.id);
        (self.share, &self.what, leads(self)) == (other.share, &other.what, leads(other))
    }
}

impl Eq for Mirrored {}

impl fmt::Debug for Mirrored {
    /// Without the number of the group, which says nothing outside of its snapshot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exists = self.target.as_ref().map(|target| &target.effective);
        write!(f, "{} to {} {exists:?}", self.share, self.what)
    }
}

impl Filters {
    /// Those of a rule and, where it has backends, of one of them. None: nothing is done.
    ///
    /// Envoy changes a head on behalf of a weighted cluster before it does so on behalf of the route around it, so
    /// with several backends the rule has the last word. A single destination is no weighted cluster: Istio puts its
    /// changes behind those of the rule, and it has the last word.
    pub(crate) fn of_rule(
        route: &Route,
        rule: &Rule,
        backend: Option<&Backend>,
        resolve: impl Fn(&ServiceId, u16, Option<&Str>) -> Option<Resolved>,
    ) -> Option<Box<Self>> {
        let own = backend.map_or(&[][..], |backend| &backend.filters);
        if rule.filters.is_empty() && own.is_empty() {
            return None;
        }
        let weighted = rule.backends.len() > 1;
        let (first, second) = if weighted { (own, &rule.filters[..]) } else { (&rule.filters[..], own) };
        let mut filters = Self::default();
        let (mut request, mut response, mut mirrors) = (Vec::new(), Vec::new(), Vec::new());
        let mut rewritten = None;
        for filter in first.iter().chain(second) {
            match filter {
                Filter::RequestHeaders(edit) => request.push(filters.without_authority(edit)),
                Filter::ResponseHeaders(edit) => response.push(edit.clone()),
                Filter::Rewrite(rewrite) => {
                    filters.path = rewrite.path.clone().or(filters.path);
                    rewritten = rewrite.authority.clone().map(Format::literal).or(rewritten);
                }
                Filter::Mirror(mirror) => mirrors.push(mirrored(route, rule, mirror, &resolve)),
                Filter::Cors(cors) => filters.cors = Some(cors.clone()),
                Filter::Fault(fault) => filters.fault = Some(fault.clone()),
            }
        }
        filters.authority = filters.authority.or(rewritten);
        request.retain(|edit| *edit != HeaderEdit::default());
        filters.request = merged(request, weighted);
        filters.response = merged(response, weighted);
        filters.mirrors = mirrors.into();
        Some(Box::new(filters))
    }

    /// Takes a new authority out of an edit. It cannot be added to nor removed.
    fn without_authority(&mut self, edit: &HeaderEdit) -> HeaderEdit {
        let is_authority = |name: &str| name == "host" || name == ":authority";
        let mut edit = edit.clone();
        edit.add.retain(|(name, _)| !is_authority(name));
        edit.remove.retain(|name| !is_authority(name));
        edit.set.retain(|(name, value)| {
            let other = !is_authority(name);
            if !other {
                self.authority = Some(value.clone());
            }
            other
        });
        edit
    }
}

/// Those of a rule with one destination are one list; a weighted cluster's and its route's stay apart.
fn merged(edits: Vec<HeaderEdit>, weighted: bool) -> Box<[HeaderEdit]> {
    if weighted || edits.len() < 2 {
        return edits.into();
    }
    let mut all = HeaderEdit::default();
    for edit in edits {
        all.set.extend(edit.set);
        all.add.extend(edit.add);
        all.remove.extend(edit.remove);
    }
    [all].into()
}

fn mirrored(
    route: &Route,
    rule: &Rule,
    mirror: &Mirror,
    resolve: impl Fn(&ServiceId, u16, Option<&Str>) -> Option<Resolved>,
) -> Mirrored {
    let target = match &mirror.target {
        BackendTarget::Invalid { .. } => None,
        BackendTarget::Service { service, port, subset } => {
            resolve(service, *port, subset.as_ref()).map(|resolved| GroupTarget {
                id: resolved.id,
                keep_address: resolved.keep_address,
                effective: Arc::new(Effective {
                    subset: subset.clone(),
                    ..Effective::of_mirror(route, rule, service, *port, &resolved)
                }),
            })
        }
    };
    Mirrored { share: mirror.share, what: mirror.target.clone(), target }
}

impl Effective {
    /// Where copies of these requests go.
    pub fn mirrors(&self) -> &[Mirrored] {
        self.filters.as_ref().map_or(&[], |filters| &filters.mirrors)
    }

    /// Trouble on purpose.
    pub fn fault(&self) -> Option<&FaultInjection> {
        self.filters.as_ref()?.fault.as_ref()
    }

    /// Who may call from a browser.
    pub fn cors(&self) -> Option<&Cors> {
        self.filters.as_ref()?.cors.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_model::{Created, Key, Namespace, Origin, Precedence, Rewrite, Visibility};

    fn edit(what: &str, value: &str) -> HeaderEdit {
        HeaderEdit { set: vec![(what.into(), Format::literal(value))], ..HeaderEdit::default() }
    }

    fn filters(rule: Vec<Filter>, backends: &[Vec<Filter>]) -> Option<Box<Filters>> {
        let target = BackendTarget::Invalid { status: 503, reason: "".into() };
        let backend =
            |filters: &Vec<Filter>| Backend { target: target.clone(), weight: 1, filters: filters.clone() };
        let rule =
            Rule { filters: rule, backends: backends.iter().map(backend).collect(), ..Rule::default() };
        let route = Route {
            key: Key::new(Origin::VirtualService, Namespace::default(), "r"),
            parents: Vec::new(),
            hosts: Vec::new(),
            rules: Vec::new(),
            precedence: Precedence::Listed,
            created: Created::UNKNOWN,
            visibility: Visibility::Public,
        };
        Filters::of_rule(&route, &rule, rule.backends.first(), |_, _, _| None)
    }

    #[test]
    fn a_rule_that_does_nothing_has_none() {
        assert_eq!(filters(Vec::new(), &[Vec::new()]), None);
    }

    #[test]
    fn a_single_destination_has_the_last_word_and_a_weighted_one_the_first() {
        let rule = || vec![Filter::RequestHeaders(edit("x", "rule"))];
        let own = || vec![Filter::RequestHeaders(edit("x", "backend"))];
        let values = |filters: Option<Box<Filters>>| -> Vec<String> {
            let request = filters.expect("there are some").request;
            request.iter().flat_map(|edit| &edit.set).map(|(_, value)| value.to_string()).collect()
        };
        assert_eq!(values(filters(rule(), &[own()])), ["rule", "backend"]);
        assert_eq!(values(filters(rule(), &[own(), own()])), ["backend", "rule"]);
    }

    #[test]
    fn an_authority_is_taken_out_of_edits_and_counts_more_than_a_rewrite() {
        let rewrite = Rewrite { authority: Some("by-rewrite".into()), path: None };
        let all = [Filter::RequestHeaders(edit("host", "by-edit")), Filter::Rewrite(rewrite)];
        for order in [[0, 1], [1, 0]] {
            let filters = filters(order.map(|at: usize| all[at].clone()).into(), &[Vec::new()]);
            let filters = filters.expect("there are some");
            assert_eq!(filters.authority, Some(Format::literal("by-edit")));
            assert!(filters.request.is_empty());
        }
    }
}
