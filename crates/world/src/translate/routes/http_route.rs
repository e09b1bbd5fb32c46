//! HTTPRoute and GRPCRoute.

use super::super::gateway_api::check_class;
use super::super::{key, services, visible};
use crate::manifest::Manifest;
use crate::object::ObjectKind;
use crate::problem::{Draft, nearest};
use crate::schema::Spec;
use crate::schema::entries::ServiceEntrySpec;
use crate::schema::gateway_api::{AllowedFrom, ListenerSpec};
use crate::schema::http_route::{BackendSpec, FiltersSpec, ParentSpec, RouteSpec, RuleSpec};
use crate::view::{Derived, Fact, View};
use lateen_model::{
    Answer, Backend, BackendTarget, Filter, HostPattern, Key, Labels, Mirror, Namespace, Origin, Parent,
    Precedence, Resource, Route, Rule, Str, Visibility,
};

pub(crate) fn http_route(view: &View<'_>, manifest: &Manifest, spec: &RouteSpec, derived: &mut Derived) {
    let mut parents = Vec::new();
    // For Services of other namespaces: only for clients of the own one.
    let mut consumed = Vec::new();
    for parent in &spec.parents {
        match (parent.reference.group.as_str(), parent.reference.kind.as_str()) {
            ("gateway.networking.k8s.io", "Gateway") => {
                parents.extend(gateway_parents(view, manifest, spec, parent, derived));
            }
            ("", "Service") => match service_parent(view, manifest, parent, derived) {
                Some((parent, true)) => parents.push(parent),
                Some((parent, false)) => consumed.push(parent),
                None => {}
            },
            ("networking.istio.io", "ServiceEntry") => {
                let own =
                    parent.reference.namespace.as_ref().is_none_or(|at| at.value == manifest.key.namespace);
                let found = entry_parents(view, manifest, parent, derived);
                if own { parents.extend(found) } else { consumed.extend(found) }
            }
            (group, kind) => {
                let message = format!("a route cannot be attached to {kind:?} of {group:?}");
                let draft = Draft::error(parent.reference.name.span, message)
                    .expected("a Gateway, a Service or a ServiceEntry");
                derived.unresolved("InvalidKind", draft);
            }
        }
    }
    if spec.parents.is_empty() {
        let draft =
            Draft::warning(manifest.meta.name_span, "without `parentRefs` the route is attached to nothing");
        derived.reject("NoParents", draft);
    } else if parents.is_empty() && consumed.is_empty() {
        derived.rejected.get_or_insert(("NoParents", "none of its parents takes it".to_owned()));
    }
    let rules = spec.rules.iter().enumerate().filter(|(_, rule)| !rule.never);
    let rules: Vec<_> = rules.map(|(index, rule)| self::rule(view, manifest, index, rule, derived)).collect();
    let rules = if spec.rules.is_empty() { vec![everything()] } else { rules };
    let mut push = |key: Key, parents: Vec<Parent>, visibility: Visibility| {
        if parents.is_empty() {
            return;
        }
        let route = Route {
            key: key.clone(),
            parents,
            hosts: spec.hosts.iter().map(|host| host.value.clone()).collect(),
            rules: rules.clone(),
            precedence: Precedence::MostSpecific,
            created: manifest.meta.created,
            visibility: visibility.clone(),
        };
        derived.entries.push(visible(key, &visibility, Resource::Route(route)));
    };
    let own = Visibility::Only(vec![manifest.key.namespace.clone()]);
    let id = key(manifest, origin(manifest));
    push(id.clone(), parents, Visibility::Public);
    push(id.section("consumer"), consumed, own);
}

fn origin(manifest: &Manifest) -> Origin {
    if manifest.key.kind == ObjectKind::GrpcRoute { Origin::GrpcRoute } else { Origin::HttpRoute }
}

/// A route without rules has one that matches everything and has no backend.
fn everything() -> Rule {
    Rule { name: "0".into(), ..Rule::default() }
}

