//! Small words to build a mesh with, and to ask it.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses some of the words")]

use lateen_engine::*;
use lateen_model::*;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

pub fn namespace(text: &str) -> Namespace {
    Namespace::parse(text).unwrap()
}

/// `reviews.shop` is the id of a Kubernetes service, anything longer a host in namespace `default`.
pub fn service_id(text: &str) -> ServiceId {
    match text.split('.').collect::<Vec<_>>()[..] {
        [name, ns] => ServiceId {
            namespace: namespace(ns),
            hostname: Hostname::parse(&format!("{name}.{ns}.svc.cluster.local")).unwrap(),
        },
        _ => ServiceId { namespace: Namespace::default(), hostname: Hostname::parse(text).unwrap() },
    }
}

pub fn key(origin: Origin, text: &str) -> Key {
    let (ns, name) = text.split_once('/').unwrap();
    Key::new(origin, namespace(ns), name)
}

pub fn entry(key: Key, resource: Resource) -> Arc<Entry> {
    Arc::new(Entry::for_everyone(key, resource))
}

pub fn viewer(text: &str, role: ProxyRole, labels: &[(&str, &str)]) -> Viewer {
    let (ns, name) = text.split_once('/').unwrap();
    Viewer {
        role,
        name: name.into(),
        identity: identity(ns, name),
        labels: labels.iter().copied().collect(),
        node: NodeName::default(),
        network: NetworkId::default(),
    }
}

pub fn identity(ns: &str, account: &str) -> Identity {
    Identity::new(TrustDomain::default(), namespace(ns), ServiceAccount::parse(account).unwrap())
}

/// `http:80 tcp:90`; a headless service has no addresses.
pub fn service(name: &str, addresses: &[&str], ports: &str) -> Arc<Entry> {
    let service = service_value(name, addresses, ports);
    let name = format!("{}/{}", service.namespace, service.name);
    entry(key(Origin::Service, &name), Resource::Service(service))
}

pub fn service_value(name: &str, addresses: &[&str], ports: &str) -> Service {
    let id = service_id(name);
    let address = |ip: &&str| MeshAddr { network: NetworkId::default(), ip: ip.parse().unwrap() };
    let ports = ports.split_whitespace().map(|port| {
        let (protocol, number) = port.split_once(':').unwrap();
        let number = number.parse().unwrap();
        ServicePort {
            number,
            name: port.into(),
            protocol: protocol_of(protocol),
            target: TargetPort::Number(number),
        }
    });
    Service {
        namespace: id.namespace.clone(),
        name: name.split('.').next().unwrap().into(),
        hostname: id.hostname,
        addresses: addresses.iter().map(address).collect(),
        ports: ports.collect(),
        subject_alt_names: Vec::new(),
        location: Location::Internal,
        canonical: true,
        visibility: Visibility::Public,
        publish_not_ready: false,
        resolution: Default::default(),
    }
}

pub fn protocol_of(text: &str) -> AppProtocol {
    let all = [
        AppProtocol::Detect,
        AppProtocol::Http1,
        AppProtocol::Http2,
        AppProtocol::Grpc,
        AppProtocol::Tcp,
        AppProtocol::Tls,
        AppProtocol::Udp,
    ];
    all.into_iter().find(|protocol| protocol.to_string() == text).unwrap()
}

/// A workload with a proxy; `services` says `reviews.shop http:80->8080` and the like.
pub fn workload(name: &str, ip: &str, labels: &[(&str, &str)], services: &[(&str, &str)]) -> Workload {
    let (ns, short) = name.split_once('/').unwrap();
    let mut known: BTreeMap<ServiceId, Vec<WorkloadPort>> = BTreeMap::new();
    for (service, ports) in services {
        let ports = ports.split_whitespace().map(|port| {
            let (protocol, numbers) = port.split_once(':').unwrap();
            let (service_port, target_port) = numbers.split_once("->").unwrap_or((numbers, numbers));
            WorkloadPort {
                service_port: service_port.parse().unwrap(),
                target_port: target_port.parse().unwrap(),
                protocol: protocol_of(protocol),
            }
        });
        known.insert(service_id(service), ports.collect());
    }
    Workload {
        uid: key(Origin::Instance, name).to_string().into(),
        name: short.into(),
        namespace: namespace(ns),
        addresses: ip.split_whitespace().map(|ip| ip.parse().unwrap()).collect(),
        hostname: None,
        network: NetworkId::default(),
        tunnel: Tunnel::Hbone,
        trust_domain: TrustDomain::default(),
        service_account: ServiceAccount::parse(short).unwrap(),
        node: NodeName::default(),
        cluster: ClusterId::default(),
        canonical_name: short.into(),
        canonical_revision: "latest".into(),
        workload_name: short.into(),
        labels: labels.iter().copied().collect(),
        services: known,
        policies: Vec::new(),
        health: Health::Healthy,
        locality: Locality::default(),
        weight: 1,
    }
}

