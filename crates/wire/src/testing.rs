//! Generators of every noun of the model, for property tests of this crate and of others.
//!
//! Names come from small sets, so that resources meet: a workload answers for a service that exists, and a
//! changed resource keeps its key.

use lateen_model::{
    AccessLog, Action, AddressMatch, AppProtocol, Authorization, AuthorizationRule, Cidr, ClientCertificate,
    ClusterId, Command, Condition, ConditionKey, Created, Credential, Entry, FullRegex, Gateway, Health,
    HostPattern, Hostname, Identity, Key, Kind, Labels, Listener, ListenerProtocol, ListenerTls, Locality,
    Location, MeshAddr, MeshSettings, MtlsMode, NamedMatch, Namespace, NetworkId, NodeName, Operation,
    Origin, OutboundPolicy, Parent, PathMatch, PathNormalization, PeerAuthentication, Policy, PolicyKind,
    Precedence, Probe, ProbeCheck, Process, ProcessPort, ProxyRole, RequestMatch, Resolution, Resource,
    RestartPolicy, Route, Run, Scope, Secret, Selector, Service, ServiceAccount, ServiceId, ServicePort,
    Source, Str, StringMatch, Target, TargetPort, TrustDomain, Tunnel, Viewer, Visibility, Workload,
    WorkloadPort,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

mod rules;
mod traffic;

/// Any short text.
pub fn text() -> impl Strategy<Value = Str> {
    "[a-zA-Z0-9 _.:/\"'#*-]{0,8}|\\PC{0,4}".prop_map(Str::from)
}

/// The name of an object.
pub fn name() -> impl Strategy<Value = Str> {
    proptest::sample::select(vec!["reviews", "ratings", "cart", "a.b", "x-1"]).prop_map(Str::from)
}

/// A namespace, one of four.
pub fn namespace() -> impl Strategy<Value = Namespace> {
    let names = vec!["default", "shop", "bank", "istio-system"];
    proptest::sample::select(names).prop_map(|text| Namespace::parse(text).expect("a label"))
}

/// Some service account.
pub fn service_account() -> impl Strategy<Value = ServiceAccount> {
    proptest::sample::select(vec!["default", "cart", "a.b"])
        .prop_map(|text| ServiceAccount::parse(text).expect("a subdomain"))
}

fn trust_domain() -> impl Strategy<Value = TrustDomain> {
    proptest::sample::select(vec!["cluster.local", "example.org"])
        .prop_map(|text| TrustDomain::parse(text).expect("a trust domain"))
}

fn network() -> impl Strategy<Value = NetworkId> {
    proptest::sample::select(vec!["", "east"]).prop_map(|text| NetworkId::parse(text).expect("a network"))
}

fn node() -> impl Strategy<Value = NodeName> {
    proptest::sample::select(vec!["", "node-1"]).prop_map(|text| NodeName::parse(text).expect("a node"))
}

fn hostname() -> impl Strategy<Value = Hostname> {
    let names = vec!["reviews.shop.svc.cluster.local", "api.example.com", "localhost"];
    proptest::sample::select(names).prop_map(|text| Hostname::parse(text).expect("a host name"))
}

fn host_pattern() -> impl Strategy<Value = HostPattern> {
    proptest::sample::select(vec!["*", "*.example.com", "api.example.com"])
        .prop_map(|text| HostPattern::parse(text).expect("a pattern"))
}

fn cidr() -> impl Strategy<Value = Cidr> {
    (any::<IpAddr>(), 0u8..=32).prop_map(|(ip, length)| Cidr::new(ip, length).expect("short enough for both"))
}

/// A few labels.
pub fn labels() -> impl Strategy<Value = Labels> {
    let value = proptest::sample::select(vec!["", "v1", "v2"]);
    btree_map(proptest::sample::select(vec!["app", "version", "zone"]), value, 0..3)
        .prop_map(|labels| labels.into_iter().collect())
}

fn selector() -> impl Strategy<Value = Selector> {
    labels().prop_map(Selector::new)
}

fn visibility() -> impl Strategy<Value = Visibility> {
    prop_oneof![Just(Visibility::Public), vec(namespace(), 0..3).prop_map(Visibility::Only)]
}

fn created() -> impl Strategy<Value = Created> {
    option::of(0u64..5).prop_map(|seconds| seconds.map_or(Created::UNKNOWN, Created::at))
}

fn duration() -> impl Strategy<Value = Duration> {
    (0u64..100, 0u32..1_000_000_000).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos))
}

