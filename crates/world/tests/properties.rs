//! What holds whatever comes: order and batches do not matter, deltas add up, no text panics.

use lateen_model::{Catalog, Entry, Instance, Namespace, NodeName, ProcessPort, ServiceAccount, Tunnel};
use lateen_world::{Change, Settings, Status, World};
use proptest::prelude::*;
use proptest::sample::select;
use std::sync::Arc;

/// Texts that refer to each other in every way, with names that clash.
const POOL: &[&str] = &[
    "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {selector: {app: a}, ports: [{name: http, port: 80}]}}",
    "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {selector: {app: b}, ports: [{name: http, port: 80}, {name: x, port: 81}]}}",
    "{apiVersion: v1, kind: Service, metadata: {name: b, namespace: far}, spec: {selector: {app: b}, ports: [{name: http, port: 80, targetPort: web}]}}",
    "{apiVersion: v1, kind: Service, metadata: {name: h}, spec: {clusterIP: None, selector: {app: a}, ports: [{port: 80}]}}",
    "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: 240.240.3.3, ports: [{name: http, port: 80}]}}",
    "{apiVersion: v1, kind: Namespace, metadata: {name: far, labels: {open: \"yes\"}}}",
    "{apiVersion: lateen.dev/v1alpha1, kind: Mesh, metadata: {name: m1}, spec: {rootNamespace: far}}",
    "{apiVersion: lateen.dev/v1alpha1, kind: Mesh, metadata: {name: m2}, spec: {trustDomain: td.example}}",
    "{apiVersion: lateen.dev/v1alpha1, kind: Process, metadata: {name: a, labels: {app: a}}, spec: {command: [a]}}",
    "{apiVersion: lateen.dev/v1alpha1, kind: Process, metadata: {name: gw, namespace: far, labels: {istio: gw}}, spec: {command: [a]}}",
    "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: g}, spec: {selector: {istio: gw}, servers: [{port: {number: 80, name: h, protocol: HTTP}, hosts: ['*', 'far/x.example']}]}}",
    "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: g2, namespace: far}, spec: {selector: {istio: gw}, servers: [{port: {number: 80, name: h, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: s}}]}}",
    "{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: far}, stringData: {tls.crt: '-----BEGIN CERTIFICATE-----', tls.key: '-----BEGIN PRIVATE KEY-----'}}",
    "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: v1}, spec: {hosts: [a], http: [{route: [{destination: {host: a, subset: s1}}]}]}}",
    "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: v2}, spec: {hosts: [a], gateways: [g, mesh, far/g2], http: [{match: [{gateways: [g]}, {uri: {prefix: /x}}], route: [{destination: {host: b.far.svc.cluster.local}}]}]}}",
    "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: d1}, spec: {host: a, subsets: [{name: s1, labels: {v: one}}]}}",
    "{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {name: d2, namespace: far}, spec: {host: '*.default.svc.cluster.local', exportTo: [.], subsets: [{name: s1, labels: {v: one}}]}}",
    "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: e}, spec: {hosts: [a.default.svc.cluster.local, e.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, workloadSelector: {labels: {app: a}}}}",
    "{apiVersion: networking.istio.io/v1, kind: WorkloadEntry, metadata: {name: w}, spec: {address: 192.0.2.1, labels: {app: a}}}",
    "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: k}, spec: {gatewayClassName: ours, listeners: [{name: l, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {open: \"yes\"}}}}}]}}",
    "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: ours}, spec: {controllerName: lateen.dev/gateway-controller}}",
    "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: far}, spec: {parentRefs: [{name: k, namespace: default}, {group: '', kind: Service, name: b}, {group: '', kind: Service, name: a, namespace: default}], rules: [{backendRefs: [{name: b, port: 80}, {name: a, namespace: default, port: 80}]}]}}",
    "{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {name: rg}, spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: far}], to: [{group: '', kind: Service, name: a}]}}",
    "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: far}, spec: {selector: {matchLabels: {app: a}}, rules: [{}]}}",
    "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p}, spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: k}], action: DENY, rules: [{}]}}",
    "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: q}, spec: {selector: {matchLabels: {app: b}}, mtls: {mode: STRICT}}}",
    "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: q2}, spec: {selector: {matchLabels: {app: b}}}}",
    "{apiVersion: security.istio.io/v1, kind: RequestAuthentication, metadata: {name: t}, spec: {selector: {matchLabels: {app: a}}, jwtRules: [{}]}}",
    "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: root}, spec: {hosts: [h], http: [{match: [{uri: {prefix: /x}}], delegate: {name: leaf, namespace: far}}, {route: [{destination: {host: a}}]}]}}",
    "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: leaf, namespace: far}, spec: {http: [{match: [{uri: {prefix: /x/y}}], route: [{destination: {host: b}}], mirror: {host: a}}, {match: [{uri: {prefix: /z}}], redirect: {uri: /x}}]}}",
    "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: leaf, namespace: far}, spec: {exportTo: [.], http: [{route: [{destination: {host: b}}]}]}}",
    "{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: r}, spec: {parentRefs: [{name: k}, {group: '', kind: Service, name: a}], rules: [{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: h, port: 80}}}], backendRefs: [{name: a, port: 81}]}]}}",
    "{apiVersion: lateen.dev/v1alpha1, kind: RateLimitPolicy, metadata: {name: l, namespace: far}, spec: {selector: {matchLabels: {app: a}}, rules: [{requests: 1, per: 1s}]}}",
    "{apiVersion: lateen.dev/v1alpha1, kind: RequestLimitPolicy, metadata: {name: l}, spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: GRPCRoute, name: r}, {group: '', kind: Service, name: a}], requestHeaders: 1}}",
];

