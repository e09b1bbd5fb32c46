//! One change after another: what goes on, what is kept, what is told.

use lateen_model::{
    Action, Health, Instance, Key, MtlsMode, Namespace, NodeName, Origin, PolicyKind, ProcessPort, Resource,
    ServiceAccount, Target, Tunnel,
};
use lateen_world::{Allocations, Change, ConditionKind, ObjectKey, Outcome, Settings, World};

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {selector: {app: reviews}, ports: [{name: http, port: 80, targetPort: web}]}
";

const ALLOW: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: guard}
spec: {selector: {matchLabels: {app: reviews}}, rules: [{from: [{source: {namespaces: [shop]}}]}]}
";

fn set(path: &str, text: &str) -> Change {
    Change::SetFile { path: path.into(), text: text.to_owned() }
}

fn remove(path: &str) -> Change {
    Change::RemoveFile { path: path.into() }
}

fn instance(name: &str) -> Instance {
    Instance {
        name: name.into(),
        namespace: Namespace::default(),
        process: "reviews".into(),
        labels: [("app", "reviews"), ("version", "v1")].into_iter().collect(),
        service_account: ServiceAccount::default(),
        addresses: vec!["10.0.0.1".parse().expect("an address")],
        ports: vec![ProcessPort { name: "web".into(), port: 9080 }],
        tunnel: Tunnel::Hbone,
        ready: true,
        node: NodeName::default(),
    }
}

/// What a delta names, in its order.
fn names(outcome: &Outcome) -> Vec<String> {
    let set = outcome.delta.set.iter().map(|entry| format!("+{}", entry.key));
    let removed = outcome.delta.removed.iter().map(|key| format!("-{key}"));
    set.chain(removed).map(|name| name.replace("Kubernetes/", "")).collect()
}

fn world(texts: &[(&str, &str)]) -> World {
    let mut world = World::new(Settings::default());
    world.apply(texts.iter().map(|(path, text)| set(path, text)).collect());
    world
}

fn object(text: &str) -> ObjectKey {
    ObjectKey::parse(text).expect("a key")
}

fn holds(world: &World, text: &str, kind: ConditionKind) -> bool {
    world.status(&object(text)).is_some_and(|status| status.holds(kind))
}

fn resource(world: &World, origin: Origin, name: &str) -> Option<Resource> {
    let key = Key::new(origin, Namespace::default(), name);
    world.catalog().get(&key).map(|entry| entry.resource.clone())
}

#[test]
fn an_instance_is_joined_with_what_selects_it_and_leaves_at_once() {
    let mut world = world(&[("a.yaml", SERVICE), ("b.yaml", ALLOW)]);
    let outcome = world.apply(vec![Change::SetInstance(instance("reviews-0"))]);
    assert_eq!(names(&outcome), ["+lateen.dev/Instance/default/reviews-0"]);
    let Some(Resource::Workload(workload)) = resource(&world, Origin::Instance, "reviews-0") else {
        panic!()
    };
    let (service, ports) = workload.services.first_key_value().expect("one service");
    assert_eq!(service.to_string(), "default/reviews.default.svc.cluster.local");
    assert_eq!((ports[0].service_port, ports[0].target_port), (80, 9080));
    assert_eq!(workload.policies.len(), 1);
    assert_eq!((workload.canonical_name.as_str(), workload.canonical_revision.as_str()), ("reviews", "v1"));

    let mut unready = instance("reviews-0");
    unready.ready = false;
    world.apply(vec![Change::SetInstance(unready.clone())]);
    let Some(Resource::Workload(workload)) = resource(&world, Origin::Instance, "reviews-0") else {
        panic!()
    };
    assert_eq!(workload.health, Health::Unhealthy);
    assert!(world.apply(vec![Change::SetInstance(unready)]).delta.is_empty(), "nothing is other than before");

    let outcome = world
        .apply(vec![Change::RemoveInstance { namespace: Namespace::default(), name: "reviews-0".into() }]);
    assert_eq!(names(&outcome), ["-lateen.dev/Instance/default/reviews-0"]);
}

#[test]
fn a_selector_that_changes_moves_the_workloads_it_names_and_no_others() {
    let mut world = world(&[("a.yaml", SERVICE)]);
    let mut other = instance("other-0");
    other.labels = [("app", "other")].into_iter().collect();
    world.apply(vec![Change::SetInstance(instance("reviews-0")), Change::SetInstance(other)]);
    let outcome = world.apply(vec![set("a.yaml", &SERVICE.replace("{app: reviews}", "{app: other}"))]);
    assert_eq!(
        names(&outcome),
        ["+lateen.dev/Instance/default/other-0", "+lateen.dev/Instance/default/reviews-0"]
    );
}