fn service_id() -> impl Strategy<Value = ServiceId> {
    (namespace(), hostname()).prop_map(|(namespace, hostname)| ServiceId { namespace, hostname })
}

fn string_match() -> impl Strategy<Value = StringMatch> {
    let regex = proptest::sample::select(vec!["", "a|b", "/x/.*"]);
    prop_oneof![
        text().prop_map(StringMatch::Exact),
        text().prop_map(StringMatch::ExactIgnoreCase),
        text().prop_map(StringMatch::Prefix),
        text().prop_map(StringMatch::PrefixIgnoreCase),
        text().prop_map(StringMatch::Suffix),
        regex.prop_map(|text| StringMatch::Regex(FullRegex::parse(text).expect("a pattern"))),
        Just(StringMatch::Present),
    ]
}

fn string_matches() -> impl Strategy<Value = Vec<StringMatch>> {
    vec(string_match(), 0..2)
}

fn named_matches() -> impl Strategy<Value = Vec<NamedMatch>> {
    let one = ("[a-z-]{1,4}", string_match());
    vec(one.prop_map(|(name, value)| NamedMatch { name: name.into(), value }), 0..2)
}

/// The key of an object of one of these origins.
pub fn key(origins: &'static [Origin]) -> impl Strategy<Value = Key> {
    let section = option::weighted(0.2, proptest::sample::select(vec!["a", "b/c"]));
    let cluster = proptest::sample::select(vec!["Kubernetes", "Kubernetes", "Kubernetes", "east", ""]);
    (proptest::sample::select(origins), cluster, namespace(), name(), section).prop_map(
        |(origin, cluster, namespace, name, section)| Key {
            origin,
            cluster: ClusterId::parse(cluster).expect("a cluster"),
            namespace,
            name,
            section: section.map(Str::from),
        },
    )
}

fn protocol() -> impl Strategy<Value = AppProtocol> {
    proptest::sample::select(vec![
        AppProtocol::Detect,
        AppProtocol::Http1,
        AppProtocol::Http2,
        AppProtocol::Grpc,
        AppProtocol::Tcp,
        AppProtocol::Tls,
        AppProtocol::Udp,
    ])
}

/// Settings of the mesh.
pub fn mesh() -> impl Strategy<Value = MeshSettings> {
    let outbound = prop_oneof![Just(OutboundPolicy::AllowAny), Just(OutboundPolicy::RegistryOnly)];
    let access_log = prop_oneof![Just(AccessLog::Off), Just(AccessLog::Errors), Just(AccessLog::All)];
    let normalization = proptest::sample::select(vec![
        PathNormalization::None,
        PathNormalization::Base,
        PathNormalization::MergeSlashes,
        PathNormalization::DecodeAndMergeSlashes,
    ]);
    (trust_domain(), namespace(), outbound, access_log, normalization).prop_map(
        |(trust_domain, root_namespace, outbound, access_log, path_normalization)| MeshSettings {
            trust_domain,
            root_namespace,
            outbound,
            access_log,
            path_normalization,
        },
    )
}

