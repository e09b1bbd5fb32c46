//! Which endpoint is next, where more than the algorithm decides: hash, session, warm-up, localities, ejections.

mod mesh;

use lateen_engine::*;
use lateen_model::*;
use mesh::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const HOST: &str = "web.default.svc.cluster.local";

fn address(number: u8) -> SocketAddr {
    SocketAddr::new([10, 1, 0, number].into(), 80)
}

fn number(endpoint: SocketAddr) -> u8 {
    match endpoint.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    }
}

fn place(text: &str) -> Locality {
    let mut parts = text.split('/').map(Str::from);
    let mut next = || parts.next().unwrap_or_default();
    Locality { region: next(), zone: next(), subzone: next() }
}

fn web(number: u8, at: &str) -> Workload {
    let workload = workload(
        &format!("default/w{number:03}"),
        &format!("10.1.0.{number}"),
        &[],
        &[("web.default", "http:80")],
    );
    Workload { locality: place(at), ..workload }
}

/// The mesh as a client in `home` sees it.
fn entries(
    home: &str,
    traffic: TrafficPolicy,
    endpoints: impl IntoIterator<Item = Workload>,
) -> Vec<Arc<Entry>> {
    let own =
        Workload { locality: place(home), ..workload("default/client", "10.2.0.1", &[("rack", "r1")], &[]) };
    let mut all: Vec<_> = endpoints.into_iter().map(instance).collect();
    all.extend([
        service("web.default", &["10.0.0.1"], "http:80"),
        instance(own),
        destination("default/web", HOST, traffic),
    ]);
    all
}

fn client() -> Viewer {
    viewer("default/client", ProxyRole::Sidecar, &[])
}

fn backend(snapshot: &Snapshot) -> BackendId {
    let facts = connection(Direction::Outbound, "10.0.0.1:80");
    match ask(snapshot, &facts, "GET web/", 0) {
        RequestDecision::Forward(Forward { to: Destination::Backend(backend), .. }) => backend,
        other => panic!("it has endpoints: {other:?}"),
    }
}

#[derive(Default)]
struct Known {
    out: Vec<SocketAddr>,
    now: Duration,
    turn: Cell<u64>,
}

impl Known {
    fn without(out: impl IntoIterator<Item = u8>) -> Self {
        Self { out: out.into_iter().map(address).collect(), ..Self::default() }
    }
}

impl Load for Known {
    fn active(&self, _: SocketAddr) -> u32 {
        0
    }
    fn next(&self, _: u64) -> u64 {
        self.turn.replace(self.turn.get() + 1)
    }
    fn left_out(&self, _: BackendId) -> Option<LeftOut> {
        LeftOut::new(self.out.clone())
    }
    fn now(&self) -> Duration {
        self.now
    }
}

const ROUNDS: u64 = 10_000;

/// Per cent of the picks, by endpoint.
fn shares(snapshot: &Snapshot, load: &Known) -> BTreeMap<u8, u64> {
    let mut seen = BTreeMap::new();
    for n in 0..ROUNDS {
        let picked =
            pick_endpoint(snapshot, backend(snapshot), &Preference::default(), &Excluded::default(), load, n);
        *seen.entry(number(picked.expect("some may be used").endpoint)).or_insert(0) += 1;
    }
    seen.values_mut().for_each(|count| *count = (*count * 100 + ROUNDS / 2) / ROUNDS);
    seen
}

#[track_caller]
fn near(seen: &BTreeMap<u8, u64>, expected: &[(u8, u64)]) {
    let close =
        expected.iter().all(|(n, share)| seen.get(n).copied().unwrap_or_default().abs_diff(*share) <= 2);
    let others = seen.iter().all(|(n, share)| *share <= 1 || expected.iter().any(|(known, _)| known == n));
    assert!(close && others, "{seen:?} instead of {expected:?}");
}

fn watched() -> TrafficPolicy {
    TrafficPolicy { outliers: Some(OutlierDetection::default()), ..TrafficPolicy::default() }
}