fn instance((name, namespace, app, ready): (&str, &str, &str, bool)) -> Instance {
    Instance {
        name: name.into(),
        namespace: Namespace::parse(namespace).expect("a namespace"),
        process: "p".into(),
        labels: [("app", app)].into_iter().collect(),
        service_account: ServiceAccount::default(),
        addresses: vec!["10.0.0.1".parse().expect("an address")],
        ports: vec![ProcessPort { name: "web".into(), port: 9080 }],
        tunnel: Tunnel::Hbone,
        ready,
        node: NodeName::default(),
    }
}

fn file() -> impl Strategy<Value = Change> {
    let path = select(vec!["a", "b", "c", "d", "e"]);
    let text = proptest::collection::vec(select(POOL), 0..5).prop_map(|texts| texts.join("\n---\n"));
    (path, text).prop_map(|(path, text)| Change::SetFile { path: path.into(), text })
}

fn change() -> impl Strategy<Value = Change> {
    let parts =
        (select(vec!["i", "j"]), select(vec!["default", "far"]), select(vec!["a", "b"]), any::<bool>());
    prop_oneof![
        6 => file(),
        1 => select(vec!["a", "b", "c", "d", "e"]).prop_map(|path| Change::RemoveFile { path: path.into() }),
        3 => parts.clone().prop_map(|parts| Change::SetInstance(instance(parts))),
        1 => parts.prop_map(|(name, namespace, ..)| Change::RemoveInstance {
            namespace: Namespace::parse(namespace).expect("a namespace"),
            name: name.into(),
        }),
    ]
}

fn state(world: &World) -> (Vec<Arc<Entry>>, Vec<Status>) {
    (world.entries(), world.statuses().cloned().collect())
}

/// Deltas and statuses, added up, are the state.
fn check_sums(world: &World, catalog: &Catalog, statuses: &std::collections::BTreeMap<String, Status>) {
    assert_eq!(catalog.to_delta().set, world.entries());
    let kept: Vec<&Status> = statuses.values().collect();
    let mut own: Vec<&Status> = world.statuses().collect();
    own.sort_by_key(|status| status.object.to_string());
    assert_eq!(kept, own);
}