/// A service.
pub fn service() -> impl Strategy<Value = Service> {
    let target = prop_oneof![any::<u16>().prop_map(TargetPort::Number), text().prop_map(TargetPort::Name)];
    let port = (any::<u16>(), text(), protocol(), target)
        .prop_map(|(number, name, protocol, target)| ServicePort { number, name, protocol, target });
    let address = (network(), any::<IpAddr>()).prop_map(|(network, ip)| MeshAddr { network, ip });
    let location = prop_oneof![Just(Location::Internal), Just(Location::External)];
    let resolution = proptest::sample::select(vec![
        Resolution::Static,
        Resolution::Original,
        Resolution::Dns,
        Resolution::DnsRoundRobin,
        Resolution::Dynamic,
    ]);
    (
        (namespace(), name(), hostname()),
        (vec(address, 0..3), vec(port, 0..3), vec(text(), 0..2)),
        (location, any::<bool>(), visibility(), any::<bool>(), resolution),
    )
        .prop_map(|((namespace, name, hostname), (addresses, ports, subject_alt_names), rest)| {
            let (location, canonical, visibility, publish_not_ready, resolution) = rest;
            Service {
                namespace,
                name,
                hostname,
                addresses,
                ports,
                subject_alt_names,
                location,
                canonical,
                visibility,
                publish_not_ready,
                resolution,
            }
        })
}

/// A workload with this key.
pub fn workload(key: Key) -> impl Strategy<Value = Workload> {
    let port = (any::<u16>(), any::<u16>(), protocol()).prop_map(|(service_port, target_port, protocol)| {
        WorkloadPort { service_port, target_port, protocol }
    });
    let tunnel = prop_oneof![Just(Tunnel::None), Just(Tunnel::Hbone), Just(Tunnel::IstioMtls)];
    let health = prop_oneof![Just(Health::Healthy), Just(Health::Unhealthy)];
    let locality =
        (text(), text(), text()).prop_map(|(region, zone, subzone)| Locality { region, zone, subzone });
    let locality = prop_oneof![Just(Locality::default()), locality];
    let hostname = option::of(text().prop_filter("none is no text", |text| !text.is_empty()));
    let policies = vec(self::key(&[Origin::AuthorizationPolicy, Origin::PeerAuthentication]), 0..3);
    (
        (text(), vec(any::<IpAddr>(), 0..3), hostname, network(), tunnel),
        (trust_domain(), service_account(), node(), text(), text(), text()),
        (labels(), btree_map(service_id(), vec(port, 0..3), 0..2), policies),
        (health, locality, prop_oneof![Just(1u32), any::<u32>()]),
    )
        .prop_map(move |(first, second, third, (health, locality, weight))| {
            let (name, addresses, hostname, network, tunnel) = first;
            let (trust_domain, service_account, node, canonical_name, canonical_revision, workload_name) =
                second;
            let (labels, services, policies) = third;
            Workload {
                uid: key.to_string().into(),
                name,
                namespace: key.namespace.clone(),
                addresses,
                hostname,
                network,
                tunnel,
                trust_domain,
                service_account,
                node,
                cluster: key.cluster.clone(),
                canonical_name,
                canonical_revision,
                workload_name,
                labels,
                services,
                policies,
                health,
                locality,
                weight,
            }
        })
}

/// A gateway made from this object.
pub fn gateway(key: Key) -> impl Strategy<Value = Gateway> {
    let protocol =
        prop_oneof![Just(ListenerProtocol::Http), Just(ListenerProtocol::Https), Just(ListenerProtocol::Tcp)];
    let client_certificate = prop_oneof![Just(ClientCertificate::None), Just(ClientCertificate::Required)];
    let tls = (vec(self::key(&[Origin::Secret]), 0..2), client_certificate)
        .prop_map(|(credentials, client_certificate)| ListenerTls { credentials, client_certificate });
    let listener = (text(), any::<u16>(), protocol, vec(host_pattern(), 0..3), option::of(tls))
        .prop_map(|(name, port, protocol, hosts, tls)| Listener { name, port, protocol, hosts, tls });
    (selector(), option::of(namespace()), vec(listener, 0..3)).prop_map(
        move |(selector, selector_namespace, listeners)| Gateway {
            key: key.clone(),
            selector,
            selector_namespace,
            listeners,
        },
    )
}