fn with(mode: LocalityMode) -> TrafficPolicy {
    TrafficPolicy { locality: Some(LocalityPolicy { enabled: true, mode }), ..watched() }
}

fn failover(regions: &[(&str, &str)], priority: &[&str]) -> LocalityMode {
    LocalityMode::Failover {
        regions: regions.iter().map(|(from, to)| (Str::from(*from), Str::from(*to))).collect(),
        priority: priority.iter().map(|label| Str::from(*label)).collect(),
    }
}

/// Two in each of: our sub-zone, zone, region, and two other regions.
fn spread() -> Vec<Workload> {
    let places = ["eu/a/1", "eu/a/2", "eu/b/1", "us/a/1", "asia/a/1"];
    (1..=10).map(|n| web(n, places[usize::from(n - 1) / 2])).collect()
}

#[test]
fn the_nearest_take_all_and_the_next_take_over() {
    let snapshot = snapshot(client(), entries("eu/a/1", watched(), spread()));
    near(&shares(&snapshot, &Known::default()), &[(1, 50), (2, 50)]);
    // One of two is 70 % of what is needed.
    near(&shares(&snapshot, &Known::without([1])), &[(2, 70), (3, 15), (4, 15)]);
    near(&shares(&snapshot, &Known::without([1, 2])), &[(3, 50), (4, 50)]);
    near(&shares(&snapshot, &Known::without(1..=6)), &[(7, 25), (8, 25), (9, 25), (10, 25)]);
    let all = Known::without(1..=10);
    let nobody =
        pick_endpoint(&snapshot, backend(&snapshot), &Preference::default(), &Excluded::default(), &all, 0);
    assert_eq!(nobody.expect_err("all are out").reason, DenialReason::NoEndpoint);
}

#[test]
fn a_region_takes_over_where_that_is_said() {
    let policy = with(failover(&[("eu", "asia")], &[]));
    let snapshot = snapshot(client(), entries("eu/a/1", policy, spread()));
    near(&shares(&snapshot, &Known::without(1..=6)), &[(9, 50), (10, 50)]);
}

#[test]
fn labels_say_who_is_near() {
    let labelled = |n: u8, rack: &str, version: &str| Workload {
        labels: [("rack", rack), ("version", version)].into_iter().collect(),
        ..web(n, "eu/a/1")
    };
    let endpoints = || {
        [labelled(1, "r1", "v2"), labelled(2, "r1", "v1"), labelled(3, "r2", "v2"), labelled(4, "r2", "v1")]
    };
    let policy = with(failover(&[], &["version=v2", "rack"]));
    let snapshot = snapshot(client(), entries("eu/a/1", policy, endpoints()));
    near(&shares(&snapshot, &Known::default()), &[(1, 100)]);
    near(&shares(&snapshot, &Known::without([1])), &[(3, 100)]);
    // The second label counts only where the first is the same.
    near(&shares(&snapshot, &Known::without([1, 3])), &[(2, 50), (4, 50)]);
}

#[test]
fn nobody_is_preferred_without_outlier_detection_or_when_that_is_switched_off() {
    let off = LocalityPolicy { enabled: false, mode: failover(&[], &[]) };
    for policy in [
        TrafficPolicy::default(),
        TrafficPolicy { outliers: None, ..with(failover(&[], &[])) },
        TrafficPolicy { locality: Some(off), ..watched() },
    ] {
        let snapshot = snapshot(client(), entries("eu/a/1", policy, spread()));
        near(&shares(&snapshot, &Known::default()), &(1..=10).map(|n| (n, 10)).collect::<Vec<_>>());
    }
}

