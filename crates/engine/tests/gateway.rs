//! Requests that enter at a gateway.

mod mesh;

use lateen_engine::{Compiler, Direction, RequestDecision, Snapshot, decide_connection};
use lateen_model::*;
use mesh::*;
use std::sync::Arc;

fn edge() -> Viewer {
    viewer("default/edge", ProxyRole::Gateway, &[("gateway", "yes")])
}

fn base() -> Vec<Arc<Entry>> {
    vec![
        service("web.default", &["10.0.0.1"], "http:80"),
        instance(workload("default/web", "10.1.0.1", &[], &[("web.default", "http:80->8080")])),
        instance(workload("default/edge", "10.2.0.1", &[("gateway", "yes")], &[])),
    ]
}

fn to_web(name: &str, matching: &str) -> Rule {
    rule(name, matching, "web.default:80")
}

#[track_caller]
fn check(more: Vec<Arc<Entry>>, table: &[(u16, &str, &str)]) -> Arc<Snapshot> {
    let snapshot = snapshot(edge(), base().into_iter().chain(more));
    for (port, request, expected) in table {
        let facts = connection(Direction::Gateway, &format!("10.2.0.1:{port}"));
        assert_eq!(line(&snapshot, ask(&snapshot, &facts, request, 0)), *expected, "{port} {request}");
    }
    snapshot
}

const OK: &str = " -> 10.1.0.1:8080";

#[test]
fn routes_meet_listeners_by_host() {
    let gw = || vec![of_gateway(Origin::Gateway, "default/gw")];
    let snapshot = check(
        vec![
            gateway(Origin::Gateway, "default/gw", "http:80:*.shop.com https:443:a.shop.com http:81 tcp:9"),
            route(http_route("default/a", gw(), "a.shop.com", vec![to_web("r", "/a/**")])),
            route(http_route("default/any", gw(), "", vec![to_web("r", "")])),
            route(http_route("default/far", gw(), "other.org", vec![to_web("r", "")])),
        ],
        &[
            (80, "GET A.shop.com:8080/a", &format!("a.r{OK}")),
            (80, "GET a.shop.com/b", "404 route_not_found"),
            (80, "GET b.shop.com/b", &format!("any.r{OK}")),
            (80, "GET other.org/", "404 route_not_found"),
            (443, "GET a.shop.com/a", &format!("a.r{OK}")),
            (443, "GET b.shop.com/a", "404 route_not_found"),
            (81, "GET other.org/", &format!("far.r{OK}")),
            (81, "GET nobody.org/", &format!("any.r{OK}")),
            (81, "GET /", &format!("any.r{OK}")),
            (82, "GET /", "404 route_not_found"),
        ],
    );
    for (port, expected) in
        [(80, "serve http"), (443, "serve http"), (9, "deny route_not_found"), (7, "deny route_not_found")]
    {
        let facts = connection(Direction::Gateway, &format!("10.2.0.1:{port}"));
        assert_eq!(connection_line(&snapshot, &decide_connection(&snapshot, &facts)), expected, "{port}");
    }
    assert_eq!(snapshot.listeners().map(|(_, listener)| listener.port).collect::<Vec<_>>(), [80, 443, 81, 9]);
}

#[test]
fn listeners_of_the_gateway_api_are_isolated_and_those_of_istio_are_not() {
    for (origin, expected) in
        [(Origin::Gateway, "404 route_not_found"), (Origin::IstioGateway, "r.r -> 10.1.0.1:8080")]
    {
        let gateway = gateway(origin, "default/gw", "http:80:*.shop.com http:80:*");
        let parent = Parent::Gateway {
            gateway: key(origin, "default/gw"),
            listener: Some("http:80:*".into()),
            port: None,
        };
        let route = route(http_route("default/r", vec![parent], "a.shop.com", vec![to_web("r", "")]));
        check(vec![gateway, route], &[(80, "GET a.shop.com/", expected)]);
    }
}

#[test]
fn several_virtual_services_of_a_host_are_merged_the_oldest_first() {
    let gw = || vec![of_gateway(Origin::IstioGateway, "default/gw")];
    let of = |name: &str, created: u64, rules: Vec<Rule>| {
        let created = Created::at(created);
        route(Route { parents: gw(), created, ..virtual_service(name, "a.com", rules) })
    };
    check(
        vec![
            gateway(Origin::IstioGateway, "default/gw", "http:80"),
            of("default/young", 2, vec![to_web("x", "/x*"), to_web("y", "/y*")]),
            of("default/old", 1, vec![to_web("x", "/x*")]),
        ],
        &[
            (80, "GET a.com/x", &format!("old.x{OK}")),
            (80, "GET a.com/y", &format!("young.y{OK}")),
            (80, "GET a.com/z", "404 route_not_found"),
        ],
    );
}