/// The listeners of a Gateway that take the route.
fn gateway_parents(
    view: &View<'_>,
    manifest: &Manifest,
    spec: &RouteSpec,
    parent: &ParentSpec,
    derived: &mut Derived,
) -> Vec<Parent> {
    let namespace = parent.reference.namespace.as_ref().map_or(&manifest.key.namespace, |at| &at.value);
    let name = &parent.reference.name;
    let Some(Spec::Gateway(gateway)) =
        view.get(ObjectKind::Gateway, namespace, name).and_then(|found| found.spec.as_ref())
    else {
        let known = view.stating(Fact::KindIn(ObjectKind::Gateway, namespace.clone()));
        let suggestion = nearest(name, known.map(|gateway| gateway.key.name.as_str()));
        let message = format!("there is no Gateway {:?} in {namespace}", name.as_str());
        derived.unresolved("NoMatchingParent", Draft::error(name.span, message).suggest(suggestion));
        return Vec::new();
    };
    if check_class(view, &gateway.class).is_err() {
        derived.unresolved(
            "NoMatchingParent",
            Draft::warning(name.span, "this Gateway is of a class that is not ours"),
        );
        return Vec::new();
    }
    let named: Vec<&ListenerSpec> = gateway
        .listeners
        .iter()
        .filter(|listener| parent.section.as_ref().is_none_or(|section| section.value == listener.name.value))
        .filter(|listener| parent.port.as_ref().is_none_or(|port| port.value == listener.port.value))
        .collect();
    if named.is_empty() {
        let span = parent.section.as_ref().map_or(name.span, |section| section.span);
        let suggestion = parent.section.as_ref().and_then(|section| {
            nearest(section, gateway.listeners.iter().map(|listener| listener.name.as_str()))
        });
        derived.unresolved(
            "NoMatchingParent",
            Draft::error(span, "the Gateway has no such listener").suggest(suggestion),
        );
        return Vec::new();
    }
    let own = &manifest.key.namespace;
    let allowed: Vec<_> =
        named.into_iter().filter(|listener| takes(view, listener, namespace, manifest)).collect();
    if allowed.is_empty() {
        let message =
            format!("no listener of the Gateway takes {}s of the namespace {own}", manifest.key.kind);
        let draft = Draft::error(name.span, message).expected("`allowedRoutes.namespaces` that name it");
        derived.unresolved("NotAllowedByListeners", draft);
        return Vec::new();
    }
    let key = Key::new(Origin::Gateway, namespace.clone(), name.value.clone());
    let to_parent = |listener: &ListenerSpec| Parent::Gateway {
        gateway: key.clone(),
        listener: Some(listener.name.value.clone()),
        port: None,
    };
    let parents: Vec<_> =
        allowed.into_iter().filter(|listener| shares_host(listener, spec)).map(to_parent).collect();
    if parents.is_empty() {
        let span = spec.hosts.first().map_or(name.span, |host| host.span);
        let draft = Draft::error(span, "no listener of the Gateway has a host in common with `hostnames`");
        derived.unresolved("NoMatchingListenerHostname", draft);
    }
    parents
}

fn shares_host(listener: &ListenerSpec, spec: &RouteSpec) -> bool {
    let any = HostPattern::Any;
    let theirs = listener.host.as_ref().map_or(&any, |host| &host.value);
    spec.hosts.is_empty() || spec.hosts.iter().any(|host| host.value.intersect(theirs).is_some())
}

/// Whether a listener takes a route.
fn takes(view: &View<'_>, listener: &ListenerSpec, gateway: &Namespace, manifest: &Manifest) -> bool {
    let route = &manifest.key.namespace;
    let namespace = match &listener.from {
        AllowedFrom::All => true,
        AllowedFrom::Same => gateway == route,
        AllowedFrom::Nobody => false,
        AllowedFrom::Selector(selector) => {
            let found = view.get(ObjectKind::Namespace, &Namespace::default(), route.as_str());
            let mut labels = found.map_or_else(Labels::default, |found| found.meta.labels.clone());
            labels.insert("kubernetes.io/metadata.name", route.as_str());
            selector.matches(&labels)
        }
    };
    let grpc = manifest.key.kind == ObjectKind::GrpcRoute;
    namespace && if grpc { listener.takes_grpc } else { listener.takes_http }
}

