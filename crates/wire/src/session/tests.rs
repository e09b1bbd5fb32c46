use super::*;
use crate::NativeView;
use crate::pb::envoy::config::core::v3::Node;
use crate::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::{View, testing};
use lateen_model::{
    Catalog, Delta, Entry, Key, Kind, Namespace, Origin, ProxyRole, Resource, Revision, Service, Str, Viewer,
    role_needs,
};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Keys and what is under them: what two planes must agree on.
type State = BTreeMap<Key, Resource>;

fn state(catalog: &Catalog) -> State {
    catalog.iter().map(|entry| (entry.key.clone(), entry.resource.clone())).collect()
}

/// What a viewer should see, said without the view: of services with one name the better one.
fn visible(catalog: &Catalog, viewer: &Viewer) -> State {
    let mut state: BTreeMap<Key, &Entry> = BTreeMap::new();
    let mut services: BTreeMap<String, (bool, Key)> = BTreeMap::new();
    for entry in catalog.iter() {
        if !role_needs(viewer.role, entry.resource.kind()) || !entry.scope.includes(viewer) {
            continue;
        }
        if let Resource::Service(service) = &entry.resource {
            let rank = (!service.canonical, entry.key.clone());
            if let Some(other) = services.get_mut(&service.id().to_string()) {
                if *other < rank {
                    continue;
                }
                state.remove(&other.1);
            }
            services.insert(service.id().to_string(), rank);
        }
        state.insert(entry.key.clone(), entry);
    }
    state.into_iter().map(|(key, entry)| (key, entry.resource.clone())).collect()
}

/// A control plane and a proxy with a network between them that the test moves message by message.
struct Simulation {
    catalog: Catalog,
    view: NativeView,
    viewer: Viewer,
    server: ServerSession,
    client: ClientSession,
    /// What the proxy made of the batches.
    proxy: Catalog,
    last: Option<Revision>,
    /// What the viewer should see at each state.
    expected: BTreeMap<Revision, State>,
    to_server: VecDeque<DeltaDiscoveryRequest>,
    to_client: VecDeque<DeltaDiscoveryResponse>,
}

#[derive(Clone, Debug)]
enum Step {
    Change(Vec<Entry>, Vec<prop::sample::Index>),
    Viewer(Viewer),
    ToServer,
    ToClient,
    Disconnect,
    RestartServer,
}

impl Simulation {
    fn new(viewer: Viewer) -> Self {
        let view = NativeView::default();
        let mut simulation = Self {
            server: ServerSession::new(Arc::new(view.clone()), viewer.clone()),
            client: ClientSession::new(viewer.role),
            catalog: Catalog::default(),
            view,
            viewer,
            proxy: Catalog::default(),
            last: None,
            expected: BTreeMap::new(),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
        };
        simulation.remember();
        simulation.connect();
        simulation
    }

    fn remember(&mut self) {
        self.expected.insert(self.catalog.revision(), visible(&self.catalog, &self.viewer));
    }

    fn connect(&mut self) {
        self.to_client.clear();
        self.to_server = self.client.connect(Node::default()).into();
        self.server = ServerSession::new(Arc::new(self.view.clone()), self.viewer.clone());
    }

    fn poll(&mut self) {
        while let Some(response) = self.server.poll() {
            self.to_client.push_back(response);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Change(set, removed) => {
                let keys: Vec<Key> = self.catalog.iter().map(|entry| entry.key.clone()).collect();
                let mut delta = Delta::default();
                delta.set.extend(set.into_iter().map(Arc::new));
                if !keys.is_empty() {
                    let removed = removed.iter().map(|index| index.get(&keys).clone());
                    delta.removed = removed.filter(|key| delta.set.iter().all(|it| it.key != *key)).collect();
                }
                self.catalog.apply(&delta);
                self.view.apply(&delta, self.catalog.revision());
                self.server.offer(Arc::new(self.view.clone()));
                self.remember();
            }
            Step::Viewer(viewer) => {
                self.viewer = Viewer { role: self.viewer.role, ..viewer };
                self.server.set_viewer(self.viewer.clone());
                // The old and the new viewer may both be seen at this state; a new one tells them apart.
                self.step(Step::Change(Vec::new(), Vec::new()));
            }
            Step::ToServer => {
                if let Some(request) = self.to_server.pop_front() {
                    self.server.receive(request).unwrap();
                }
            }
            Step::ToClient => {
                if let Some(response) = self.to_client.pop_front() {
                    self.client_receives(response);
                }
            }
            Step::Disconnect => self.connect(),
            Step::RestartServer => {
                self.view = NativeView::new(&self.catalog);
                self.connect();
            }
        }
        self.poll();
    }

