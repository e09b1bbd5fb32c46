//! Which endpoint is next, and the way to it.

mod mesh;

use lateen_engine::*;
use lateen_model::*;
use mesh::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

fn client() -> Viewer {
    viewer("default/client", ProxyRole::Sidecar, &[])
}

fn web(number: usize) -> Workload {
    workload(&format!("default/w{number}"), &format!("10.1.0.{number}"), &[], &[("web.default", "http:80")])
}

/// A mesh of one service, and where its port leads.
fn group(
    balance: BalanceAlgorithm,
    workloads: impl IntoIterator<Item = Workload>,
) -> (Arc<Snapshot>, BackendId) {
    let rest = [
        service("web.default", &["10.0.0.1"], "http:80"),
        destination_rule("default/web", "web.default.svc.cluster.local", Some(balance), ""),
    ];
    let snapshot = snapshot(client(), workloads.into_iter().map(instance).chain(rest));
    let facts = connection(Direction::Outbound, "10.0.0.1:80");
    let RequestDecision::Forward(forward) = ask(&snapshot, &facts, "GET web/", 0) else {
        panic!("it is declared")
    };
    let Destination::Backend(backend) = forward.to else { panic!("it has endpoints: {:?}", forward.to) };
    (snapshot, backend)
}

fn picks(snapshot: &Snapshot, backend: BackendId, load: &dyn Load, rounds: u64) -> BTreeMap<u8, u64> {
    let mut seen = BTreeMap::new();
    for n in 0..rounds {
        let picked = pick_endpoint(snapshot, backend, &Preference::default(), &Excluded::default(), load, n)
            .expect("some are ready");
        let SocketAddr::V4(address) = picked.endpoint else { panic!("IPv4") };
        *seen.entry(address.ip().octets()[3]).or_insert(0) += 1;
    }
    seen
}

struct Loaded {
    active: fn(SocketAddr) -> u32,
    out: Vec<SocketAddr>,
    turn: Cell<u64>,
}

impl Load for Loaded {
    fn active(&self, endpoint: SocketAddr) -> u32 {
        (self.active)(endpoint)
    }
    fn next(&self, _: u64) -> u64 {
        self.turn.replace(self.turn.get() + 1)
    }
    fn left_out(&self, _: BackendId) -> Option<LeftOut> {
        LeftOut::new(self.out.clone())
    }
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

fn last(endpoint: SocketAddr) -> u8 {
    match endpoint.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    }
}

#[test]
fn round_robin_gives_each_its_turn_by_weight() {
    let (snapshot, backend) = group(BalanceAlgorithm::RoundRobin, (1..4).map(web));
    assert_eq!(picks(&snapshot, backend, &Idle::default(), 300), [(1, 100), (2, 100), (3, 100)].into());
    let weighted = (1..4).map(|n| Workload { weight: n as u32, ..web(n) });
    let (snapshot, backend) = group(BalanceAlgorithm::RoundRobin, weighted);
    assert_eq!(picks(&snapshot, backend, &Idle::default(), 600), [(1, 100), (2, 200), (3, 300)].into());
}

#[test]
fn random_choices_follow_the_weights() {
    for balance in [BalanceAlgorithm::Random, BalanceAlgorithm::LeastRequest] {
        let weighted = [1, 2, 0, 7].into_iter().enumerate().map(|(n, weight)| Workload { weight, ..web(n) });
        let (snapshot, backend) = group(balance, weighted);
        let seen = picks(&snapshot, backend, &Idle::default(), 20_000);
        assert_eq!(
            seen.keys().copied().collect::<Vec<_>>(),
            [0, 1, 3],
            "{balance:?}: weight 0 is never chosen"
        );
        let share = |n: u8| seen[&n] as f64 / 20_000.0;
        assert!((share(0) - 0.1).abs() < 0.02 && (share(3) - 0.7).abs() < 0.02, "{balance:?} {seen:?}");
    }
}

#[test]
fn the_less_loaded_of_two_is_chosen() {
    let (snapshot, backend) = group(BalanceAlgorithm::LeastRequest, (1..3).map(web));
    let load =
        Loaded { active: |at| if last(at) == 1 { 5 } else { 4 }, out: Vec::new(), turn: Cell::default() };
    assert_eq!(picks(&snapshot, backend, &load, 100), [(2, 100)].into());
    // For its weight the first has less to do.
    let (snapshot, backend) =
        group(BalanceAlgorithm::LeastRequest, [Workload { weight: 10, ..web(1) }, web(2)]);
    let seen = picks(&snapshot, backend, &load, 1000);
    assert!(seen[&1] > 990, "{seen:?}");
}

fn out(endpoints: impl IntoIterator<Item = u8>) -> Loaded {
    let out = endpoints.into_iter().map(|n| SocketAddr::new([10, 1, 0, n].into(), 80)).collect();
    Loaded { active: |_| 0, out, turn: Cell::default() }
}

#[test]
fn what_is_ejected_is_left_out() {
    for balance in [BalanceAlgorithm::RoundRobin, BalanceAlgorithm::Random, BalanceAlgorithm::LeastRequest] {
        let (snapshot, backend) = group(balance, (1..20).map(web));
        let but_one = out((1..20).filter(|n| *n != 7));
        assert_eq!(picks(&snapshot, backend, &but_one, 50), [(7, 50)].into(), "{balance:?}");
        let denial =
            pick_endpoint(&snapshot, backend, &Preference::default(), &Excluded::default(), &out(1..20), 0);
        assert_eq!(denial.expect_err("all are out").reason, DenialReason::NoEndpoint);
    }
}