/// The Service a route is attached to, and whether it is of the own namespace (a producer route).
fn service_parent(
    view: &View<'_>,
    manifest: &Manifest,
    parent: &ParentSpec,
    derived: &mut Derived,
) -> Option<(Parent, bool)> {
    let namespace = parent.reference.namespace.as_ref().map_or(&manifest.key.namespace, |at| &at.value);
    let name = &parent.reference.name;
    let host = view.state.service_host(name, namespace);
    let Some(found) = services::find(view, &host, namespace) else {
        let short = super::unknown_host(view, name, &host, namespace, "no service has the host");
        derived.unresolved("NoMatchingParent", short);
        return None;
    };
    let port = parent.port.as_ref();
    if let Some(port) = port.filter(|port| !found.ports.contains(&port.value)) {
        derived.unresolved(
            "NoMatchingParent",
            Draft::error(port.span, format!("the service has no port {}", port.value)),
        );
        return None;
    }
    let parent = Parent::Service { service: found.id, port: port.map(|port| port.value) };
    Some((parent, *namespace == manifest.key.namespace))
}

/// The hosts of a ServiceEntry that a route is attached to.
fn entry_parents(
    view: &View<'_>,
    manifest: &Manifest,
    parent: &ParentSpec,
    derived: &mut Derived,
) -> Vec<Parent> {
    let own = &manifest.key.namespace;
    let namespace = parent.reference.namespace.as_ref().map_or(own, |at| &at.value);
    let name = &parent.reference.name;
    let found = view.get(ObjectKind::ServiceEntry, namespace, name);
    let seen = |spec: &ServiceEntrySpec| spec.export_to.visibility(namespace).allows(own);
    let Some((found, spec)) = found.and_then(|found| match &found.spec {
        Some(Spec::ServiceEntry(spec)) if seen(spec) => Some((found, spec)),
        _ => None,
    }) else {
        let known = view.stating(Fact::KindIn(ObjectKind::ServiceEntry, namespace.clone()));
        let suggestion = nearest(name, known.map(|entry| entry.key.name.as_str()));
        let message = format!("there is no ServiceEntry {:?} in {namespace}", name.as_str());
        derived.unresolved("NoMatchingParent", Draft::error(name.span, message).suggest(suggestion));
        return Vec::new();
    };
    let port = parent.port.as_ref();
    if let Some(port) = port.filter(|port| !spec.ports.iter().any(|own| own.number.value == port.value)) {
        let message = format!("the ServiceEntry has no port {}", port.value);
        derived.unresolved("NoMatchingParent", Draft::error(port.span, message));
        return Vec::new();
    }
    let ids = view.state.service_ids(found).into_iter();
    let parents: Vec<_> =
        ids.map(|service| Parent::Service { service, port: port.map(|port| port.value) }).collect();
    if parents.is_empty() {
        let message = "no host of the ServiceEntry is enforced yet, so nothing is attached to it";
        derived.unresolved("NoMatchingParent", Draft::unsupported(name.span, message));
    }
    parents
}