pub fn instance(workload: Workload) -> Arc<Entry> {
    let name = format!("{}/{}", workload.namespace, workload.name);
    entry(key(Origin::Instance, &name), Resource::Workload(workload))
}

/// `reviews.shop:80`, `reviews.shop:80/v1`, `500` for an invalid backend.
pub fn backend(text: &str, weight: u32) -> Backend {
    let target = match text.parse() {
        Ok(status) => BackendTarget::Invalid { status, reason: "as the test says".into() },
        Err(_) => {
            let (service, port) = text.split_once(':').unwrap();
            let (port, subset) = port.split_once('/').map_or((port, None), |(p, s)| (p, Some(s.into())));
            BackendTarget::Service { service: service_id(service), port: port.parse().unwrap(), subset }
        }
    };
    Backend { target, weight, filters: Vec::new() }
}

/// Alternatives separated by `|`, parts by space: `/exact`, `/prefix*`, `~regex`, `/segments/**`,
/// `method=GET`, `host=a`, `h:name=value`, `-h:name=value`, `q:name=value`, `port=80`, `ns=a`, `label:app=x`.
pub fn matches(text: &str) -> Vec<RequestMatch> {
    text.split('|').map(str::trim).filter(|text| !text.is_empty()).map(one_match).collect()
}

fn one_match(text: &str) -> RequestMatch {
    let mut result = RequestMatch::default();
    for part in text.split_whitespace() {
        let named = |text: &str| {
            let (name, value) = text.split_once('=').unwrap();
            NamedMatch { name: name.into(), value: StringMatch::from_policy_value(value) }
        };
        if let Some(rest) = part.strip_prefix("h:") {
            result.headers.push(named(rest));
        } else if let Some(rest) = part.strip_prefix("-h:") {
            result.without_headers.push(named(rest));
        } else if let Some(rest) = part.strip_prefix("q:") {
            result.query.push(named(rest));
        } else if let Some(rest) = part.strip_prefix("method=") {
            result.method = Some(StringMatch::Exact(rest.into()));
        } else if let Some(rest) = part.strip_prefix("host=") {
            result.authority = Some(StringMatch::Exact(rest.into()));
        } else if let Some(rest) = part.strip_prefix("port=") {
            result.port = Some(rest.parse().unwrap());
        } else if let Some(rest) = part.strip_prefix("ns=") {
            result.source_namespace = Some(namespace(rest));
        } else if let Some(rest) = part.strip_prefix("label:") {
            let (name, value) = rest.split_once('=').unwrap();
            result.source_labels = Selector::new([(name, value)].into_iter().collect());
        } else if let Some(rest) = part.strip_prefix('~') {
            result.path = Some(PathMatch::Text(StringMatch::Regex(FullRegex::parse(rest).unwrap())));
        } else if let Some(rest) = part.strip_suffix("/**") {
            result.path = Some(PathMatch::segments(&format!("{rest}/")));
        } else {
            result.path = Some(PathMatch::Text(StringMatch::from_policy_value(part)));
        }
    }
    result
}

/// Backends as `reviews.shop:80/v1*90 reviews.shop:80/v2*10`.
pub fn rule(name: &str, matching: &str, backends: &str) -> Rule {
    let backends = backends.split_whitespace().map(|text| {
        let (text, weight) = text.split_once('*').unwrap_or((text, "1"));
        backend(text, weight.parse().unwrap())
    });
    Rule {
        name: name.into(),
        matches: matches(matching),
        filters: Vec::new(),
        backends: backends.collect(),
        timeout: None,
        retry: None,
        ..Rule::default()
    }
}

pub fn hosts(text: &str) -> Vec<HostPattern> {
    text.split_whitespace().map(|host| HostPattern::parse(host).unwrap()).collect()
}

