//! VirtualService.

use super::super::istio_gateway::listener_names;
use super::super::{key, services, visible};
use crate::manifest::Manifest;
use crate::object::ObjectKind;
use crate::problem::{At, Draft, nearest};
use crate::schema::Spec;
use crate::schema::istio_gateway::{GatewaySpec, ServerSpec};
use crate::schema::virtual_service::{DestinationSpec, HttpSpec, MatchSpec, VirtualServiceSpec};
use crate::view::{Derived, Fact, View, is_older};
use lateen_model::{
    Backend, BackendTarget, HostPattern, Key, Namespace, Origin, Parent, Precedence, RequestMatch, Resource,
    Route, Rule, Str, Visibility,
};

pub(crate) fn virtual_service(
    view: &View<'_>,
    manifest: &Manifest,
    spec: &VirtualServiceSpec,
    derived: &mut Derived,
) {
    let namespace = &manifest.key.namespace;
    let hosts: Vec<HostPattern> = spec
        .hosts
        .iter()
        .filter_map(|host| HostPattern::parse(&view.state.qualify(host, namespace)).ok())
        .collect();
    if hosts.is_empty() {
        derived.not_enforced = Some("a VirtualService without hosts is not enforced yet".to_owned());
        return;
    }
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
    let rules: Vec<Vec<Rule>> = spec
        .http
        .iter()
        .enumerate()
        .map(|(index, http)| rules(view, manifest, index, http, derived))
        .collect();
    let by_gateway = spec.http.iter().flat_map(|http| &http.matches).any(|one| !one.gateways.is_empty());
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
    if by_gateway {
        // Some matches hold at some gateways only, so each gateway has a route of its own.
        for (gateway, parents) in attached {
            let rules = spec
                .http
                .iter()
                .zip(&rules)
                .flat_map(|(http, rules)| at_gateway(http, rules, gateway, namespace));
            push(Some(&full_name(gateway, namespace)), parents, rules.collect());
        }
    } else {
        push(
            None,
            attached.into_iter().flat_map(|(_, parents)| parents).collect(),
            rules.into_iter().flatten().collect(),
        );
    }
    if derived.entries.is_empty() {
        derived.rejected.get_or_insert(("NoGateway", "none of its gateways takes it".to_owned()));
    }
}

/// `namespace/name`, or `mesh`.
fn full_name(gateway: &str, own: &Namespace) -> String {
    match gateway.split_once('/') {
        None if gateway == "mesh" => gateway.to_owned(),
        None | Some((".", _)) => format!("{own}/{}", gateway.trim_start_matches("./")),
        Some(_) => gateway.to_owned(),
    }
}

/// Where a route for these hosts is attached at one of its gateways.
fn parents(
    view: &View<'_>,
    manifest: &Manifest,
    gateway: &At<Str>,
    hosts: &[HostPattern],
    derived: &mut Derived,
) -> Vec<Parent> {
    let full = full_name(gateway, &manifest.key.namespace);
    let Some((namespace, name)) = full.split_once('/') else { return vec![Parent::Mesh] };
    let Ok(namespace) = Namespace::parse(namespace) else { return Vec::new() };
    let found = view.get(ObjectKind::IstioGateway, &namespace, name);
    let Some(Spec::IstioGateway(spec)) = found.and_then(|found| found.spec.as_ref()) else {
        let known = view.stating(Fact::KindIn(ObjectKind::IstioGateway, namespace.clone()));
        let suggestion = nearest(name, known.map(|gateway| gateway.key.name.as_str()));
        let message = format!("there is no Gateway {name:?} in {namespace}");
        derived.unresolved("GatewayNotFound", Draft::error(gateway.span, message).suggest(suggestion));
        return Vec::new();
    };
    let key = Key::new(Origin::IstioGateway, namespace.clone(), name);
    let parent = |listener: Option<Str>| Parent::Gateway { gateway: key.clone(), listener, port: None };
    let servers = taking(spec, &namespace, &manifest.key.namespace, hosts);
    if servers.is_empty() {
        let message = format!("no server of the Gateway {full} is for hosts of this VirtualService");
        derived.unresolved("NoMatchingHost", Draft::error(gateway.span, message));
    }
    if servers.len() == spec.servers.len() {
        return vec![parent(None)];
    }
    servers.into_iter().map(|name| parent(Some(name))).collect()
}

/// The servers of a Gateway that take routes of a namespace for one of these hosts.
fn taking(spec: &GatewaySpec, gateway: &Namespace, own: &Namespace, hosts: &[HostPattern]) -> Vec<Str> {
    let takes = |server: &ServerSpec| {
        server.hosts.iter().any(|host| {
            let allowed = match host.namespace.as_deref() {
                None => true,
                Some(".") => gateway == own,
                Some(namespace) => own == namespace,
            };
            allowed && hosts.iter().any(|wanted| wanted.intersect(&host.pattern).is_some())
        })
    };
    let servers = spec.servers.iter().zip(listener_names(spec));
    servers.filter(|(server, _)| takes(server)).map(|(_, name)| name).collect()
}