#[test]
fn shares_by_locality() {
    let to = |pairs: &[(&str, u32)]| pairs.iter().map(|(to, share)| (Str::from(*to), *share)).collect();
    let distribute = |traffic: TrafficPolicy| {
        let first = Distribution { from: "us/*".into(), to: to(&[("us/*", 100)]) };
        let ours = Distribution { from: "eu/a/*".into(), to: to(&[("eu/a/*", 70), ("us/a", 30)]) };
        let mode = LocalityMode::Distribute(vec![first, ours]);
        TrafficPolicy { locality: Some(LocalityPolicy { enabled: true, mode }), ..traffic }
    };
    let unwatched = snapshot(client(), entries("eu/a/1", distribute(TrafficPolicy::default()), spread()));
    near(&shares(&unwatched, &Known::default()), &[(1, 18), (2, 17), (3, 18), (4, 17), (7, 15), (8, 15)]);
    // The client is of no locality that is named.
    let elsewhere = snapshot(client(), entries("asia/a", distribute(TrafficPolicy::default()), spread()));
    near(&shares(&elsewhere, &Known::default()), &(1..=10).map(|n| (n, 10)).collect::<Vec<_>>());
    // With half of a locality out, 70 % of its share stay there: 30 * 0.7 of 91.
    let watched = snapshot(client(), entries("eu/a/1", distribute(watched()), spread()));
    near(&shares(&watched, &Known::without([7])), &[(1, 19), (2, 19), (3, 19), (4, 19), (8, 23)]);
}

#[test]
fn a_zone_keeps_what_fits() {
    let zone_aware = |minimum: u64| TrafficPolicy {
        outliers: None,
        ..with(LocalityMode::ZoneAware {
            minimum_cluster_size: minimum,
            regions: Vec::new(),
            priority: Vec::new(),
        })
    };
    // The callers are one service: `here` of them in zone a, `there` in zone b.
    let mesh = |here: u8, there: u8, minimum: u64| {
        let caller = |n: u8, at: &str| Workload {
            locality: place(at),
            ..workload(
                &format!("default/c{n}"),
                &format!("10.3.0.{n}"),
                &[],
                &[("caller.default", "http:80")],
            )
        };
        let endpoints =
            [web(1, "eu/a"), web(2, "eu/a"), web(3, "eu/b"), web(4, "eu/b"), web(5, "eu/b"), web(6, "eu/b")];
        let mut all = entries("eu/a", zone_aware(minimum), endpoints);
        all.retain(|entry| entry.key.name.as_ref() != "client");
        let own = workload("default/client", "10.2.0.1", &[], &[("caller.default", "http:80")]);
        all.push(instance(Workload { locality: place("eu/a"), ..own }));
        all.push(service("caller.default", &["10.0.0.2"], "http:80"));
        all.extend((1..here).map(|n| instance(caller(n, "eu/a"))));
        all.extend((1..=there).map(|n| instance(caller(100 + n, "eu/b"))));
        snapshot(client(), all)
    };
    // A third of the endpoints for a quarter of the callers: all stay. For half of them: two thirds do.
    near(&shares(&mesh(1, 3, 6), &Known::default()), &[(1, 50), (2, 50)]);
    near(&shares(&mesh(2, 2, 6), &Known::default()), &[(1, 33), (2, 33), (3, 8), (4, 8), (5, 8), (6, 8)]);
    near(&shares(&mesh(1, 3, 7), &Known::default()), &(1..=6).map(|n| (n, 17)).collect::<Vec<_>>());
}

#[test]
fn the_client_moves_and_its_neighbours_change() {
    let mut compiler = Compiler::new(client());
    compiler.apply(&delta(entries("eu/a/1", watched(), spread())));
    let moved = Workload { locality: place("us/a/1"), ..workload("default/client", "10.2.0.1", &[], &[]) };
    let snapshot = compiler.apply(&delta([instance(moved)]));
    near(&shares(&snapshot, &Known::default()), &[(7, 50), (8, 50)]);
}

#[test]
fn a_panic_uses_all_where_that_is_asked_for() {
    let outliers = OutlierDetection { min_health_percent: 50, ..OutlierDetection::default() };
    let policy = TrafficPolicy { outliers: Some(outliers), ..TrafficPolicy::default() };
    let snapshot = snapshot(client(), entries("", policy, (1..=4).map(|n| web(n, ""))));
    near(&shares(&snapshot, &Known::without([1, 2])), &[(3, 50), (4, 50)]);
    near(&shares(&snapshot, &Known::without([1, 2, 3])), &[(1, 25), (2, 25), (3, 25), (4, 25)]);
}