fn request_match() -> impl Strategy<Value = RequestMatch> {
    let path = prop_oneof![
        string_match().prop_map(PathMatch::Text),
        text().prop_map(|text| PathMatch::segments(&text))
    ];
    let text = || option::of(string_match());
    (
        (option::of(path), text(), text(), text()),
        (named_matches(), named_matches(), named_matches()),
        (option::of(any::<u16>()), selector(), option::of(namespace())),
    )
        .prop_map(|((path, scheme, method, authority), (headers, without_headers, query), rest)| {
            let (port, source_labels, source_namespace) = rest;
            RequestMatch {
                path,
                scheme,
                method,
                authority,
                headers,
                without_headers,
                query,
                port,
                source_labels,
                source_namespace,
            }
        })
}

/// A route made from this object.
pub fn route(key: Key) -> impl Strategy<Value = Route> {
    let service = (service_id(), option::of(any::<u16>()))
        .prop_map(|(service, port)| Parent::Service { service, port });
    let gateway =
        (self::key(&[Origin::Gateway, Origin::IstioGateway]), option::of(text()), option::of(any::<u16>()))
            .prop_map(|(gateway, listener, port)| Parent::Gateway { gateway, listener, port });
    let parent = prop_oneof![Just(Parent::Mesh), service, gateway];
    let precedence = prop_oneof![Just(Precedence::Listed), Just(Precedence::MostSpecific)];
    (
        vec(parent, 0..3),
        vec(host_pattern(), 0..3),
        vec(rules::rule(), 0..3),
        precedence,
        created(),
        visibility(),
    )
        .prop_map(move |(parents, hosts, rules, precedence, created, visibility)| Route {
            key: key.clone(),
            parents,
            hosts,
            rules,
            precedence,
            created,
            visibility,
        })
}

fn source() -> impl Strategy<Value = Source> {
    let accounts = || vec((namespace(), service_account()), 0..2);
    let ranges = || vec(cidr(), 0..2);
    (
        (string_matches(), string_matches(), string_matches(), string_matches()),
        (accounts(), accounts(), string_matches(), string_matches()),
        (ranges(), ranges(), ranges(), ranges()),
    )
        .prop_map(|(first, second, third)| {
            let (principals, not_principals, namespaces, not_namespaces) = first;
            let (service_accounts, not_service_accounts, trust_domains, not_trust_domains) = second;
            let (ip_blocks, not_ip_blocks, remote_ip_blocks, not_remote_ip_blocks) = third;
            Source {
                principals,
                not_principals,
                namespaces,
                not_namespaces,
                service_accounts,
                not_service_accounts,
                trust_domains,
                not_trust_domains,
                ip_blocks,
                not_ip_blocks,
                remote_ip_blocks,
                not_remote_ip_blocks,
            }
        })
}

fn operation() -> impl Strategy<Value = Operation> {
    let ports = || vec(any::<u16>(), 0..2);
    (
        (string_matches(), string_matches(), ports(), ports()),
        (string_matches(), string_matches(), string_matches(), string_matches()),
    )
        .prop_map(|((hosts, not_hosts, ports, not_ports), rest)| {
            let (methods, not_methods, paths, not_paths) = rest;
            Operation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths }
        })
}

fn condition() -> impl Strategy<Value = Condition> {
    let key = prop_oneof![
        "[a-z-]{1,4}".prop_map(|name| ConditionKey::RequestHeader(name.into())),
        Just(ConditionKey::SourceIp),
        Just(ConditionKey::RemoteIp),
        Just(ConditionKey::SourceNamespace),
        Just(ConditionKey::SourcePrincipal),
        Just(ConditionKey::SourceServiceAccount),
        Just(ConditionKey::SourceTrustDomain),
        Just(ConditionKey::DestinationIp),
        Just(ConditionKey::DestinationPort),
        Just(ConditionKey::ConnectionSni),
    ];
    let addresses = (vec(cidr(), 0..2), vec(cidr(), 0..2)).prop_map(|(any, none)| AddressMatch { any, none });
    (key, string_matches(), string_matches(), addresses)
        .prop_map(|(key, values, not_values, addresses)| Condition { key, values, not_values, addresses })
}