/// In the mesh one VirtualService has a host: the oldest. The others are told.
fn tell_loser(
    view: &View<'_>,
    manifest: &Manifest,
    spec: &VirtualServiceSpec,
    visibility: &Visibility,
    derived: &mut Derived,
) {
    for host in &spec.hosts {
        let full = view.state.qualify(host, &manifest.key.namespace);
        let older = view.stating(Fact::VirtualHost(full.as_str().into())).find(|other| match &other.spec {
            Some(Spec::VirtualService(theirs)) => {
                let in_mesh =
                    theirs.gateways.is_empty() || theirs.gateways.iter().any(|name| name.as_str() == "mesh");
                let seen = theirs.export_to.visibility(&other.key.namespace);
                in_mesh && meet(visibility, &seen) && is_older(other, manifest)
            }
            _ => false,
        });
        if let Some(older) = older {
            let message = format!(
                "{} has routes for {full} already and is older, so these are not used in the mesh",
                older.key
            );
            derived.conflict(Draft::warning(host.span, message));
        }
    }
}

/// Whether some client sees both.
fn meet(a: &Visibility, b: &Visibility) -> bool {
    match (a, b) {
        (Visibility::Public, Visibility::Public) => true,
        (Visibility::Public, Visibility::Only(names)) | (Visibility::Only(names), Visibility::Public) => {
            !names.is_empty()
        }
        (Visibility::Only(a), Visibility::Only(b)) => a.iter().any(|name| b.contains(name)),
    }
}

/// A match may name only gateways that the VirtualService is for.
fn check_match_gateways(
    spec: &VirtualServiceSpec,
    gateways: &[At<Str>],
    own: &Namespace,
    derived: &mut Derived,
) {
    for name in spec.http.iter().flat_map(|http| &http.matches).flat_map(|one| &one.gateways) {
        let full = full_name(name, own);
        if !gateways.iter().any(|gateway| full_name(gateway, own) == full) {
            let message = format!(
                "{:?} is not among the `gateways` of this VirtualService, so this never matches",
                name.as_str()
            );
            derived.drafts.push(Draft::warning(name.span, message));
        }
    }
}

/// The rules of one `http` entry that hold at this gateway.
fn at_gateway(http: &HttpSpec, rules: &[Rule], gateway: &str, own: &Namespace) -> Vec<Rule> {
    let full = full_name(gateway, own);
    let holds = |one: &MatchSpec| {
        one.gateways.is_empty() || one.gateways.iter().any(|name| full_name(name, own) == full)
    };
    let alive: Vec<&MatchSpec> = http.matches.iter().filter(|one| !one.never).collect();
    if http.matches.is_empty() || alive.iter().all(|one| holds(one)) {
        return rules.to_vec();
    }
    let keep: Vec<bool> = alive.iter().map(|one| holds(one)).collect();
    if !keep.contains(&true) {
        return Vec::new();
    }
    let filtered = |rule: &Rule| {
        let matches = rule.matches.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(one, _)| one.clone());
        Rule { matches: matches.collect(), ..rule.clone() }
    };
    rules.iter().map(filtered).collect()
}

/// The rules that one `http` entry makes: one, or one for each port that a destination without port may mean.
fn rules(
    view: &View<'_>,
    manifest: &Manifest,
    index: usize,
    http: &HttpSpec,
    derived: &mut Derived,
) -> Vec<Rule> {
    let matches: Vec<RequestMatch> =
        http.matches.iter().filter(|one| !one.never).map(|one| one.request.clone()).collect();
    if matches.is_empty() && !http.matches.is_empty() {
        return Vec::new();
    }
    check_weights(http, derived);
    let targets: Vec<Target> =
        http.route.iter().map(|destination| target(view, manifest, destination, derived)).collect();
    let mut ports: Vec<u16> =
        targets.iter().flat_map(|target| target.callers_ports.iter().copied()).collect();
    ports.sort_unstable();
    ports.dedup();
    let rule = |port: Option<u16>, matches: Vec<RequestMatch>| Rule {
        name: http.name.clone().unwrap_or_else(|| index.to_string().into()),
        matches,
        filters: http.filters.clone(),
        backends: http
            .route
            .iter()
            .zip(&targets)
            .map(|(destination, target)| Backend {
                target: target.at(port),
                weight: destination.weight.unwrap_or(u32::from(http.route.len() == 1)),
                filters: destination.filters.clone(),
            })
            .collect(),
        timeout: http.timeout,
        retry: http.retry.clone(),
        ..Rule::default()
    };
    if ports.is_empty() {
        return vec![rule(None, matches)];
    }
    // A destination of several ports that names none means the port that the caller used.
    let with_port = |port: u16| -> Vec<RequestMatch> {
        match matches.as_slice() {
            [] => vec![RequestMatch { port: Some(port), ..RequestMatch::default() }],
            some => some
                .iter()
                .filter(|one| one.port.is_none_or(|own| own == port))
                .map(|one| RequestMatch { port: Some(port), ..one.clone() })
                .collect(),
        }
    };
    ports
        .into_iter()
        .map(|port| (port, with_port(port)))
        .filter(|(_, matches)| !matches.is_empty())
        .map(|(port, matches)| rule(Some(port), matches))
        .collect()
}