pub fn virtual_service(name: &str, hosts_text: &str, rules: Vec<Rule>) -> Route {
    Route {
        key: key(Origin::VirtualService, name),
        parents: vec![Parent::Mesh],
        hosts: hosts(hosts_text),
        rules,
        precedence: Precedence::Listed,
        created: Created::UNKNOWN,
        visibility: Visibility::Public,
    }
}

pub fn http_route(name: &str, parents: Vec<Parent>, hosts_text: &str, rules: Vec<Rule>) -> Route {
    Route {
        key: key(Origin::HttpRoute, name),
        parents,
        hosts: hosts(hosts_text),
        rules,
        precedence: Precedence::MostSpecific,
        created: Created::UNKNOWN,
        visibility: Visibility::Public,
    }
}

pub fn of_service(name: &str) -> Parent {
    Parent::Service { service: service_id(name), port: None }
}

pub fn of_gateway(origin: Origin, name: &str) -> Parent {
    Parent::Gateway { gateway: key(origin, name), listener: None, port: None }
}

pub fn route(route: Route) -> Arc<Entry> {
    entry(route.key.clone(), Resource::Route(route))
}

pub fn policy(origin: Origin, name: &str, target: Target, kind: PolicyKind) -> Arc<Entry> {
    let id = key(origin, name);
    entry(id.clone(), Resource::Policy(Policy { id, target, created: Created::UNKNOWN, kind }))
}

/// What clients do with a host, without subsets.
pub fn destination(name: &str, host: &str, traffic: TrafficPolicy) -> Arc<Entry> {
    let kind = PolicyKind::Destination(Box::new(DestinationPolicy {
        host: HostPattern::parse(host).unwrap(),
        traffic,
        clients: Selector::default(),
        subsets: Vec::new(),
        visibility: Visibility::Public,
    }));
    policy(Origin::DestinationRule, name, Target::Mesh, kind)
}

/// Subsets as `v1:version=v1 v2:version=v2`.
pub fn destination_rule(
    name: &str,
    host: &str,
    balance: Option<BalanceAlgorithm>,
    subsets: &str,
) -> Arc<Entry> {
    let subsets = subsets.split_whitespace().map(|subset| {
        let (name, label) = subset.split_once(':').unwrap();
        let (key, value) = label.split_once('=').unwrap();
        Subset {
            name: name.into(),
            labels: Selector::new([(key, value)].into_iter().collect()),
            traffic: TrafficPolicy::default(),
        }
    });
    let kind = PolicyKind::Destination(Box::new(DestinationPolicy {
        host: HostPattern::parse(host).unwrap(),
        traffic: TrafficPolicy { balance: balance.map(Into::into), ..TrafficPolicy::default() },
        clients: Selector::default(),
        subsets: subsets.collect(),
        visibility: Visibility::Public,
    }));
    policy(Origin::DestinationRule, name, Target::Mesh, kind)
}

pub fn authorization(
    name: &str,
    target: Target,
    action: Action,
    rules: Vec<AuthorizationRule>,
) -> Arc<Entry> {
    let kind = PolicyKind::Authorization(Authorization { action, rules, dry_run: false, note: None });
    policy(Origin::AuthorizationPolicy, name, target, kind)
}

pub fn peer_authentication(
    name: &str,
    target: Target,
    mode: MtlsMode,
    ports: &[(u16, MtlsMode)],
) -> Arc<Entry> {
    let ports = ports.iter().copied().collect();
    let kind = PolicyKind::PeerAuthentication(PeerAuthentication { mode, ports });
    policy(Origin::PeerAuthentication, name, target, kind)
}

/// Listeners as `http:80:*.shop.com`; several hosts separated by commas, none for all.
pub fn gateway(origin: Origin, name: &str, listeners: &str) -> Arc<Entry> {
    let listeners = listeners.split_whitespace().map(|text| {
        let parts: Vec<_> = text.splitn(3, ':').collect();
        let protocol = match parts[0] {
            "http" => ListenerProtocol::Http,
            "https" => ListenerProtocol::Https,
            _ => ListenerProtocol::Tcp,
        };
        let hosts = parts.get(2).map_or_else(Vec::new, |hosts_text| hosts(&hosts_text.replace(',', " ")));
        Listener { name: text.into(), port: parts[1].parse().unwrap(), protocol, hosts, tls: None }
    });
    let id = key(origin, name);
    let selector = Selector::new([("gateway", "yes")].into_iter().collect());
    let gateway =
        Gateway { key: id.clone(), selector, selector_namespace: None, listeners: listeners.collect() };
    entry(id, Resource::Gateway(gateway))
}