    fn client_receives(&mut self, response: DeltaDiscoveryResponse) {
        let received = self.client.receive(response).unwrap();
        self.to_server.push_back(received.reply);
        if let Some(batch) = received.batch {
            assert!(batch.refused.is_empty(), "{:?}", batch.refused);
            self.proxy.apply(&batch.delta);
            self.last = Some(batch.revision);
            assert_eq!(
                state(&self.proxy),
                self.expected[&batch.revision],
                "not one state: {}",
                batch.revision
            );
        }
    }

    /// Until nothing moves.
    fn settle(&mut self) {
        self.poll();
        while !self.to_server.is_empty() || !self.to_client.is_empty() {
            self.step(Step::ToServer);
            self.step(Step::ToClient);
        }
        assert!(!self.server.is_waiting());
        assert_eq!(self.last, Some(self.catalog.revision()));
        assert_eq!(self.server.progress().acknowledged, self.last);
        assert_eq!(state(&self.proxy), visible(&self.catalog, &self.viewer));
    }
}

fn step() -> impl Strategy<Value = Step> {
    let change = (
        prop::collection::vec(testing::entry(), 0..4),
        prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    );
    prop_oneof![
        4 => change.prop_map(|(set, removed)| Step::Change(set, removed)),
        1 => testing::viewer().prop_map(Step::Viewer),
        8 => Just(Step::ToServer),
        8 => Just(Step::ToClient),
        1 => Just(Step::Disconnect),
        1 => Just(Step::RestartServer),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Whatever happens in between, each batch is one whole state, and in the end both planes agree.
    #[test]
    fn both_planes_agree(viewer in testing::viewer(), steps in prop::collection::vec(step(), 0..60)) {
        let mut simulation = Simulation::new(viewer);
        for step in steps {
            simulation.step(step);
        }
        simulation.settle();
    }

    #[test]
    fn no_message_of_a_proxy_panics(
        viewer in testing::viewer(),
        requests in prop::collection::vec(request(), 0..20),
        entries in testing::entries(6),
    ) {
        let mut catalog = Catalog::default();
        catalog.apply(&Delta { set: entries.into_iter().map(Arc::new).collect(), removed: Vec::new() });
        let mut server = ServerSession::new(Arc::new(NativeView::new(&catalog)), viewer);
        for request in requests {
            let _ = server.receive(request);
            for _ in 0..20 {
                if server.poll().is_none() {
                    break;
                }
            }
            prop_assert!(server.poll().is_none(), "more responses outstanding than types");
        }
    }

    #[test]
    fn no_message_of_a_control_plane_panics(responses in prop::collection::vec(response(), 0..20)) {
        let mut client = ClientSession::new(ProxyRole::Gateway);
        for response in responses {
            let _ = client.receive(response);
        }
    }
}

fn type_url() -> impl Strategy<Value = String> {
    let known: Vec<String> = TypeUrl::SHIPPED.iter().map(|it| it.as_str().to_owned()).collect();
    prop_oneof![8 => prop::sample::select(known), 1 => "\\PC{0,8}"]
}

fn wire_name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["*", "", "shop/p", "Kubernetes//Service/shop/a", "x"]).prop_map(str::to_owned)
}

fn request() -> impl Strategy<Value = DeltaDiscoveryRequest> {
    let names = || prop::collection::vec(wire_name(), 0..3);
    let versions = prop::collection::btree_map(wire_name(), wire_name(), 0..3);
    (type_url(), names(), names(), versions, 0u8..6, any::<bool>()).prop_map(
        |(type_url, subscribe, unsubscribe, initial_resource_versions, nonce, bad)| DeltaDiscoveryRequest {
            type_url,
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: unsubscribe,
            initial_resource_versions,
            response_nonce: if nonce == 0 { String::new() } else { nonce.to_string() },
            error_detail: bad.then(Default::default),
            ..Default::default()
        },
    )
}

fn response() -> impl Strategy<Value = DeltaDiscoveryResponse> {
    use crate::pb::envoy::service::discovery::v3::Resource as Wire;
    let resource = (wire_name(), prop::option::of((type_url(), prop::collection::vec(any::<u8>(), 0..20))))
        .prop_map(|(name, any)| Wire {
            name,
            resource: any.map(|(type_url, value)| crate::Any { type_url, value: value.into() }),
            ..Default::default()
        });
    let removed = prop::collection::vec(wire_name(), 0..3);
    (type_url(), prop::collection::vec(resource, 0..4), removed).prop_map(
        |(type_url, resources, removed_resources)| DeltaDiscoveryResponse {
            type_url,
            resources,
            removed_resources,
            ..Default::default()
        },
    )
}