fn check_weights(http: &HttpSpec, derived: &mut Derived) {
    if http.route.len() < 2 {
        return;
    }
    let weights = http.route.iter().map(|destination| u64::from(destination.weight.unwrap_or(0)));
    if weights.sum::<u64>() == 0 {
        derived.drafts.push(
            Draft::error(http.span, "all weights of this rule are 0, so nothing is served")
                .expected("`weight` at each destination"),
        );
        return;
    }
    for destination in http.route.iter().filter(|destination| destination.weight.is_none()) {
        let message = "among several destinations one without `weight` gets nothing";
        derived.drafts.push(Draft::warning(destination.host.span, message));
    }
}

/// A destination, found or not.
struct Target {
    target: BackendTarget,
    /// Ports the caller may have used, where the destination names none and has several.
    callers_ports: Vec<u16>,
}

impl Target {
    fn at(&self, port: Option<u16>) -> BackendTarget {
        match (&self.target, port) {
            (BackendTarget::Service { service, subset, .. }, Some(port))
                if !self.callers_ports.is_empty() =>
            {
                if !self.callers_ports.contains(&port) {
                    let reason = format!("{} has no port {port}", service.hostname);
                    return BackendTarget::Invalid { status: 503, reason: reason.into() };
                }
                BackendTarget::Service { service: service.clone(), port, subset: subset.clone() }
            }
            (target, _) => target.clone(),
        }
    }
}

fn target(
    view: &View<'_>,
    manifest: &Manifest,
    destination: &DestinationSpec,
    derived: &mut Derived,
) -> Target {
    let namespace = &manifest.key.namespace;
    let host = view.state.qualify(&destination.host, namespace);
    let mut invalid = |reason: &'static str, draft: Draft| {
        let target = BackendTarget::Invalid { status: 503, reason: draft.message.as_str().into() };
        derived.unresolved(reason, draft);
        Target { target, callers_ports: Vec::new() }
    };
    let Some(found) = services::find(view, &host, namespace) else {
        let draft = super::unknown_host(view, &destination.host, &host, namespace, "no service has the host");
        return invalid("HostNotFound", draft);
    };
    if let Some(subset) = &destination.subset {
        let known = subsets(view, &host, namespace);
        if !known.contains(&subset.as_str()) {
            let message = format!("no DestinationRule for {host} has a subset {:?}", subset.as_str());
            let suggestion = nearest(subset, known.iter().copied());
            return invalid("SubsetNotFound", Draft::error(subset.span, message).suggest(suggestion));
        }
    }
    let (port, callers_ports) = match (&destination.port, found.ports.as_slice()) {
        (Some(port), ports) if !ports.contains(&port.value) => {
            let draft = Draft::error(port.span, format!("{host} has no port {}", port.value));
            return invalid("PortNotFound", draft.expected(super::http_route::list(ports)));
        }
        (Some(port), _) => (port.value, Vec::new()),
        (None, []) => {
            let draft =
                Draft::error(destination.host.span, format!("{host} has no port that takes requests"));
            return invalid("PortNotFound", draft);
        }
        (None, [port]) => (*port, Vec::new()),
        (None, ports) => (ports[0], ports.to_vec()),
    };
    let subset = destination.subset.as_ref().map(|subset| subset.value.clone());
    Target { target: BackendTarget::Service { service: found.id, port, subset }, callers_ports }
}

/// The subsets that DestinationRules which a client of this namespace sees give to a host.
fn subsets<'a>(view: &View<'a>, host: &str, client: &Namespace) -> Vec<&'a str> {
    let labels = host.match_indices('.').map(|(place, _)| format!("*{}", &host[place..]));
    let patterns = std::iter::once(host.to_owned()).chain(labels).chain(["*".to_owned()]);
    patterns
        .flat_map(|pattern| view.stating(Fact::Destination(pattern.into())))
        .filter_map(|manifest| match &manifest.spec {
            Some(Spec::DestinationRule(rule)) => Some((manifest, rule)),
            _ => None,
        })
        .filter(|(manifest, rule)| rule.export_to.visibility(&manifest.key.namespace).allows(client))
        .flat_map(|(_, rule)| rule.subsets.iter().map(|subset| subset.name.as_str()))
        .collect()
}