pub fn delta(entries: impl IntoIterator<Item = Arc<Entry>>) -> Delta {
    Delta { set: entries.into_iter().collect(), removed: Vec::new() }
}

pub fn snapshot(viewer: Viewer, entries: impl IntoIterator<Item = Arc<Entry>>) -> Arc<Snapshot> {
    Compiler::new(viewer).apply(&delta(entries))
}

pub fn connection(direction: Direction, destination: &str) -> ConnectionFacts {
    ConnectionFacts {
        direction,
        client: "10.9.9.9:40000".parse().unwrap(),
        destination: destination.parse().unwrap(),
        destination_host: None,
        peer: None,
        sni: None,
        tls: false,
    }
}

pub struct Map(pub Vec<(String, String)>);

impl Headers for Map {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let first = values.next()?;
        Some(values.fold(Cow::Borrowed(first), |all, value| Cow::Owned(format!("{all},{value}"))))
    }

    fn any(&self, name: &str, holds: &mut dyn FnMut(&str) -> bool) -> bool {
        self.0.iter().any(|(key, value)| key == name && holds(value))
    }
}

/// `GET reviews:9080/path h:name=value`.
pub fn ask(snapshot: &Snapshot, connection: &ConnectionFacts, text: &str, random: u64) -> RequestDecision {
    let mut parts = text.split_whitespace();
    let (method, url) = (parts.next().unwrap(), parts.next().unwrap());
    let (authority, path) = url.split_at(url.find('/').unwrap());
    let headers = parts.map(|part| {
        let (name, value) = part.strip_prefix("h:").unwrap().split_once('=').unwrap();
        (name.to_owned(), value.to_owned())
    });
    let facts = RequestFacts {
        connection,
        scheme: "http",
        method,
        authority,
        path_and_query: path,
        headers: &Map(headers.collect()),
        random,
    };
    decide_request(snapshot, &facts)
}

/// A load that knows nothing.
#[derive(Default)]
pub struct Idle(pub std::cell::Cell<u64>);

impl Load for Idle {
    fn active(&self, _: SocketAddr) -> u32 {
        0
    }
    fn next(&self, _: u64) -> u64 {
        let turn = self.0.get();
        self.0.set(turn + 1);
        turn
    }
    fn left_out(&self, _: BackendId) -> Option<LeftOut> {
        None
    }
    fn now(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

/// A decision as one line: route, endpoints or where else it goes, or why not.
pub fn line(snapshot: &Snapshot, decision: RequestDecision) -> String {
    match decision {
        RequestDecision::Forward(forward) => forward_line(snapshot, &forward),
        RequestDecision::Answer(answered) => match answered.reply {
            Reply::Redirect { status, location } => format!("{status} {location}"),
            Reply::Direct(direct) => format!("{} {}", direct.status, String::from_utf8_lossy(&direct.body)),
        },
        RequestDecision::Deny(denial) => format!("{} {denial}", denial.status()),
    }
}

pub fn forward_line(snapshot: &Snapshot, forward: &Forward) -> String {
    let name = &forward.effective.route_name;
    match &forward.to {
        Destination::Local(address) => format!("{name} -> local {address}"),
        Destination::Passthrough(address) => format!("{name} -> as is {address}"),
        Destination::Backend(_) => {
            let mut excluded = Excluded::default();
            let mut found = Vec::new();
            while let Ok(picked) =
                pick(snapshot, &forward.to, &Preference::default(), &excluded, &Idle::default(), 7)
            {
                excluded.add(picked.endpoint);
                found.push(picked.endpoint);
            }
            found.sort();
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            format!("{name} -> {}", found.join(" "))
        }
    }
}

pub fn connection_line(snapshot: &Snapshot, decision: &Decision) -> String {
    match decision {
        Decision::Serve(protocol) => format!("serve {protocol}"),
        Decision::Detect(other) => format!("detect, else {}", connection_line(snapshot, other)),
        Decision::Forward(forward) => forward_line(snapshot, forward),
        Decision::Deny(denial) => format!("deny {denial}"),
    }
}
