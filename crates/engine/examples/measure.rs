//! What decisions and compiling cost at ten thousand of everything:
//! `cargo run --release -p lateen-engine --example measure`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement stops when something is wrong")]

#[path = "../tests/mesh/mod.rs"]
mod mesh;

use lateen_engine::*;
use lateen_model::*;
use mesh::*;
use std::hint::black_box;
use std::sync::Arc;

const MANY: usize = 10_000;

fn main() {
    requests_through_ten_thousand_routes();
    requests_to_a_service();
    endpoints();
    compiling();
}

/// Prints the processor time of one run of the closure, the best of five rounds. Waiting for a processor
/// that others use does not count.
fn time(what: &str, rounds: usize, mut run: impl FnMut(u64)) {
    let mut best = u64::MAX;
    for _ in 0..5 {
        let start = processor_time();
        (0..rounds as u64).for_each(&mut run);
        best = best.min((processor_time() - start) / rounds as u64);
    }
    println!("{what:<76} {best:>10} ns");
}

/// Nanoseconds that this thread has run for.
fn processor_time() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

fn request<'a>(
    connection: &'a ConnectionFacts,
    authority: &'a str,
    path: &'a str,
    headers: &'a Map,
) -> RequestFacts<'a> {
    RequestFacts {
        connection,
        scheme: "http",
        method: "GET",
        authority,
        path_and_query: path,
        headers,
        random: 0,
    }
}

fn ten_thousand_routes(kind: &str) -> Arc<Snapshot> {
    let rules = (0..MANY).map(|n| {
        let matching = match kind {
            "exact" => format!("/shop/{n}/item"),
            "segments" => format!("/shop/{n}/**"),
            _ => format!("/shop/{n}/*"),
        };
        rule(&n.to_string(), &matching, "a.default:80")
    });
    let routes: Vec<_> = match kind {
        // One route object each, as teams write them.
        "segments" | "exact" => rules
            .map(|rule| {
                let name = format!("default/r{}", rule.name);
                route(http_route(
                    &name,
                    vec![of_gateway(Origin::Gateway, "default/gw")],
                    "shop.com",
                    vec![rule],
                ))
            })
            .collect(),
        _ => {
            let parents = vec![of_gateway(Origin::Gateway, "default/gw")];
            vec![route(Route { parents, ..virtual_service("default/big", "shop.com", rules.collect()) })]
        }
    };
    let rest = [
        gateway(Origin::Gateway, "default/gw", "http:80"),
        service("a.default", &["10.0.0.1"], "http:80"),
        instance(workload("default/gw", "10.2.0.1", &[], &[])),
    ];
    snapshot(viewer("default/gw", ProxyRole::Gateway, &[("gateway", "yes")]), routes.into_iter().chain(rest))
}

fn requests_through_ten_thousand_routes() {
    let facts = connection(Direction::Gateway, "10.2.0.1:80");
    let headers = Map(Vec::new());
    for kind in ["exact", "segments", "prefix, listed"] {
        let snapshot = ten_thousand_routes(kind);
        let paths: Vec<_> = (0..MANY).map(|n| format!("/shop/{}/item", (n * 7919) % MANY)).collect();
        time(&format!("decide_request, gateway with 10,000 routes ({kind})"), 200_000, |n| {
            let facts = request(&facts, "shop.com", &paths[n as usize % MANY], &headers);
            let RequestDecision::Forward(forward) = decide_request(&snapshot, &facts) else { panic!() };
            black_box(forward);
        });
    }
}

fn big_mesh() -> Vec<Arc<Entry>> {
    let mut entries = Vec::new();
    for n in 0..MANY {
        let name = format!("s{n}.ns{}", n % 100);
        let ip = format!("10.{}.{}.{}", 64 + n / 65536, n / 256 % 256, n % 256);
        entries.push(service(&name, &[&ip], "http:80 tcp:90"));
        let ip = format!("10.{}.{}.{}", 128 + n / 65536, n / 256 % 256, n % 256);
        entries.push(instance(workload(
            &format!("ns{}/w{n}", n % 100),
            &ip,
            &[("v", "1")],
            &[(&name, "http:80->8080 tcp:90")],
        )));
    }
    for n in 0..1000 {
        let host = format!("s{n}.ns{}.svc.cluster.local", n % 100);
        let backends = format!("s{n}.ns{}:80*9 s{}.ns{}:80*1", n % 100, n + 1, (n + 1) % 100);
        let rules = vec![rule("jason", "/api/* h:end-user=jason", &backends), rule("rest", "", &backends)];
        entries.push(route(virtual_service(&format!("ns{}/v{n}", n % 100), &host, rules)));
    }
    entries
}

fn requests_to_a_service() {
    let snapshot = snapshot(viewer("ns0/w0", ProxyRole::Sidecar, &[]), big_mesh());
    let facts = connection(Direction::Outbound, "10.64.0.10:80");
    let headers = Map(vec![("end-user".into(), "jason".into())]);
    let names: Vec<_> = (0..1000).map(|n| format!("s{n}.ns{}:80", n % 100)).collect();
    time("decide_connection, 10,000 services", 1_000_000, |_| {
        black_box(decide_connection(&snapshot, black_box(&facts)));
    });
    for (what, turns) in [("one service", 1), ("1,000 services in turn", 1000)] {
        time(&format!("decide_request, a route with a header and weights, {what}"), 500_000, |n| {
            let name = &names[n as usize % turns];
            let facts = RequestFacts { random: n << 40, ..request(&facts, name, "/api/x", &headers) };
            black_box(decide_request(&snapshot, &facts));
        });
    }
    let plain: Vec<_> = (2000..3000).map(|n| format!("s{n}.ns{}.svc.cluster.local", n % 100)).collect();
    time("decide_request, 10,000 services, no route", 500_000, |n| {
        black_box(decide_request(&snapshot, &request(&facts, &plain[n as usize % 1000], "/", &headers)));
    });
    let own = connection(Direction::Inbound, "10.128.0.0:8080");
    let own = ConnectionFacts { peer: Some(Arc::new(identity("a", "b"))), ..own };
    time("decide_request, inbound, no policy", 1_000_000, |_| {
        black_box(decide_request(&snapshot, &request(&own, "x", "/", &headers)));
    });
}