#[test]
fn a_retry_may_go_elsewhere() {
    let snapshot = snapshot(client(), entries("eu/a/1", watched(), spread()));
    let mut excluded = Excluded::default();
    excluded.add(address(1));
    excluded.add(address(2));
    for n in 0..100 {
        let preference = Preference { other_localities: true, ..Preference::default() };
        let picked =
            pick_endpoint(&snapshot, backend(&snapshot), &preference, &excluded, &Known::default(), n);
        assert!([3, 4].contains(&number(picked.expect("others are left").endpoint)));
    }
}

#[test]
fn new_endpoints_get_their_share_little_by_little() {
    for algorithm in [BalanceAlgorithm::RoundRobin, BalanceAlgorithm::LeastRequest] {
        let warmup =
            Warmup { duration: Duration::from_secs(100), minimum_permille: 100, aggression_permille: 1000 };
        let balance = Balance { warmup: Some(warmup), ..Balance::from(algorithm) };
        let policy = TrafficPolicy { balance: Some(balance), ..TrafficPolicy::default() };
        let mut compiler = Compiler::new(client());
        compiler.at(Duration::from_secs(10)).apply(&delta(entries("", policy, [web(1, ""), web(2, "")])));
        let snapshot = compiler.at(Duration::from_secs(1000)).apply(&delta([instance(web(3, ""))]));
        let at = |seconds| Known { now: Duration::from_secs(seconds), ..Known::default() };
        // 0.1 and 0.5 of a share beside two whole ones.
        near(&shares(&snapshot, &at(1005)), &[(1, 48), (2, 48), (3, 5)]);
        near(&shares(&snapshot, &at(1050)), &[(1, 40), (2, 40), (3, 20)]);
        near(&shares(&snapshot, &at(1100)), &[(1, 33), (2, 33), (3, 33)]);
        // A change that is not of health or address does not make it new again.
        let labelled = Workload { labels: [("a", "b")].into_iter().collect(), ..web(3, "") };
        let snapshot = compiler.at(Duration::from_secs(2000)).apply(&delta([instance(labelled)]));
        near(&shares(&snapshot, &at(2001)), &[(1, 33), (2, 33), (3, 33)]);
    }
}

fn hashing(key: HashKey, table: HashTable) -> TrafficPolicy {
    let balance = Balance { hash: Some(ConsistentHash { key, table }), ..Balance::default() };
    TrafficPolicy { balance: Some(balance), ..TrafficPolicy::default() }
}