#[test]
fn text_that_moves_within_its_file_changes_nothing_in_the_mesh() {
    let mut world = world(&[("a.yaml", SERVICE)]);
    let outcome = world.apply(vec![set("a.yaml", &format!("# a comment\n{SERVICE}"))]);
    assert!(outcome.delta.is_empty());
    assert_eq!(outcome.statuses.len(), 1, "its line is another");
}

#[test]
fn a_broken_text_keeps_the_last_good_version_until_it_is_gone() {
    let key = "Service/default/reviews";
    let mut world = world(&[("a.yaml", SERVICE)]);
    for broken in [SERVICE.replace("ports", "prots"), SERVICE.replace("reviews}, ports", "reviews, ports")] {
        let outcome = world.apply(vec![set("a.yaml", &broken)]);
        assert!(outcome.delta.is_empty(), "{broken}");
        assert!(holds(&world, key, ConditionKind::Stale), "{broken}");
        assert!(!holds(&world, key, ConditionKind::Accepted), "{broken}");
    }
    // Not even its name can be read, but something in the file cannot.
    let outcome = world.apply(vec![set("a.yaml", "kind: [")]);
    assert!(outcome.delta.is_empty() && holds(&world, key, ConditionKind::Stale));
    assert_eq!(outcome.files.len(), 1);

    let outcome = world.apply(vec![set("a.yaml", "# nothing\n")]);
    assert_eq!(names(&outcome), ["-/Service/default/reviews"]);
    assert_eq!(outcome.unstored, [object(key)]);
    assert_eq!(outcome.gone, [object(key)]);
    assert_eq!(outcome.files, [("a.yaml".into(), Vec::new())]);
}

#[test]
fn one_broken_document_never_touches_another() {
    let two = format!("{SERVICE}---\nkind: {{\n---{}", ALLOW);
    let world = world(&[("a.yaml", &two)]);
    assert!(resource(&world, Origin::Service, "reviews").is_some());
    assert!(resource(&world, Origin::AuthorizationPolicy, "guard").is_some());
}

#[test]
fn what_is_remembered_comes_back_where_the_text_is_broken_and_only_there() {
    let mut before = World::new(Settings::default());
    let outcome = before.apply(vec![set("a.yaml", SERVICE), set("b.yaml", ALLOW)]);
    assert_eq!(outcome.stored.len(), 2);
    let restore = |files: Vec<Change>| {
        let mut world =
            World::restore(Settings::default(), before.allocations().clone(), outcome.stored.clone());
        world.apply(files);
        world
    };
    let world = restore(vec![set("a.yaml", "spec: ["), set("b.yaml", ALLOW)]);
    assert!(holds(&world, "Service/default/reviews", ConditionKind::Stale));
    assert_eq!(
        resource(&world, Origin::Service, "reviews"),
        resource(&before, Origin::Service, "reviews"),
        "with its addresses"
    );
    let world = restore(vec![set("b.yaml", ALLOW)]);
    assert!(world.status(&object("Service/default/reviews")).is_none());
}

#[test]
fn an_item_of_a_list_is_kept_as_a_document_of_its_own() {
    let item = "  - apiVersion: v1
    kind: Service
    metadata: {name: reviews}
    spec:
      selector: {app: reviews}
      ports: [{port: 80}]
";
    let list =
        format!("apiVersion: v1\nkind: List\nitems:\n{item}{}", item.replace("name: reviews", "name: b"));
    let mut world = World::new(Settings::default());
    let outcome = world.apply(vec![set("a.yaml", &list)]);
    assert_eq!(outcome.stored.len(), 2);
    let mut again = World::restore(Settings::default(), Allocations::new(), outcome.stored);
    again.apply(vec![set("a.yaml", "items: [")]);
    assert_eq!(again.entries(), world.entries());
}

