//! A snapshot does not tell in which batches the mesh came to be.

mod mesh;

use lateen_engine::Compiler;
use lateen_model::*;
use mesh::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that may be there: for each key the forms that the resource may have.
fn pool() -> Vec<Vec<Arc<Entry>>> {
    let mut pool = vec![
        vec![
            service("a.default", &["10.0.0.1"], "http:80"),
            service("a.default", &["10.0.0.1"], "tcp:80 http:81"),
            service("a.default", &[], "http:80 detect:82"),
            only_for("a.default", "other"),
        ],
        vec![
            service("b.other", &["10.0.0.2"], "http:80"),
            service("b.other", &["10.0.0.1", "10.0.0.2"], "grpc:80 http:81"),
        ],
        vec![service("c.default", &["10.0.0.3"], "detect:80")],
        overlays(),
        vec![
            mesh("istio-system", OutboundPolicy::AllowAny),
            mesh("other", OutboundPolicy::RegistryOnly),
            mesh("root", OutboundPolicy::AllowAny),
        ],
        vec![
            gateway(Origin::Gateway, "default/gw", "http:80:*.com https:443:a.com"),
            gateway(Origin::Gateway, "default/gw", "http:80:*.com,* http:81"),
        ],
        vec![
            gateway(Origin::IstioGateway, "other/igw", "http:80"),
            gateway(Origin::IstioGateway, "other/igw", "http:80:*.org http:90"),
        ],
    ];
    pool.extend((0..3).map(workloads));
    pool.push(vec![own(&[]), own(&["strict", "deny"]), own(&["allow", "missing"])]);
    pool.extend(virtual_services());
    pool.extend(http_routes());
    pool.extend(destination_rules());
    pool.extend(security());
    pool
}

fn only_for(name: &str, ns: &str) -> Arc<Entry> {
    let value = service_value(name, &["10.0.0.1"], "http:80");
    let key = key(Origin::Service, &format!("{}/{}", value.namespace, value.name));
    entry(key, Resource::Service(Service { visibility: Visibility::Only(vec![namespace(ns)]), ..value }))
}

/// A ServiceEntry with the host of a Service.
fn overlays() -> Vec<Arc<Entry>> {
    let overlay = |ip: &str, ns: &str| {
        let value = service_value("a.default", &[ip], "http:80 http:85");
        let value = Service { canonical: false, name: "overlay".into(), namespace: namespace(ns), ..value };
        entry(key(Origin::ServiceEntry, "other/overlay"), Resource::Service(value))
    };
    vec![overlay("10.0.0.1", "default"), overlay("10.0.0.7", "default"), overlay("10.0.0.8", "other")]
}

fn mesh(root: &str, outbound: OutboundPolicy) -> Arc<Entry> {
    let settings = MeshSettings { root_namespace: namespace(root), outbound, ..MeshSettings::default() };
    entry(mesh_key(&namespace("istio-system")), Resource::Mesh(settings))
}

fn workloads(number: usize) -> Vec<Arc<Entry>> {
    let name = format!("default/w{number}");
    let ip = format!("10.1.0.{number}");
    let plain = workload(&name, &ip, &[("v", "1")], &[("a.default", "http:80->8080")]);
    let two = workload(
        &name,
        &ip,
        &[("v", "2")],
        &[("a.default", "http:80->8081 http:81"), ("b.other", "http:80")],
    );
    let moved = workload(
        &name,
        "10.1.0.9 10.0.0.3",
        &[("v", "1")],
        &[("b.other", "http:80"), ("c.default", "detect:80")],
    );
    let ill = Workload { health: Health::Unhealthy, ..plain.clone() };
    let heavy = Workload { weight: 5, tunnel: Tunnel::None, ..plain.clone() };
    let far = Workload { network: NetworkId::parse("far").expect("a name"), ..plain.clone() };
    [plain, two, moved, ill, heavy, far].map(instance).to_vec()
}

fn own(policies: &[&str]) -> Arc<Entry> {
    let id = |name: &&str| match *name {
        "strict" => key(Origin::PeerAuthentication, "default/strict"),
        name => key(Origin::AuthorizationPolicy, &format!("default/{name}")),
    };
    let value = workload("default/self", "10.1.0.100", &[], &[("a.default", "http:80->8080 tcp:81")]);
    instance(Workload { policies: policies.iter().map(id).collect(), ..value })
}

fn virtual_services() -> Vec<Vec<Arc<Entry>>> {
    let to_a = || {
        let target = backend("c.default:80", 1).target;
        let mirror = Filter::Mirror(Mirror { target, share: Share::ALL });
        let to_a = rule("r", "/x* | h:v=1", "a.default:80/v1*3 a.default:80*1 b.other:80*0");
        vec![Rule { filters: vec![mirror], ..to_a }]
    };
    let wide = virtual_service("default/wide", "*.default.svc.cluster.local", to_a());
    let narrow = virtual_service("default/wide", "a.default.svc.cluster.local example.com", to_a());
    let private = Route { visibility: Visibility::Only(vec![namespace("default")]), ..narrow.clone() };
    let by_port = virtual_service(
        "other/port",
        "a.default.svc.cluster.local b.other.svc.cluster.local",
        vec![rule("p", "port=80", "b.other:80"), rule("q", "port=81 ns=other", "c.default:80")],
    );
    let gone = Route { visibility: Visibility::Only(Vec::new()), ..by_port.clone() };
    let all = virtual_service("other/all", "*", vec![rule("all", "", "c.default:80")]);
    let old = Route { created: Created::at(1), ..all.clone() };
    [vec![wide, narrow, private], vec![by_port, gone], vec![all, old]]
        .into_iter()
        .map(|forms| forms.into_iter().map(route).collect())
        .collect()
}