fn rule(view: &View<'_>, manifest: &Manifest, index: usize, rule: &RuleSpec, derived: &mut Derived) -> Rule {
    let mut backends: Vec<Backend> = rule
        .backends
        .iter()
        .map(|backend| Backend {
            target: match backend.filters.closed {
                Some(filter) => closed(filter),
                None => target(view, manifest, backend, derived),
            },
            weight: backend.weight,
            filters: filters(view, manifest, &backend.filters, derived),
        })
        .collect();
    let mut answer = rule.filters.redirect.clone().map(Answer::Redirect);
    if let Some(filter) = rule.filters.closed {
        // Passing over a filter may open what it was to guard.
        backends = vec![Backend { target: closed(filter), weight: 1, filters: Vec::new() }];
        answer = None;
    }
    Rule {
        name: rule.name.clone().unwrap_or_else(|| index.to_string().into()),
        matches: rule.matches.clone(),
        filters: filters(view, manifest, &rule.filters, derived),
        answer,
        backends,
        timeout: rule.timeout,
        retry: rule.retry.clone(),
        persistence: rule.persistence.clone(),
    }
}

fn closed(filter: &str) -> BackendTarget {
    BackendTarget::Invalid {
        status: 500,
        reason: format!("the filter `{filter}` is not enforced yet").into(),
    }
}

/// Filters, with what they send copies to looked up. A copy that leads nowhere is told and left out.
fn filters(view: &View<'_>, manifest: &Manifest, spec: &FiltersSpec, derived: &mut Derived) -> Vec<Filter> {
    let mirrors = spec.mirrors.iter().filter(|(_, share)| share.parts() > 0);
    let mirrors = mirrors.filter_map(|(backend, share)| match target(view, manifest, backend, derived) {
        BackendTarget::Invalid { .. } => None,
        target => Some(Filter::Mirror(Mirror { target, share: *share })),
    });
    let mirrors: Vec<Filter> = mirrors.collect();
    spec.plain.iter().cloned().chain(mirrors).collect()
}

fn target(
    view: &View<'_>,
    manifest: &Manifest,
    backend: &BackendSpec,
    derived: &mut Derived,
) -> BackendTarget {
    let own = &manifest.key.namespace;
    let reference = &backend.reference;
    let namespace = reference.namespace.as_ref().map_or(own, |at| &at.value);
    let mut invalid = |reason: &'static str, draft: Draft| {
        let target = BackendTarget::Invalid { status: 500, reason: Str::from(draft.message.as_str()) };
        derived.unresolved(reason, draft);
        target
    };
    let span = reference.name.span;
    let host = match (reference.group.as_str(), reference.kind.as_str()) {
        ("", "Service") => view.state.service_host(&reference.name, namespace),
        // Istio's way to name a host of a ServiceEntry.
        ("networking.istio.io", "Hostname") => reference.name.to_ascii_lowercase(),
        (group, kind) => {
            let message = format!("a backend cannot be of kind {kind:?} of {group:?}");
            return invalid("InvalidKind", Draft::error(span, message).expected("a Service"));
        }
    };
    let grant = (reference.group.as_str(), reference.kind.as_str(), namespace, reference.name.as_str());
    if !view.granted((manifest.key.kind, own), grant) {
        let message = format!(
            "no ReferenceGrant in {namespace} lets {} {} of {own} use {}",
            if manifest.key.kind == ObjectKind::GrpcRoute { "a" } else { "an" },
            manifest.key.kind,
            reference.name.as_str()
        );
        return invalid("RefNotPermitted", Draft::error(span, message));
    }
    let Some(found) = services::find(view, &host, own) else {
        let draft = super::unknown_host(view, &reference.name, &host, namespace, "no service has the host");
        return invalid("BackendNotFound", draft);
    };
    let Some(port) = &backend.port else {
        return invalid(
            "PortMissing",
            Draft::error(span, "a Service as backend needs `port`").expected(list(&found.ports)),
        );
    };
    if !found.ports.contains(&port.value) {
        let draft = Draft::error(port.span, format!("the service has no port {}", port.value));
        return invalid("PortNotFound", draft.expected(list(&found.ports)));
    }
    BackendTarget::Service { service: found.id, port: port.value, subset: None }
}

/// `80 or 443`.
pub(super) fn list(ports: &[u16]) -> String {
    let texts: Vec<_> = ports.iter().map(u16::to_string).collect();
    texts.join(" or ")
}