fn endpoints() {
    for (balance, weighted) in [
        (BalanceAlgorithm::LeastRequest, false),
        (BalanceAlgorithm::LeastRequest, true),
        (BalanceAlgorithm::RoundRobin, false),
        (BalanceAlgorithm::RoundRobin, true),
        (BalanceAlgorithm::Random, false),
    ] {
        let workloads = (0..MANY).map(|n| {
            let ip = format!("10.1.{}.{}", n / 256, n % 256);
            let one = workload(&format!("default/w{n}"), &ip, &[], &[("a.default", "http:80")]);
            instance(Workload { weight: if weighted { 1 + n as u32 % 7 } else { 1 }, ..one })
        });
        let rest = [
            service("a.default", &["10.0.0.1"], "http:80"),
            destination_rule("default/a", "a.default.svc.cluster.local", Some(balance), ""),
        ];
        let mut compiler = Compiler::new(viewer("default/c", ProxyRole::Sidecar, &[]));
        let snapshot = compiler.apply(&delta(workloads.chain(rest)));
        let facts = connection(Direction::Outbound, "10.0.0.1:80");
        let headers = Map(Vec::new());
        let RequestDecision::Forward(forward) =
            decide_request(&snapshot, &request(&facts, "a", "/", &headers))
        else {
            panic!()
        };
        let Destination::Backend(backend) = forward.to else { panic!() };
        let (excluded, load) = (Excluded::default(), Idle::default());
        let weights = if weighted { "weights" } else { "all alike" };
        time(&format!("pick_endpoint, 10,000 endpoints, {balance:?}, {weights}"), 1_000_000, |n| {
            black_box(
                pick_endpoint(&snapshot, backend, &Preference::default(), &excluded, &load, n).unwrap(),
            );
        });
        if balance == BalanceAlgorithm::Random {
            let flip = |n: u64| {
                let one = workload("default/w77", "10.1.0.77", &[], &[("a.default", "http:80")]);
                delta([instance(Workload { weight: 1 + (n % 2) as u32, ..one })])
            };
            time("apply: one of 10,000 endpoints of one service changed", 200, |n| {
                black_box(compiler.apply(&flip(n)));
            });
        }
    }
}

fn compiling() {
    let entries = big_mesh();
    let start = processor_time();
    let mut compiler = Compiler::new(viewer("ns0/w0", ProxyRole::Sidecar, &[]));
    let snapshot = compiler.apply(&delta(entries));
    let what = "apply: 10,000 services, 10,000 workloads, 1,000 routes at once";
    println!("{what:<76} {:>10} ns", processor_time() - start);
    black_box(snapshot);
    let health = [Health::Healthy, Health::Unhealthy];
    let flips: Vec<_> = (0..2)
        .map(|n| {
            let one = workload("ns7/w7", "10.128.0.7", &[("v", "1")], &[("s7.ns7", "http:80->8080 tcp:90")]);
            delta([instance(Workload { health: health[n], ..one })])
        })
        .collect();
    time("apply: one of 10,000 workloads changed", 500, |n| {
        black_box(compiler.apply(&flips[n as usize % 2]));
    });
    let weights: Vec<_> = (1..3)
        .map(|weight| {
            let rules = vec![rule("r", "", &format!("s7.ns7:80*{weight} s8.ns8:80*9"))];
            delta([route(virtual_service("ns7/v7", "s7.ns7.svc.cluster.local", rules))])
        })
        .collect();
    time("apply: one of 1,000 routes changed", 500, |n| {
        black_box(compiler.apply(&weights[n as usize % 2]));
    });
    let services: Vec<_> = ["http:80 tcp:90", "http:80 http:90"]
        .map(|ports| delta([service("s7.ns7", &["10.64.0.7"], ports)]))
        .into();
    time("apply: one of 10,000 services changed", 500, |n| {
        black_box(compiler.apply(&services[n as usize % 2]));
    });
    one_route_of_ten_thousand();
}

fn one_route_of_ten_thousand() {
    let viewer = viewer("default/gw", ProxyRole::Gateway, &[("gateway", "yes")]);
    let one = |n: usize, host: &str, weight: u32| {
        let rules = vec![rule("r", &format!("/shop/{n}/**"), &format!("a.default:80*{weight}"))];
        let parents = vec![of_gateway(Origin::Gateway, "default/gw")];
        route(http_route(&format!("default/r{n}"), parents, host, rules))
    };
    for (what, host) in
        [("one host", |_| "shop.com".to_owned()), ("a host each", |n: usize| format!("h{n}.com"))]
            as [(&str, fn(usize) -> String); 2]
    {
        let mut compiler = Compiler::new(viewer.clone());
        let rest = [
            gateway(Origin::Gateway, "default/gw", "http:80"),
            service("a.default", &["10.0.0.1"], "http:80"),
        ];
        compiler.apply(&delta((0..MANY).map(|n| one(n, &host(n), 1)).chain(rest)));
        let flips: Vec<_> = (1..3).map(|weight| delta([one(77, &host(77), weight)])).collect();
        time(&format!("apply: one of 10,000 routes of a gateway changed, {what}"), 2_000, |n| {
            black_box(compiler.apply(&flips[n as usize % 2]));
        });
    }
}