fn http_routes() -> Vec<Vec<Arc<Entry>>> {
    let rules = || {
        vec![rule("exact", "/a", "a.default:80"), rule("rest", "/b/** | method=GET", "b.other:80/v2 404*1")]
    };
    let producer = http_route("other/b", vec![of_service("b.other")], "", rules());
    let port = Parent::Service { service: service_id("b.other"), port: Some(81) };
    let consumer = http_route("default/b", vec![port, of_service("a.default")], "", rules());
    let gateways =
        || vec![of_gateway(Origin::Gateway, "default/gw"), of_gateway(Origin::IstioGateway, "other/igw")];
    let edge = http_route("default/edge", gateways(), "a.com *.org", rules());
    let anywhere = http_route("default/edge", gateways(), "", rules());
    let second = http_route("default/second", gateways(), "a.com b.com", rules());
    let listed = Route { parents: gateways(), ..virtual_service("default/listed", "x.org a.com", rules()) };
    [vec![producer], vec![consumer], vec![edge, anywhere], vec![second], vec![listed]]
        .into_iter()
        .map(|forms| forms.into_iter().map(route).collect())
        .collect()
}

fn destination_rules() -> Vec<Vec<Arc<Entry>>> {
    let a = "a.default.svc.cluster.local";
    vec![
        vec![
            destination_rule("default/a", a, Some(BalanceAlgorithm::RoundRobin), "v1:v=1"),
            destination_rule("default/a", a, None, "v1:v=2 v2:v=2"),
        ],
        vec![
            destination_rule("root/a", a, Some(BalanceAlgorithm::Passthrough), "v1:v=1"),
            destination_rule("root/a", "*", None, "v2:v=2"),
        ],
        vec![destination_rule("other/wide", "*.svc.cluster.local", Some(BalanceAlgorithm::Random), "v2:v=1")],
    ]
}

fn security() -> Vec<Vec<Arc<Entry>>> {
    let any = || vec![AuthorizationRule::default()];
    vec![
        vec![authorization("default/deny", Target::Selected, Action::Deny, any())],
        vec![
            authorization("default/allow", Target::Selected, Action::Allow, Vec::new()),
            authorization("default/allow", Target::Namespace(namespace("default")), Action::Allow, any()),
        ],
        vec![
            authorization("istio-system/wide", Target::Mesh, Action::Allow, any()),
            authorization(
                "istio-system/wide",
                Target::Gateway(key(Origin::Gateway, "default/gw")),
                Action::Deny,
                any(),
            ),
        ],
        vec![peer_authentication(
            "default/strict",
            Target::Selected,
            MtlsMode::Strict,
            &[(80, MtlsMode::Disable)],
        )],
        vec![
            peer_authentication(
                "default/space",
                Target::Namespace(namespace("default")),
                MtlsMode::Permissive,
                &[],
            ),
            peer_authentication(
                "default/space",
                Target::Namespace(namespace("other")),
                MtlsMode::Strict,
                &[],
            ),
        ],
    ]
}

fn viewers() -> [Viewer; 3] {
    [
        viewer("default/self", ProxyRole::Sidecar, &[("v", "1")]),
        viewer("other/elsewhere", ProxyRole::Sidecar, &[]),
        viewer("default/self", ProxyRole::Gateway, &[("gateway", "yes")]),
    ]
}

/// One change: which resource, and which form (more than there are means it goes).
type Change = (usize, usize);

fn check(viewer: &Viewer, batches: &[Vec<Change>]) {
    let pool = pool();
    let mut compiler = Compiler::new(viewer.clone());
    let mut now: BTreeMap<Key, Arc<Entry>> = BTreeMap::new();
    for batch in batches {
        let mut changes: BTreeMap<Key, Option<Arc<Entry>>> = BTreeMap::new();
        for (which, form) in batch {
            let forms = &pool[which % pool.len()];
            changes.insert(forms[0].key.clone(), forms.get(form % (forms.len() + 1)).cloned());
        }
        let mut delta = Delta::default();
        for (key, form) in changes {
            match form {
                Some(entry) => {
                    now.insert(key, Arc::clone(&entry));
                    delta.set.push(entry);
                }
                None => {
                    now.remove(&key);
                    delta.removed.push(key);
                }
            }
        }
        let grown = compiler.apply(&delta);
        let fresh = snapshot(viewer.clone(), now.values().cloned());
        let (grown, fresh) = (format!("{grown:?}"), format!("{fresh:?}"));
        assert!(grown == fresh, "after {delta:?}:\n{}", difference(&grown, &fresh));
    }
}

fn difference(grown: &str, fresh: &str) -> String {
    let only = |a: &str, b: &str, mark: &str| -> String {
        a.lines()
            .filter(|line| !b.lines().any(|other| other == *line))
            .map(|line| format!("{mark} {line}\n"))
            .collect()
    };
    only(grown, fresh, "grown:") + &only(fresh, grown, "fresh:")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn grown_or_fresh_is_the_same(
        which in 0usize..3,
        batches in prop::collection::vec(prop::collection::vec((0usize..40, 0usize..12), 1..12), 1..8),
    ) {
        check(&viewers()[which], &batches);
    }
}

#[test]
fn every_form_comes_and_goes() {
    let count = pool().len();
    let forms = |form: usize| -> Vec<Vec<Change>> { (0..count).map(|which| vec![(which, form)]).collect() };
    let batches: Vec<Vec<Change>> = (0..7).flat_map(forms).collect();
    viewers().iter().for_each(|viewer| check(viewer, &batches));
}

#[test]
fn every_form_is_a_form_of_the_same_resource() {
    for forms in pool() {
        assert!(forms.iter().all(|form| form.key == forms[0].key), "{:?}", forms[0].key);
    }
}