/// An authorization.
pub fn authorization() -> impl Strategy<Value = Authorization> {
    let rule = (vec(source(), 0..2), vec(operation(), 0..2), vec(condition(), 0..2))
        .prop_map(|(from, to, when)| AuthorizationRule { from, to, when });
    let action = prop_oneof![Just(Action::Allow), Just(Action::Deny)];
    (action, vec(rule, 0..3), any::<bool>(), option::of(text()))
        .prop_map(|(action, rules, dry_run, note)| Authorization { action, rules, dry_run, note })
}

fn target(key: &Key) -> impl Strategy<Value = Target> + use<> {
    prop_oneof![
        Just(Target::Mesh),
        Just(Target::Namespace(key.namespace.clone())),
        Just(Target::Selected),
        service_id().prop_map(Target::Service),
        self::key(&[Origin::Gateway]).prop_map(Target::Gateway),
        self::key(&[Origin::HttpRoute, Origin::GrpcRoute]).prop_map(Target::Route),
    ]
}

/// A policy made from this object.
pub fn policy(key: Key) -> impl Strategy<Value = Policy> {
    let mode = || {
        let modes = vec![MtlsMode::Unset, MtlsMode::Disable, MtlsMode::Permissive, MtlsMode::Strict];
        proptest::sample::select(modes)
    };
    let kind = match key.origin {
        Origin::DestinationRule => {
            traffic::destination().prop_map(Box::new).prop_map(PolicyKind::Destination).boxed()
        }
        Origin::PeerAuthentication => (mode(), btree_map(any::<u16>(), mode(), 0..3))
            .prop_map(|(mode, ports)| PolicyKind::PeerAuthentication(PeerAuthentication { mode, ports }))
            .boxed(),
        Origin::RateLimitPolicy => traffic::rate_limit().prop_map(PolicyKind::RateLimit).boxed(),
        Origin::RequestLimitPolicy => traffic::request_limit().prop_map(PolicyKind::RequestLimit).boxed(),
        _ => authorization().prop_map(PolicyKind::Authorization).boxed(),
    };
    (target(&key), created(), kind).prop_map(move |(target, created, kind)| Policy {
        id: key.clone(),
        target,
        created,
        kind,
    })
}

/// A credential; its texts are no real certificates.
pub fn credential() -> impl Strategy<Value = Credential> {
    (text(), "[a-z]{1,8}", option::of(text())).prop_map(|(certificate_chain, key, client_roots)| Credential {
        certificate_chain,
        private_key: Secret::new(key),
        client_roots,
    })
}

/// A process made from this object.
pub fn process(key: Key) -> impl Strategy<Value = Process> {
    let env = btree_map(text(), text(), 0..3);
    let command = (vec(text(), 0..3), vec(text(), 0..3), env, option::of(text()))
        .prop_map(|(command, args, env, working_dir)| Command { command, args, env, working_dir });
    let run = prop_oneof![Just(Run::Gateway), command.prop_map(Run::Command)];
    let port = (text(), any::<u16>()).prop_map(|(name, port)| ProcessPort { name, port });
    let check = prop_oneof![
        (any::<u16>(), text()).prop_map(|(port, path)| ProbeCheck::HttpGet { port, path }),
        any::<u16>().prop_map(|port| ProbeCheck::TcpSocket { port }),
        vec(text(), 0..3).prop_map(|command| ProbeCheck::Exec { command }),
    ];
    let probe = (check, duration(), duration(), duration(), any::<u32>(), any::<u32>()).prop_map(
        |(check, initial_delay, period, timeout, failure_threshold, success_threshold)| Probe {
            check,
            initial_delay,
            period,
            timeout,
            failure_threshold,
            success_threshold,
        },
    );
    let restart =
        prop_oneof![Just(RestartPolicy::Always), Just(RestartPolicy::OnFailure), Just(RestartPolicy::Never)];
    ((labels(), service_account(), run), vec(port, 0..3), any::<u32>(), option::of(probe), restart).prop_map(
        move |((labels, service_account, run), ports, replicas, readiness, restart)| Process {
            key: key.clone(),
            name: key.name.clone(),
            namespace: key.namespace.clone(),
            labels,
            service_account,
            run,
            ports,
            replicas,
            readiness,
            restart,
        },
    )
}