#[test]
fn security_never_seen_good_denies_what_can_be_read_of_it() {
    let policy = |world: &World, origin, name| match resource(world, origin, name) {
        Some(Resource::Policy(policy)) => policy,
        other => panic!("{other:?}"),
    };
    let denies = |kind: &PolicyKind| match kind {
        PolicyKind::Authorization(policy) => {
            policy.action == Action::Deny && policy.rules == [Default::default()]
        }
        PolicyKind::PeerAuthentication(peer) => peer.mode == MtlsMode::Strict,
        PolicyKind::Destination(_) | PolicyKind::RateLimit(_) | PolicyKind::RequestLimit(_) => false,
    };
    let own = Target::Namespace(Namespace::default());
    for (text, expected) in [
        (ALLOW.replace("rules", "ruels"), Target::Selected),
        (ALLOW.replace("namespaces", "namespace"), Target::Selected),
        (ALLOW.replace("selector", "selektor"), own.clone()),
        (ALLOW.replace("{source", "[{source"), Target::Selected),
        (ALLOW.replace("spec: {selector: {", "spec: {selector: }{"), own.clone()),
        (ALLOW.replace("[shop]", "[]"), Target::Selected),
        (ALLOW.replace("spec: {selector", "spec: [{selector"), own),
    ] {
        let mut world = world(&[("a.yaml", &text)]);
        let found = policy(&world, Origin::AuthorizationPolicy, "guard");
        assert!(denies(&found.kind) && found.target == expected, "{text}: {found:?}");
        // A good version takes its place.
        world.apply(vec![set("a.yaml", ALLOW)]);
        assert!(!denies(&policy(&world, Origin::AuthorizationPolicy, "guard").kind));
        // And the good one stays, once it was seen.
        world.apply(vec![set("a.yaml", &text)]);
        assert!(!denies(&policy(&world, Origin::AuthorizationPolicy, "guard").kind));
    }
    let strict = "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: p}, spec: {mtls: {mode: no}}}";
    assert!(denies(&policy(&world(&[("a", strict)]), Origin::PeerAuthentication, "p").kind));
}

#[test]
fn what_is_not_enforced_denies_unless_that_is_allowed() {
    let custom = ALLOW.replace("spec: {", "spec: {action: CUSTOM, provider: {name: x}, ");
    let tokens = ALLOW
        .replace("AuthorizationPolicy", "RequestAuthentication")
        .replace("rules: [{from: [{source: {namespaces: [shop]}}]}]", "jwtRules: [{issuer: x}]");
    for (text, origin) in [(custom, Origin::AuthorizationPolicy), (tokens, Origin::RequestAuthentication)] {
        for allow_unenforced in [false, true] {
            let mut world = World::new(Settings { allow_unenforced, ..Settings::default() });
            world.apply(vec![set("a.yaml", &text), Change::SetInstance(instance("reviews-0"))]);
            assert_eq!(resource(&world, origin, "guard").is_some(), !allow_unenforced, "{text}");
            let Some(Resource::Workload(workload)) = resource(&world, Origin::Instance, "reviews-0") else {
                panic!()
            };
            assert_eq!(workload.policies.len(), usize::from(!allow_unenforced), "{text}");
        }
    }
}

#[test]
fn a_route_learns_when_what_it_refers_to_comes_and_goes() {
    let route = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}
";
    let rule = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}]}
";
    let key = "VirtualService.networking.istio.io/default/r";
    let mut world = world(&[("r.yaml", route)]);
    assert!(!holds(&world, key, ConditionKind::ResolvedRefs));
    world.apply(vec![set("s.yaml", SERVICE)]);
    assert!(!holds(&world, key, ConditionKind::ResolvedRefs), "its subset is missing");
    let outcome = world.apply(vec![set("d.yaml", rule)]);
    assert!(holds(&world, key, ConditionKind::ResolvedRefs));
    assert_eq!(
        names(&outcome),
        ["+networking.istio.io/DestinationRule/default/r", "+networking.istio.io/VirtualService/default/r"]
    );
    world.apply(vec![remove("s.yaml")]);
    assert!(!holds(&world, key, ConditionKind::ResolvedRefs));
}