#[test]
fn each_endpoint_is_tried_once() {
    for balance in [BalanceAlgorithm::RoundRobin, BalanceAlgorithm::Random, BalanceAlgorithm::LeastRequest] {
        let (snapshot, backend) = group(balance, (1..20).map(web));
        let mut excluded = Excluded::default();
        for n in 0..19 {
            let picked =
                pick_endpoint(&snapshot, backend, &Preference::default(), &excluded, &Idle::default(), n)
                    .expect("some are left");
            assert!(!excluded.contains(picked.endpoint), "{balance:?}");
            excluded.add(picked.endpoint);
        }
        let denial =
            pick_endpoint(&snapshot, backend, &Preference::default(), &excluded, &Idle::default(), 0)
                .expect_err("all were tried");
        assert_eq!(denial.reason, DenialReason::AllTried);
    }
}

#[test]
fn only_what_is_ready_and_near_is_used() {
    let ill = Workload { health: Health::Unhealthy, ..web(1) };
    let far = Workload { network: NetworkId::parse("far").expect("a name"), ..web(2) };
    let nowhere = Workload { addresses: Vec::new(), ..web(3) };
    let asleep = Workload { weight: 0, ..web(4) };
    let (snapshot, backend) = group(BalanceAlgorithm::Random, [ill, far, nowhere, asleep]);
    let denial =
        pick_endpoint(&snapshot, backend, &Preference::default(), &Excluded::default(), &Idle::default(), 0)
            .expect_err("none is");
    assert_eq!((denial.reason, denial.service), (DenialReason::NoEndpoint, Some(service_id("web.default"))));
    let unknown = pick_endpoint(
        &snapshot,
        BackendId(999),
        &Preference::default(),
        &Excluded::default(),
        &Idle::default(),
        0,
    );
    assert_eq!(unknown.expect_err("there is no such group").reason, DenialReason::NoEndpoint);
}

#[test]
fn a_workload_with_a_proxy_is_reached_by_its_tunnel() {
    let value = service_value("web.default", &["10.0.0.1"], "http:80 tcp:81");
    let names = vec!["spiffe://cluster.local/ns/x/sa/y".into(), "web.example.com".into()];
    let entries = [
        entry(
            key(Origin::Service, "default/web"),
            Resource::Service(Service { subject_alt_names: names, ..value }),
        ),
        instance(workload("default/w", "10.1.0.1", &[], &[("web.default", "http:80->8080")])),
        instance(Workload {
            tunnel: Tunnel::None,
            ..workload("default/v", "10.1.0.2", &[], &[("web.default", "tcp:81")])
        }),
    ];
    let snapshot = snapshot(client(), entries);
    let way = |to: &Destination| {
        pick(&snapshot, to, &Preference::default(), &Excluded::default(), &Idle::default(), 0)
            .expect("it is there")
    };
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let backend = |port: u16| {
        let facts = connection(Direction::Outbound, &format!("10.0.0.1:{port}"));
        match ask(&snapshot, &facts, "GET x/", 0) {
            RequestDecision::Forward(forward) => forward.to,
            other => panic!("{other:?}"),
        }
    };
    let tunnel = |accept: Vec<Identity>, authority: &str| Hop::Hbone {
        addr: address("10.1.0.1:15008"),
        authority: address(authority),
        accept: Accept(accept.into()),
    };
    let own = identity("default", "w");
    assert_eq!(way(&backend(80)).hop, tunnel(vec![own.clone(), identity("x", "y")], "10.1.0.1:8080"));
    assert_eq!(way(&backend(81)).hop, Hop::Plain(address("10.1.0.2:81")));
    // By its own address too, where nobody but itself may answer.
    assert_eq!(way(&Destination::Passthrough(address("10.1.0.1:7"))).hop, tunnel(vec![own], "10.1.0.1:7"));
    assert_eq!(way(&Destination::Passthrough(address("9.9.9.9:7"))).hop, Hop::Plain(address("9.9.9.9:7")));
    assert_eq!(way(&Destination::Local(address("10.1.0.1:7"))).hop, Hop::Local(address("10.1.0.1:7")));
}

#[test]
fn names_resolve_as_the_viewer_says_them() {
    let entries = [
        service("web.default", &["10.0.0.1", "fd00::1"], "http:80"),
        service("cart.other", &[], "http:80"),
        instance(workload("other/c0", "10.1.0.1 fd00::2", &[], &[("cart.other", "http:80")])),
        instance(Workload {
            health: Health::Unhealthy,
            ..workload("other/c1", "10.1.0.2", &[], &[("cart.other", "http:80")])
        }),
    ];
    let snapshot = snapshot(client(), entries);
    for (name, expected) in [
        ("web", Some("10.0.0.1 fd00::1")),
        ("Web.Default.svc.cluster.local.", Some("10.0.0.1 fd00::1")),
        ("cart", None),
        ("cart.other.svc", Some("10.1.0.1 fd00::2")),
        ("example.com", None),
        ("", None),
    ] {
        let found = snapshot.resolve(name).map(|ips| {
            let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
            ips.join(" ")
        });
        assert_eq!(found.as_deref(), expected, "{name}");
    }
}

#[test]
fn passthrough_keeps_the_address_of_the_caller() {
    let rest = [
        service("web.default", &["10.0.0.1"], "http:80"),
        destination_rule(
            "default/web",
            "web.default.svc.cluster.local",
            Some(BalanceAlgorithm::Passthrough),
            "",
        ),
    ];
    let snapshot = snapshot(client(), rest);
    let facts = connection(Direction::Outbound, "10.0.0.1:80");
    assert_eq!(line(&snapshot, ask(&snapshot, &facts, "GET web/", 0)), "default -> as is 10.0.0.1:80");
}