fn role() -> impl Strategy<Value = ProxyRole> {
    prop_oneof![
        Just(ProxyRole::Node),
        Just(ProxyRole::Sidecar),
        Just(ProxyRole::Waypoint),
        Just(ProxyRole::Gateway)
    ]
}

/// Who needs a resource.
pub fn scope() -> impl Strategy<Value = Scope> {
    let workloads = (option::of(namespace()), selector(), option::of(role()))
        .prop_map(|(namespace, selector, role)| Scope::Workloads { namespace, selector, role });
    prop_oneof![
        4 => Just(Scope::Everyone),
        1 => vec(namespace(), 0..3).prop_map(Scope::Namespaces),
        1 => workloads,
        1 => Just(Scope::Nobody),
    ]
}

/// Who asks.
pub fn viewer() -> impl Strategy<Value = Viewer> {
    (role(), name(), trust_domain(), namespace(), service_account(), labels()).prop_map(
        |(role, name, trust_domain, namespace, service_account, labels)| Viewer {
            role,
            name,
            identity: Identity::new(trust_domain, namespace, service_account),
            labels,
            node: NodeName::default(),
            network: NetworkId::default(),
        },
    )
}

/// A resource under a key that fits its kind.
pub fn entry() -> impl Strategy<Value = Entry> {
    let kinds = [
        Kind::Mesh,
        Kind::Security,
        Kind::Service,
        Kind::Workload,
        Kind::Credential,
        Kind::Gateway,
        Kind::Traffic,
        Kind::Route,
        Kind::Process,
    ];
    proptest::sample::select(kinds.to_vec()).prop_flat_map(entry_of)
}

/// A resource of this kind.
pub fn entry_of(kind: Kind) -> BoxedStrategy<Entry> {
    let keyed = |origins, make: fn(Key) -> BoxedStrategy<Resource>| {
        key(origins).prop_flat_map(move |key| (Just(key.clone()), make(key))).boxed()
    };
    let pair = match kind {
        Kind::Mesh => keyed(&[Origin::Mesh], |_| mesh().prop_map(Resource::Mesh).boxed()),
        Kind::Security => keyed(&[Origin::AuthorizationPolicy, Origin::PeerAuthentication], |key| {
            policy(key).prop_map(Resource::Policy).boxed()
        }),
        Kind::Service => {
            keyed(&[Origin::Service, Origin::ServiceEntry], |_| service().prop_map(Resource::Service).boxed())
        }
        Kind::Workload => keyed(&[Origin::Instance, Origin::WorkloadEntry], |key| {
            workload(key).prop_map(Resource::Workload).boxed()
        }),
        Kind::Credential => keyed(&[Origin::Secret], |_| credential().prop_map(Resource::Credential).boxed()),
        Kind::Gateway => keyed(&[Origin::Gateway, Origin::IstioGateway], |key| {
            gateway(key).prop_map(Resource::Gateway).boxed()
        }),
        Kind::Traffic => {
            let origins = &[Origin::DestinationRule, Origin::RateLimitPolicy, Origin::RequestLimitPolicy];
            keyed(origins, |key| policy(key).prop_map(Resource::Policy).boxed())
        }
        Kind::Route => keyed(&[Origin::HttpRoute, Origin::GrpcRoute, Origin::VirtualService], |key| {
            route(key).prop_map(Resource::Route).boxed()
        }),
        Kind::Process => keyed(&[Origin::Process], |key| process(key).prop_map(Resource::Process).boxed()),
    };
    (pair, scope()).prop_map(|((key, resource), scope)| Entry { key, scope, resource }).boxed()
}

/// A whole state, each key once.
pub fn entries(most: usize) -> impl Strategy<Value = Vec<Entry>> {
    vec(entry(), 0..most).prop_map(|entries| {
        let unique: BTreeMap<Key, Entry> =
            entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
        unique.into_values().collect()
    })
}
