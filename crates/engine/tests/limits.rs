//! Which limits hold for a request, and what tells their buckets apart.

mod mesh;

use lateen_engine::{ConnectionFacts, Direction, RequestDecision, RequestFacts, Snapshot};
use lateen_model::*;
use mesh::*;
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;

fn limit_rule(name: &str, matching: &str, key: Vec<Descriptor>) -> LimitRule {
    let per = Duration::from_secs(1);
    LimitRule { name: name.into(), matches: matches(matching), key, requests: 10, per, burst: 10 }
}

fn rate(name: &str, target: Target) -> Arc<Entry> {
    let rules = vec![limit_rule("r", "", Vec::new())];
    policy(Origin::RateLimitPolicy, name, target, PolicyKind::RateLimit(RateLimit { rules }))
}

fn at_gateway() -> ConnectionFacts {
    connection(Direction::Gateway, "10.2.0.1:80")
}

fn inbound() -> ConnectionFacts {
    connection(Direction::Inbound, "10.1.0.1:8080")
}

/// The policies whose limits hold for a request.
fn holding(snapshot: &Snapshot, facts: &ConnectionFacts, request: &str) -> String {
    let RequestDecision::Forward(forward) = ask(snapshot, facts, request, 0) else {
        panic!("{request} is denied")
    };
    let limits = snapshot.limits(facts, &forward.effective);
    limits.iter().map(|limit| limit.policy.name.to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn at_a_gateway() {
    let gw = || vec![of_gateway(Origin::Gateway, "default/gw")];
    let to = |name: &str| rule(name, "", "web.default:80");
    let entries = vec![
        service("web.default", &["10.0.0.1"], "http:80"),
        instance(workload("default/web", "10.1.0.1", &[], &[("web.default", "http:80->8080")])),
        instance(workload("default/edge", "10.2.0.1", &[("gateway", "yes")], &[])),
        gateway(Origin::Gateway, "default/gw", "http:80"),
        gateway(Origin::Gateway, "default/gw2", "http:81"),
        route(http_route("default/a", gw(), "a.com", vec![to("r")])),
        route(http_route("default/b", gw(), "b.com", vec![to("r")])),
        rate("default/gateway", Target::Gateway(key(Origin::Gateway, "default/gw"))),
        rate("default/gateway2", Target::Gateway(key(Origin::Gateway, "default/gw2"))),
        rate("default/other", Target::Gateway(key(Origin::Gateway, "default/nobody"))),
        rate("default/route", Target::Route(key(Origin::HttpRoute, "default/a"))),
        rate("default/service", Target::Service(service_id("web.default"))),
        rate("other/namespace", Target::Namespace(namespace("other"))),
        rate("istio-system/mesh", Target::Mesh),
    ];
    let edge = viewer("default/edge", ProxyRole::Gateway, &[("gateway", "yes")]);
    let snapshot = snapshot(edge, entries);
    assert_eq!(holding(&snapshot, &at_gateway(), "GET a.com/"), "mesh gateway route");
    assert_eq!(holding(&snapshot, &at_gateway(), "GET b.com/"), "mesh gateway");
}

#[test]
fn at_the_workload() {
    let web = Workload {
        policies: vec![
            key(Origin::RateLimitPolicy, "default/mine"),
            key(Origin::RateLimitPolicy, "default/not-there-yet"),
        ],
        ..workload("default/web", "10.1.0.1", &[], &[("web.default", "http:80->8080")])
    };
    let sizes = RequestLimit { request_body: Some(5), ..RequestLimit::default() };
    let entries = vec![
        service("web.default", &["10.0.0.1"], "http:80"),
        instance(web),
        rate("default/mine", Target::Selected),
        rate("default/theirs", Target::Selected),
        rate("default/service", Target::Service(service_id("web.default"))),
        rate("default/other", Target::Service(service_id("other.default"))),
        policy(
            Origin::RequestLimitPolicy,
            "default/size",
            Target::Namespace(namespace("default")),
            PolicyKind::RequestLimit(sizes),
        ),
    ];
    let viewer = || viewer("default/web", ProxyRole::Sidecar, &[]);
    let snapshot = snapshot(viewer(), entries.clone());
    // A limit that is listed but not there denies nothing.
    assert_eq!(holding(&snapshot, &inbound(), "GET web/"), "mine size service");
    let outbound = connection(Direction::Outbound, "10.0.0.1:80");
    assert_eq!(holding(&snapshot, &outbound, "GET web/"), "");
    // Change by change it is the same.
    let mut compiler = lateen_engine::Compiler::new(viewer());
    let mut last = compiler.apply(&Delta::default());
    for entry in entries.iter().rev() {
        last = compiler.apply(&delta([Arc::clone(entry)]));
    }
    assert_eq!(format!("{last:?}"), format!("{snapshot:?}"));
    let limits = entries.iter().filter(|entry| matches!(entry.resource, Resource::Policy(_)));
    let removed = limits.map(|entry| entry.key.clone()).collect();
    assert!(!compiler.apply(&Delta { set: Vec::new(), removed }).has_limits());
}

#[test]
fn buckets_are_told_apart() {
    let key =
        vec![Descriptor::Header("x-user".into()), Descriptor::Header("x-team".into()), Descriptor::Host];
    let rule = lateen_engine::RateRule {
        policy: mesh::key(Origin::RateLimitPolicy, "default/x"),
        rule: limit_rule("r", "/api* method=GET | h:x-all=yes", key),
    };
    let with = |method: &str, path: &str, authority: &str, headers: &[(&str, &str)]| {
        let facts = inbound();
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let request = RequestFacts {
            connection: &facts,
            scheme: "http",
            method,
            authority,
            path_and_query: path,
            headers: &Map(headers.collect()),
            random: 0,
        };
        let mut hasher = DefaultHasher::new();
        rule.hash_key(&request, &mut hasher);
        (rule.matches(&request), hasher.finish())
    };
    let base = with("GET", "/api/x", "web:80", &[("x-user", "ab"), ("x-team", "c")]);
    assert!(base.0);
    assert!(!with("POST", "/api/x", "web", &[]).0);
    assert!(with("POST", "/", "web", &[("x-all", "yes")]).0);
    assert_eq!(with("GET", "/api/y", "WEB", &[("x-user", "ab"), ("x-team", "c")]), base);
    assert_ne!(with("GET", "/api/x", "web", &[("x-user", "a"), ("x-team", "bc")]).1, base.1);
    assert_ne!(with("GET", "/api/x", "web2", &[("x-user", "ab"), ("x-team", "c")]).1, base.1);
    assert_ne!(with("GET", "/api/x", "web", &[("x-user", "ab")]).1, base.1);
}