/// What files and instances are there in the end.
fn last(changes: &[Change]) -> Vec<Change> {
    let mut kept: Vec<Change> = Vec::new();
    for change in changes {
        let same = |other: &Change| match (change, other) {
            (
                Change::SetFile { path: a, .. } | Change::RemoveFile { path: a },
                Change::SetFile { path: b, .. } | Change::RemoveFile { path: b },
            ) => a == b,
            (Change::SetInstance(a), Change::SetInstance(b)) => {
                (&a.namespace, &a.name) == (&b.namespace, &b.name)
            }
            (Change::RemoveInstance { namespace, name }, Change::SetInstance(b)) => {
                (namespace, name) == (&b.namespace, &b.name)
            }
            _ => false,
        };
        kept.retain(|other| !same(other));
        if matches!(change, Change::SetFile { .. } | Change::SetInstance(_)) {
            kept.push(change.clone());
        }
    }
    kept
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_and_any_batches_give_the_same(
        changes in proptest::collection::vec(change(), 1..24),
        cuts in proptest::collection::vec(any::<bool>(), 24),
        backwards in any::<bool>(),
    ) {
        let mut at_once = World::new(Settings::default());
        let mut final_changes = last(&changes);
        if backwards {
            final_changes.reverse();
        }
        at_once.apply(final_changes);

        let mut by_steps = World::new(Settings::default());
        let mut catalog = Catalog::default();
        let mut statuses = std::collections::BTreeMap::new();
        let mut batch = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            batch.push(change.clone());
            if cuts[index] || index + 1 == changes.len() {
                let outcome = by_steps.apply(std::mem::take(&mut batch));
                catalog.apply(&outcome.delta);
                for key in outcome.gone {
                    statuses.remove(&key.to_string());
                }
                for status in outcome.statuses {
                    statuses.insert(status.object.to_string(), status);
                }
                check_sums(&by_steps, &catalog, &statuses);
            }
        }
        prop_assert_eq!(state(&at_once), state(&by_steps));
    }

    #[test]
    fn no_text_panics_and_what_is_kept_can_be_read_again(
        seed in select(vec![0usize, 1, 2, 3, 4, 5]),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..40, "[\\[\\]{}:,&*!|>'\"%@#\\- \\n\\ta-z0-9~<]{0,6}"), 1..8),
    ) {
        let mut text = corpus()[seed % corpus().len()].clone();
        for (place, length, insert) in cuts {
            let start = floor(&text, place.index(text.len().max(1)));
            let end = floor(&text, (start + length).min(text.len()));
            text.replace_range(start..end, &insert);
        }
        let mut world = World::new(Settings::default());
        world.apply(vec![Change::SetFile { path: "good".into(), text: corpus()[seed % corpus().len()].clone() }]);
        world.apply(vec![Change::SetFile { path: "good".into(), text: text.clone() }]);
        let mut fresh = World::new(Settings::default());
        let outcome = fresh.apply(vec![Change::SetFile { path: "x".into(), text }]);
        for stored in outcome.stored {
            let key = stored.key.clone();
            let mut again = World::restore(Settings::default(), Default::default(), vec![stored.clone()]);
            again.apply(vec![Change::SetFile { path: "x".into(), text: "[".into() }]);
            // An alias may need an anchor outside of its item; all else stands alone.
            prop_assert!(again.status(&key).is_some() || stored.text.contains('*'), "{}", stored.text);
        }
    }

    #[test]
    fn random_text_is_refused_calmly(text in "\\PC{0,300}") {
        let mut world = World::new(Settings::default());
        world.apply(vec![Change::SetFile { path: "x".into(), text }]);
    }
}

fn corpus() -> &'static [String] {
    static CORPUS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    CORPUS.get_or_init(|| {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let mut cases: Vec<_> =
            std::fs::read_dir(root).expect("the goldens").map(|case| case.expect("a case").path()).collect();
        cases.sort();
        cases.iter().map(|case| std::fs::read_to_string(case.join("in.yaml")).expect("in.yaml")).collect()
    })
}

fn floor(text: &str, mut place: usize) -> usize {
    place = place.min(text.len());
    while !text.is_char_boundary(place) {
        place -= 1;
    }
    place
}