fn sidecar() -> Viewer {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let viewer = proptest::strategy::ValueTree::current(&testing::viewer().new_tree(&mut runner).unwrap());
    Viewer { role: ProxyRole::Sidecar, ..viewer }
}

fn service(name: &str, hostname: &str) -> Entry {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let service = proptest::strategy::ValueTree::current(&testing::service().new_tree(&mut runner).unwrap());
    let hostname = lateen_model::Hostname::parse(hostname).unwrap();
    let service = Service { hostname, namespace: Namespace::default(), ..service };
    Entry::for_everyone(Key::new(Origin::Service, Namespace::default(), name), Resource::Service(service))
}

fn services(count: usize, padding: usize) -> Vec<Entry> {
    let padding: Str = "x".repeat(padding).into();
    let one = |n| {
        let mut entry = service(&format!("s{n}"), &format!("s{n}.example.com"));
        if let Resource::Service(service) = &mut entry.resource {
            service.subject_alt_names = vec![padding.clone()];
        }
        entry
    };
    (0..count).map(one).collect()
}

#[test]
fn a_large_state_comes_in_responses_of_a_mebibyte_one_at_a_time() {
    let mut simulation = Simulation::new(sidecar());
    simulation.settle();
    simulation.step(Step::Change(services(40, 100_000), vec![]));
    let mut responses = 0;
    while simulation.last != Some(simulation.catalog.revision()) {
        let is_address = |it: &&DeltaDiscoveryResponse| it.type_url == TypeUrl::Address.as_str();
        assert!(simulation.to_client.iter().filter(is_address).count() <= 1, "one is outstanding");
        let bytes = prost::Message::encoded_len(&simulation.to_client[0]);
        assert!(bytes <= RESPONSE_BYTES + 4096, "{bytes}");
        responses += 1;
        simulation.step(Step::ToClient);
        simulation.step(Step::ToServer);
    }
    assert_eq!(responses, 4 + 1, "four with services, and the mark");
    simulation.settle();
}

#[test]
fn a_reconnect_sends_the_difference() {
    let mut simulation = Simulation::new(sidecar());
    simulation.step(Step::Change(services(10, 1), vec![]));
    simulation.settle();
    let mut changed = services(10, 2).remove(3);
    changed.scope = lateen_model::Scope::Everyone;
    simulation.step(Step::Change(vec![changed], vec![]));
    let gone = Key::new(Origin::Service, Namespace::default(), "s7");
    let delta = Delta { set: vec![], removed: vec![gone] };
    simulation.catalog.apply(&delta);
    simulation.remember();
    simulation.step(Step::RestartServer);
    let mut sent = (Vec::new(), Vec::new());
    while !simulation.to_server.is_empty() || !simulation.to_client.is_empty() {
        simulation.step(Step::ToServer);
        if let Some(response) = simulation.to_client.front()
            && response.type_url != TypeUrl::Revision.as_str()
        {
            sent.0.extend(response.resources.iter().map(|it| it.name.clone()));
            sent.1.extend(response.removed_resources.clone());
        }
        simulation.step(Step::ToClient);
    }
    assert_eq!(sent, (vec!["default/s3.example.com".to_owned()], vec!["default/s7.example.com".to_owned()]));
    simulation.settle();
}

#[test]
fn of_a_thing_that_changed_while_a_proxy_was_slow_only_the_last_state_is_sent() {
    let mut simulation = Simulation::new(sidecar());
    simulation.settle();
    for padding in 1..20 {
        simulation.step(Step::Change(services(1, padding), vec![]));
    }
    let mut resources = 0;
    while !simulation.to_client.is_empty() || !simulation.to_server.is_empty() {
        resources += simulation.to_client.front().map_or(0, |response| {
            if response.type_url == TypeUrl::Address.as_str() { response.resources.len() } else { 0 }
        });
        simulation.step(Step::ToClient);
        simulation.step(Step::ToServer);
    }
    assert_eq!(resources, 2, "the one under way, and the last");
    simulation.settle();
}