#[test]
fn the_root_namespace_decides_which_policies_reach_all() {
    let policy = ALLOW.replace("{name: guard}", "{name: guard, namespace: infra}");
    let mesh = "{apiVersion: lateen.dev/v1alpha1, kind: Mesh, metadata: {name: m}, spec: {rootNamespace: infra, trustDomain: x.example}}";
    let mut world = world(&[("a.yaml", &policy)]);
    world.apply(vec![Change::SetInstance(instance("reviews-0"))]);
    let workload = |world: &World| match resource(world, Origin::Instance, "reviews-0") {
        Some(Resource::Workload(workload)) => workload,
        other => panic!("{other:?}"),
    };
    assert!(workload(&world).policies.is_empty());
    world.apply(vec![set("m.yaml", mesh)]);
    assert_eq!(workload(&world).policies.len(), 1);
    assert_eq!(workload(&world).trust_domain.as_str(), "x.example");
    world.apply(vec![remove("m.yaml")]);
    assert!(workload(&world).policies.is_empty());
}

#[test]
fn an_address_that_is_given_back_goes_to_who_asked_for_it() {
    let given = |name: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{clusterIP: 240.240.9.9, ports: [{{port: 80}}]}}}}"
        )
    };
    let mut world = world(&[("a.yaml", &given("a")), ("b.yaml", &given("b"))]);
    assert!(holds(&world, "Service/default/b", ConditionKind::Conflicted));
    let outcome = world.apply(vec![remove("a.yaml")]);
    assert!(outcome.allocations_changed);
    assert!(!holds(&world, "Service/default/b", ConditionKind::Conflicted));
    let Some(Resource::Service(service)) = resource(&world, Origin::Service, "b") else { panic!() };
    assert_eq!(service.addresses[0].ip.to_string(), "240.240.9.9");
}

#[test]
fn a_selector_that_names_nothing_is_told_until_it_names_something() {
    let mut world = world(&[("a.yaml", SERVICE)]);
    let warned = |world: &World| !world.problems().is_empty();
    assert!(warned(&world));
    world.apply(vec![Change::SetInstance(instance("reviews-0"))]);
    assert!(!warned(&world));
    world.apply(vec![Change::RemoveInstance { namespace: Namespace::default(), name: "reviews-0".into() }]);
    assert!(warned(&world));
}

#[test]
fn a_root_and_its_delegate_hear_of_each_other() {
    let root = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root}
spec: {hosts: [reviews], http: [{match: [{uri: {prefix: /a}}], delegate: {name: leaf}}]}
";
    let leaf = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: leaf}
spec: {http: [{match: [{uri: {prefix: /a/b}}], route: [{destination: {host: reviews}}]}]}
";
    let (root_key, leaf_key) = (
        "VirtualService.networking.istio.io/default/root",
        "VirtualService.networking.istio.io/default/leaf",
    );
    let rules = |world: &World| match resource(world, Origin::VirtualService, "root") {
        Some(Resource::Route(route)) => route.rules.len(),
        other => panic!("{other:?}"),
    };
    let mut world = world(&[("s.yaml", SERVICE), ("l.yaml", leaf)]);
    assert!(!holds(&world, leaf_key, ConditionKind::Accepted), "nobody delegates to it");
    world.apply(vec![set("r.yaml", root)]);
    assert!(holds(&world, leaf_key, ConditionKind::Accepted));
    assert_eq!(rules(&world), 1);
    world.apply(vec![set("l.yaml", &leaf.replace("/a/b", "/b"))]);
    assert_eq!(rules(&world), 0);
    assert!(holds(&world, root_key, ConditionKind::Conflicted));
    assert!(holds(&world, leaf_key, ConditionKind::Conflicted));
    world.apply(vec![remove("l.yaml")]);
    assert!(!holds(&world, root_key, ConditionKind::ResolvedRefs));
    assert!(!holds(&world, root_key, ConditionKind::Conflicted));
}

#[test]
fn a_limit_that_selects_is_listed_by_what_it_selects() {
    let limit = "
apiVersion: lateen.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: slow}
spec: {selector: {matchLabels: {app: reviews}}, rules: [{requests: 1, per: 1s}]}
";
    let mut world = world(&[("l.yaml", limit)]);
    assert_eq!(
        world.status(&object("RateLimitPolicy.lateen.dev/default/slow")).map(|s| s.problems.len()),
        Some(1)
    );
    world.apply(vec![Change::SetInstance(instance("reviews-0"))]);
    let Some(Resource::Workload(workload)) = resource(&world, Origin::Instance, "reviews-0") else {
        panic!("the workload is there");
    };
    assert_eq!(workload.policies, [Key::new(Origin::RateLimitPolicy, Namespace::default(), "slow")]);
    let status = world.status(&object("RateLimitPolicy.lateen.dev/default/slow"));
    assert_eq!(status.map(|status| status.problems.len()), Some(0));
}