#[test]
fn the_same_hash_goes_to_the_same_endpoint() {
    for table in [HashTable::Ring { minimum_size: 1024 }, HashTable::Maglev { size: 65_537 }] {
        let policy = hashing(HashKey::SourceAddress, table);
        let snapshot = snapshot(client(), entries("", policy, (1..=10).map(|n| web(n, ""))));
        let to = |hash: u64, load: &Known, excluded: &Excluded, die| {
            let preference = Preference { hash: Some(hash), ..Preference::default() };
            let picked = pick_endpoint(&snapshot, backend(&snapshot), &preference, excluded, load, die);
            number(picked.expect("some may be used").endpoint)
        };
        let hashes = (0..2000_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut seen = BTreeMap::new();
        for hash in hashes {
            let chosen = to(hash, &Known::default(), &Excluded::default(), 1);
            *seen.entry(chosen).or_insert(0) += 1;
            let mut tried = Excluded::default();
            tried.add(address(chosen));
            assert_eq!(to(hash, &Known::default(), &tried, 2), chosen, "retries stay, as Istio has it");
            let other = to(hash, &Known::without([chosen]), &Excluded::default(), 3);
            assert!(other != chosen);
        }
        assert!(seen.len() == 10 && seen.values().all(|count| (100..350).contains(count)), "{seen:?}");
        // Without anything to hash: anywhere.
        near(&shares(&snapshot, &Known::default()), &(1..=10).map(|n| (n, 10)).collect::<Vec<_>>());
    }
}

#[test]
fn what_of_a_request_is_hashed() {
    let facts = connection(Direction::Outbound, "10.0.0.1:80");
    let hashed = |key: HashKey, path: &str, headers: &[(&str, &str)]| {
        let headers =
            Map(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
        let request = RequestFacts {
            connection: &facts,
            scheme: "http",
            method: "GET",
            authority: "web",
            path_and_query: path,
            headers: &headers,
            random: 0,
        };
        hash_of(&request, &ConsistentHash { key, table: HashTable::Ring { minimum_size: 1 } })
    };
    let user = || HashKey::Header("x-user".into());
    let plain = |hash: Option<Hashed>| hash.map(|hashed| hashed.hash);
    // The published value of xxHash64 of "a" without seed.
    assert_eq!(plain(hashed(user(), "/", &[("x-user", "a")])), Some(0xd24e_c4f1_a98c_6e5b));
    assert_eq!(hashed(user(), "/", &[]), None);
    let both = plain(hashed(user(), "/", &[("x-user", "a"), ("x-user", "b")]));
    assert_eq!(both, plain(hashed(user(), "/", &[("x-user", "b"), ("x-user", "a")])));
    assert!(both != plain(hashed(user(), "/", &[("x-user", "a")])));
    let parameter = || HashKey::QueryParameter("u r".into());
    assert_eq!(plain(hashed(parameter(), "/?x=1&u%20r=%61&u%20r=2", &[])), Some(0xd24e_c4f1_a98c_6e5b));
    assert_eq!(hashed(parameter(), "/?u=1", &[]), None);
    assert!(hashed(HashKey::SourceAddress, "/", &[]).is_some());
    let cookie = |ttl: Option<u64>| HashKey::Cookie {
        name: "id".into(),
        path: "/shop".into(),
        ttl: ttl.map(Duration::from_secs),
        attributes: vec![("SameSite".into(), "Strict".into()), ("Secure".into(), "".into())],
    };
    for header in ["id=a", "x=1; id=\"a\"; y=2"] {
        let found = hashed(cookie(Some(9)), "/", &[("cookie", header)]).expect("it has one");
        assert_eq!(found, Hashed { hash: 0xd24e_c4f1_a98c_6e5b, set_cookie: None });
    }
    assert_eq!(hashed(cookie(None), "/", &[("cookie", "idx=a; id=")]), None);
    let given = hashed(cookie(Some(9)), "/", &[]).expect("one is given");
    let text = given.set_cookie.expect("with its text");
    let value = text.strip_prefix("id=\"").and_then(|rest| rest.split('"').next()).expect("a value");
    assert_eq!(text, format!("id=\"{value}\"; Max-Age=9; Path=/shop; SameSite=Strict; Secure; HttpOnly"));
    // Whoever brings it back goes to the same place.
    let again = hashed(cookie(Some(9)), "/", &[("cookie", &format!("id={value}"))]);
    assert_eq!(plain(again), Some(given.hash));
    let session =
        hashed(cookie(Some(0)), "/", &[]).and_then(|hashed| hashed.set_cookie).expect("one is given");
    assert!(!session.contains("Max-Age"));
}

#[test]
fn a_session_stays_with_its_endpoint_while_that_may_be_used() {
    let snapshot = snapshot(client(), entries("eu/a/1", watched(), spread()));
    let pick = |endpoint: SocketAddr, load: &Known, excluded: &Excluded, die: u64| {
        let session = Some(Session::new(endpoint, 0, 0).endpoint);
        let preference = Preference { session, ..Preference::default() };
        let picked = pick_endpoint(&snapshot, backend(&snapshot), &preference, excluded, load, die);
        number(picked.expect("some may be used").endpoint)
    };
    let mut tried = Excluded::default();
    tried.add(address(9));
    for die in 0..50 {
        assert_eq!(pick(address(9), &Known::default(), &Excluded::default(), die), 9);
        assert!(pick(address(9), &Known::without([9]), &Excluded::default(), die) != 9);
        assert!(pick(address(9), &Known::default(), &tried, die) != 9);
        // Whatever is asked for, it is an endpoint of the group.
        assert!([1, 2].contains(&pick(
            "1.2.3.4:22".parse().expect("one"),
            &Known::default(),
            &Excluded::default(),
            die
        )));
    }
}

#[test]
fn an_explanation_tells_of_priorities_hash_and_warm_up() {
    let traffic = TrafficPolicy {
        outliers: Some(OutlierDetection::default()),
        ..hashing(HashKey::Header("x-user".into()), HashTable::Ring { minimum_size: 64 })
    };
    let snapshot = snapshot(client(), entries("eu/a/1", traffic, spread()));
    let facts = connection(Direction::Outbound, "10.0.0.1:80");
    let headers = Map(vec![("x-user".into(), "a".into())]);
    let request = RequestFacts {
        connection: &facts,
        scheme: "http",
        method: "GET",
        authority: "web",
        path_and_query: "/",
        headers: &headers,
        random: 0,
    };
    let text = explain(&snapshot, &facts, Some(&request), 0).to_string();
    for part in [
        "chosen by hash of header x-user (d24ec4f1a98c6e5b) in a ring of 64",
        "seen from eu/a/1",
        "priority 0: the same sub-zone (2 endpoints)",
        "priority 3: another region (4 endpoints)",
        "(priority 1: only when those before it fail)",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is configured: nobody who is ejected or tried is chosen while another may be used.
    #[test]
    fn nobody_is_chosen_who_may_not_be_used(
        places in prop::collection::vec((0usize..4, 0u32..4), 1..12),
        out in prop::collection::vec(1u8..12, 0..12),
        tried in prop::collection::vec(1u8..12, 0..4),
        algorithm in 0usize..3, mode in 0usize..4, elsewhere in any::<bool>(), session in any::<Option<u64>>(), die in any::<u64>(),
    ) {
        let localities = ["eu/a/1", "eu/b/1", "us/a/1", ""];
        let all = [BalanceAlgorithm::RoundRobin, BalanceAlgorithm::Random, BalanceAlgorithm::LeastRequest];
        let mode = match mode {
            0 => failover(&[("eu", "us")], &[]),
            1 => failover(&[("eu", "asia")], &["rack"]),
            2 => LocalityMode::Distribute(vec![Distribution { from: "*".into(), to: vec![("*".into(), 100)] }]),
            _ => LocalityMode::ZoneAware { minimum_cluster_size: 1, regions: Vec::new(), priority: Vec::new() },
        };
        let policy = TrafficPolicy { balance: Some(all[algorithm].into()), ..with(mode) };
        let endpoints = (1..).zip(&places).map(|(n, (at, weight))| Workload { weight: *weight, ..web(n, localities[*at]) });
        let snapshot = snapshot(client(), entries("eu/a/1", policy, endpoints));
        let load = Known::without(out.iter().copied());
        let mut excluded = Excluded::default();
        tried.iter().for_each(|n| excluded.add(address(*n)));
        let preference = Preference { session, other_localities: elsewhere, hash: None };
        let ready = || (1u8..).zip(&places).filter(|(_, (_, weight))| *weight > 0).map(|(n, _)| n);
        let usable: Vec<u8> = ready().filter(|n| !out.contains(n) && !tried.contains(n)).collect();
        match pick_endpoint(&snapshot, backend(&snapshot), &preference, &excluded, &load, die) {
            Ok(picked) => prop_assert!(usable.contains(&number(picked.endpoint))),
            Err(denial) => {
                prop_assert!(usable.is_empty());
                let all_out = ready().all(|n| out.contains(&n));
                prop_assert_eq!(denial.reason, if all_out { DenialReason::NoEndpoint } else { DenialReason::AllTried });
            }
        }
    }
}