#[test]
fn a_refused_resource_is_told_by_name_and_its_target_denied() {
    use crate::pb::lateen::v1 as pb;
    use prost::Message;
    let mut client = ClientSession::new(ProxyRole::Sidecar);
    let mut server = ServerSession::new(Arc::new(NativeView::default()), sidecar());
    for request in client.connect(Node::default()) {
        server.receive(request).unwrap();
    }
    let mut mark = None;
    while let Some(mut response) = server.poll() {
        if response.type_url == TypeUrl::Policy.as_str() {
            let policy = pb::Policy {
                key: "Kubernetes/security.istio.io/AuthorizationPolicy/shop/p".into(),
                requires: vec!["the-future".into()],
                ..Default::default()
            };
            response.resources.push(crate::pb::envoy::service::discovery::v3::Resource {
                name: policy.key.clone(),
                version: "1".into(),
                resource: Some(crate::Any {
                    type_url: response.type_url.clone(),
                    value: policy.encode_to_vec().into(),
                }),
                ..Default::default()
            });
        }
        let received = client.receive(response).unwrap();
        server.receive(received.reply).unwrap();
        mark = mark.or(received.batch);
    }
    let batch = mark.unwrap();
    assert_eq!((batch.refused.len(), batch.delta.set.len()), (1, 1));
    assert_eq!(batch.delta.set[0].resource.kind(), Kind::Security);
    let refused: Vec<String> =
        server.progress().refused.iter().map(|((_, name), why)| format!("{name}: {why}")).collect();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].contains("shop/p: requires \"the-future\""), "{refused:?}");
    let held = client.connect(Node::default());
    let policies = held.iter().find(|it| it.type_url == TypeUrl::Policy.as_str()).unwrap();
    assert_eq!(policies.initial_resource_versions.len(), 1, "its removal will be told");
}

#[test]
fn a_service_that_changes_its_host_name_stays_one_service() {
    let mut simulation = Simulation::new(sidecar());
    simulation.step(Step::Change(vec![service("s", "a.example.com")], vec![]));
    simulation.settle();
    simulation.step(Step::Change(vec![service("s", "b.example.com")], vec![]));
    simulation.settle();
    assert_eq!(simulation.proxy.len(), 1);
}

#[test]
fn a_view_forgets_old_changes_and_says_so() {
    let mut view = NativeView::default();
    for n in 1..=1000 {
        view.apply(
            &Delta { set: services(1, n).into_iter().map(Arc::new).collect(), removed: vec![] },
            Revision(n as u64),
        );
    }
    assert!(view.since(Revision(10)).is_none());
    assert_eq!(view.since(Revision(998)).map(|names| names.len()), Some(2));
    assert_eq!(view.since(Revision(1000)).map(|names| names.len()), Some(0));
    assert!(view.since(Revision(1001)).is_none());
}

#[test]
fn a_type_of_a_newer_release_is_passed_over() {
    let mut server = ServerSession::new(Arc::new(NativeView::default()), sidecar());
    let request =
        DeltaDiscoveryRequest { type_url: "type.googleapis.com/lateen.v9.New".into(), ..Default::default() };
    assert_eq!(server.receive(request), Ok(()));
    assert!(server.poll().is_none());
}

/// Where the bytes of each service in a response lie.
fn addresses(server: &mut ServerSession) -> BTreeMap<String, *const u8> {
    let mut found = BTreeMap::new();
    for request in ClientSession::new(ProxyRole::Sidecar).connect(Node::default()) {
        server.receive(request).unwrap();
    }
    while let Some(response) = server.poll() {
        if response.type_url == TypeUrl::Address.as_str() {
            let resources = response.resources.into_iter();
            found.extend(resources.map(|it| (it.name, it.resource.unwrap().value.as_ptr())));
        }
    }
    found
}

#[test]
fn a_resource_is_encoded_once_for_all_proxies_and_states() {
    let mut catalog = Catalog::default();
    catalog.apply(&Delta { set: services(5, 1).into_iter().map(Arc::new).collect(), removed: vec![] });
    let mut view = NativeView::new(&catalog);
    let first = addresses(&mut ServerSession::new(Arc::new(view.clone()), sidecar()));
    let second = addresses(&mut ServerSession::new(Arc::new(view.clone()), sidecar()));
    assert_eq!((first.len(), &first), (5, &second));
    let change = services(5, 2).remove(3);
    view.apply(&Delta { set: vec![Arc::new(change)], removed: vec![] }, Revision(2));
    let mut third = addresses(&mut ServerSession::new(Arc::new(view), sidecar()));
    assert_ne!(third.remove("default/s3.example.com"), first.get("default/s3.example.com").copied());
    assert!(third.iter().all(|(name, bytes)| first[name] == *bytes));
}