#[test]
fn policies_hold_at_gateways_too() {
    let gw = || vec![of_gateway(Origin::Gateway, "default/gw")];
    let only = |path: &str| {
        let paths = vec![StringMatch::from_policy_value(path)];
        vec![AuthorizationRule {
            to: vec![Operation { paths, ..Operation::default() }],
            ..AuthorizationRule::default()
        }]
    };
    let target = Target::Gateway(key(Origin::Gateway, "default/gw"));
    let elsewhere = Target::Gateway(key(Origin::Gateway, "default/other"));
    check(
        vec![
            gateway(Origin::Gateway, "default/gw", "http:80"),
            route(http_route("default/r", gw(), "", vec![to_web("r", "")])),
            authorization("default/admin", target, Action::Deny, only("/admin*")),
            authorization("default/all", elsewhere, Action::Deny, only("*")),
            authorization("istio-system/odd", Target::Mesh, Action::Deny, only("/odd")),
        ],
        &[
            (80, "GET a.com/", &format!("r.r{OK}")),
            (
                80,
                "GET a.com/admin/x",
                "403 rbac_access_denied_matched_policy[ns[default]-policy[admin]-rule[0]]",
            ),
            (
                80,
                "GET a.com/odd",
                "403 rbac_access_denied_matched_policy[ns[istio-system]-policy[odd]-rule[0]]",
            ),
        ],
    );
}

/// The settings of a rule are made when it is compiled: the same ones are the same rule.
#[test]
fn a_changed_route_leaves_the_rules_of_others_as_they_were() {
    let gw = || vec![of_gateway(Origin::Gateway, "default/gw")];
    let one = |name: &str, matching: &str| {
        route(http_route(&format!("default/{name}"), gw(), "shop.com", vec![to_web(name, matching)]))
    };
    let rest = [gateway(Origin::Gateway, "default/gw", "http:80"), one("a", "/a/**"), one("b", "/b/**")];
    let mut compiler = Compiler::new(edge());
    let before = compiler.apply(&delta(base().into_iter().chain(rest)));
    let after = compiler.apply(&delta([one("a", "/c/**")]));
    let facts = connection(Direction::Gateway, "10.2.0.1:80");
    let effective = |snapshot: &Snapshot| match ask(snapshot, &facts, "GET shop.com/b", 0) {
        RequestDecision::Forward(forward) => forward.effective,
        other => panic!("{other:?}"),
    };
    assert!(Arc::ptr_eq(&effective(&before), &effective(&after)));
    let at = |snapshot: &Snapshot, request| line(snapshot, ask(snapshot, &facts, request, 0));
    assert_eq!(at(&before, "GET shop.com/a"), format!("a.a{OK}"));
    assert_eq!(at(&before, "GET shop.com/c"), "404 route_not_found");
    assert_eq!(at(&after, "GET shop.com/a"), "404 route_not_found");
    assert_eq!(at(&after, "GET shop.com/c"), format!("a.a{OK}"));
}

#[test]
fn a_request_for_a_host_of_another_listener_than_its_tls_was_made_for_is_misdirected() {
    let gw = || vec![of_gateway(Origin::IstioGateway, "default/gw")];
    let snapshot = check(
        vec![
            gateway(
                Origin::IstioGateway,
                "default/gw",
                "https:443:a.com https:443:b.com https:443:*.c.com https:443:*",
            ),
            route(http_route("default/r", gw(), "", vec![to_web("r", "")])),
        ],
        &[],
    );
    let served = format!("r.r{OK}");
    let misdirected = "421 misdirected_request".to_owned();
    for (server_name, host, expected) in [
        (Some("a.com"), "a.com", &served),
        (Some("A.com."), "a.COM:443", &served),
        (Some("a.com"), "b.com", &misdirected),
        (Some("x.c.com"), "y.c.com", &served),
        (Some("x.c.com"), "c.com", &misdirected),
        (Some("x.org"), "y.org", &served),
        (Some("x.org"), "a.com", &misdirected),
        (None, "x.org", &served),
        (None, "a.com", &misdirected),
        (None, "x.c.com", &misdirected),
    ] {
        let mut facts = connection(Direction::Gateway, "10.2.0.1:443");
        (facts.tls, facts.sni) = (true, server_name.map(Into::into));
        let decided = ask(&snapshot, &facts, &format!("GET {host}/"), 0);
        assert_eq!(line(&snapshot, decided), *expected, "{server_name:?} {host}");
    }
}
