//! What an application's own calls come to: names, addresses, routes.

mod mesh;

use lateen_engine::{Direction, decide_connection};
use lateen_model::*;
use mesh::*;
use std::sync::Arc;

fn shop() -> Vec<Arc<Entry>> {
    let reviews = |name: &str, ip: &str, version: &str| {
        let labels = [("app", "reviews"), ("version", version)];
        instance(workload(name, ip, &labels, &[("reviews.default", "http:9080->8080")]))
    };
    vec![
        service("reviews.default", &["10.0.0.1"], "http:9080"),
        service("ratings.other", &["10.0.0.2"], "http:80 tcp:90 detect:100"),
        service("cart.default", &[], "http:70 tcp:71"),
        reviews("default/reviews-v1", "10.1.0.1", "v1"),
        reviews("default/reviews-v2", "10.1.0.2", "v2"),
        instance(workload(
            "other/ratings",
            "10.1.0.3",
            &[],
            &[("ratings.other", "http:80 tcp:90 detect:100")],
        )),
        instance(workload("default/cart-0", "10.1.0.4", &[], &[("cart.default", "http:70 tcp:71")])),
        destination_rule(
            "default/reviews",
            "reviews.default.svc.cluster.local",
            None,
            "v1:version=v1 v2:version=v2 v9:version=v9",
        ),
    ]
}

fn client() -> Viewer {
    viewer("default/client", ProxyRole::Sidecar, &[("app", "client")])
}

#[track_caller]
fn check_connections(entries: &[Arc<Entry>], table: &[(&str, &str)]) {
    let snapshot = snapshot(client(), entries.iter().cloned());
    for (destination, expected) in table {
        let decision = decide_connection(&snapshot, &connection(Direction::Outbound, destination));
        assert_eq!(connection_line(&snapshot, &decision), *expected, "{destination}");
    }
}

#[track_caller]
fn check_requests(entries: &[Arc<Entry>], table: &[(&str, &str, &str)]) {
    let snapshot = snapshot(client(), entries.iter().cloned());
    for (destination, request, expected) in table {
        let facts = connection(Direction::Outbound, destination);
        assert_eq!(line(&snapshot, ask(&snapshot, &facts, request, 0)), *expected, "{destination} {request}");
    }
}

#[test]
fn a_connection_is_decided_by_its_address() {
    check_connections(
        &shop(),
        &[
            ("10.0.0.1:9080", "serve http"),
            ("[::ffff:10.0.0.1]:9080", "serve http"),
            ("10.0.0.2:90", "default -> 10.1.0.3:90"),
            ("10.0.0.2:100", "detect, else default -> 10.1.0.3:100"),
            // No such port, or nobody: as it is. Where HTTP is spoken on the number, its host may say more.
            ("10.0.0.1:1", "Passthrough -> as is 10.0.0.1:1"),
            ("9.9.9.9:443", "Passthrough -> as is 9.9.9.9:443"),
            ("9.9.9.9:80", "detect, else Passthrough -> as is 9.9.9.9:80"),
            // The address of a workload, and of an endpoint of a headless service.
            ("10.1.0.1:8080", "Passthrough -> as is 10.1.0.1:8080"),
            ("10.1.0.4:71", "default -> as is 10.1.0.4:71"),
            ("10.1.0.4:70", "serve http"),
        ],
    );
}

#[test]
fn a_request_is_decided_by_its_host_and_else_by_its_address() {
    let both = "default -> 10.1.0.1:8080 10.1.0.2:8080";
    check_requests(
        &shop(),
        &[
            ("10.0.0.1:9080", "GET reviews/", both),
            ("10.0.0.1:9080", "GET Reviews:9080/", both),
            ("10.0.0.1:9080", "GET reviews.default/", both),
            ("10.0.0.1:9080", "GET reviews.default.svc:9080/", both),
            ("10.0.0.1:9080", "GET reviews.default.svc.cluster.local./", both),
            ("10.0.0.1:9080", "GET nonsense/", both),
            ("10.0.0.1:9080", "GET 10.0.0.1:9080/", both),
            ("9.9.9.9:9080", "GET reviews/", both),
            ("9.9.9.9:3128", "GET reviews:9080/", both),
            ("10.0.0.2:80", "GET ratings.other/", "default -> 10.1.0.3:80"),
            // `ratings` alone is a name of another namespace.
            ("9.9.9.9:80", "GET ratings/", "Passthrough -> as is 9.9.9.9:80"),
            ("10.1.0.4:70", "GET cart/", "default -> as is 10.1.0.4:70"),
            ("10.1.0.4:70", "GET x/", "default -> as is 10.1.0.4:70"),
            ("9.9.9.9:70", "GET cart/", "default -> 10.1.0.4:70"),
        ],
    );
}

#[test]
fn a_mesh_that_passes_nothing_undeclared() {
    let mesh = MeshSettings { outbound: OutboundPolicy::RegistryOnly, ..MeshSettings::default() };
    let mut entries = shop();
    entries.push(entry(mesh_key(&mesh.root_namespace), Resource::Mesh(mesh)));
    check_connections(
        &entries,
        &[
            ("9.9.9.9:443", "deny destination_not_declared"),
            ("9.9.9.9:80", "detect, else deny destination_not_declared"),
            ("10.0.0.1:1", "deny destination_not_declared"),
        ],
    );
    check_requests(
        &entries,
        &[
            ("9.9.9.9:80", "GET example.com/", "502 destination_not_declared"),
            ("9.9.9.9:80", "GET ratings.other/", "default -> 10.1.0.3:80"),
        ],
    );
}

const REVIEWS: &str = "reviews.default.svc.cluster.local";

#[track_caller]
fn check_reviews(routes: Vec<Route>, table: &[(&str, &str)]) {
    let mut entries = shop();
    entries.extend(routes.into_iter().map(route));
    let table: Vec<_> = table.iter().map(|(request, line)| ("10.0.0.1:9080", *request, *line)).collect();
    check_requests(&entries, &table);
}

#[test]
fn listed_rules_are_asked_in_order() {
    let rules = vec![
        rule("jason", "h:end-user=jason", "reviews.default:9080/v2"),
        rule("api", "/api* method=POST | /v2/** q:beta=yes", "reviews.default:9080/v1"),
        rule("regex", "~/item/[0-9]+ -h:x-no=*", "reviews.default:9080/v2"),
        rule("exact", "/api", "ratings.other:80"),
        rule("gone", "/gone", "418"),
        rule("subset", "/subset", "reviews.default:9080/v7"),
        rule("nobody", "/nobody", "nobody.default:80"),
        rule("port", "/port", "reviews.default:1"),
        rule("asleep", "/asleep", "reviews.default:9080*0 ratings.other:80*0"),
        rule("empty", "/empty", ""),
        rule("unready", "/unready", "reviews.default:9080/v9"),
    ];
    check_reviews(
        vec![virtual_service("default/reviews", REVIEWS, rules)],
        &[
            ("GET reviews/anything h:end-user=jason", "reviews.jason -> 10.1.0.2:8080"),
            ("POST reviews/apiary", "reviews.api -> 10.1.0.1:8080"),
            ("GET reviews/v2?a=1&beta=yes", "reviews.api -> 10.1.0.1:8080"),
            ("GET reviews/v2?beta=no&beta=yes", "404 route_not_found"),
            ("GET reviews/item/12?x", "reviews.regex -> 10.1.0.2:8080"),
            ("GET reviews/item/12 h:x-no=1", "404 route_not_found"),
            ("GET reviews/item/12x", "404 route_not_found"),
            ("GET reviews/api", "reviews.exact -> 10.1.0.3:80"),
            ("GET reviews/gone", "418 backend_not_found[as the test says]"),
            ("GET reviews/subset", "503 backend_not_found[reviews.default.svc.cluster.local:9080 subset v7]"),
            ("GET reviews/nobody", "503 backend_not_found[nobody.default.svc.cluster.local:80]"),
            ("GET reviews/port", "503 backend_not_found[reviews.default.svc.cluster.local:1]"),
            ("GET reviews/asleep", "503 backend_not_found[the rule has no backends]"),
            ("GET reviews/empty", "503 backend_not_found[the rule has no backends]"),
            ("GET reviews/unready", "reviews.unready -> "),
        ],
    );
}

#[test]
fn the_most_specific_rule_is_asked_first() {
    let named = |name: &str, matching: &str| rule(name, matching, "ratings.other:80");
    let first = vec![
        named("root", "/**"),
        named("short", "/a/**"),
        named("long", "/a/b/**"),
        named("exact", "/a/b"),
        named("regex", "~/x.*"),
        named("method", "/m/** method=GET"),
        named("headers", "/m/** h:a=1 h:b=2"),
        named("header", "/m/** h:a=1"),
        named("query", "/m/** q:a=1"),
        named("plain", "/m/**"),
    ];
    let second = vec![named("later", "/a/b"), named("longer", "/a/b/c/**")];
    let parents = || vec![of_service("reviews.default")];
    let first = Route { created: Created::at(2), ..http_route("default/one", parents(), "", first) };
    let second = Route { created: Created::at(1), ..http_route("default/two", parents(), "", second) };
    let expect = |name: &str| format!("{name} -> 10.1.0.3:80");
    let table = [
        ("GET reviews/z", expect("one.root")),
        ("GET reviews/a/z", expect("one.short")),
        ("GET reviews/ab", expect("one.root")),
        ("GET reviews/a/b/z", expect("one.long")),
        ("GET reviews/a/b", expect("two.later")),
        ("GET reviews/a/b/c", expect("two.longer")),
        ("GET reviews/xyz", expect("one.regex")),
        ("GET reviews/m h:a=1 h:b=2", expect("one.method")),
        ("PUT reviews/m h:a=1 h:b=2", expect("one.headers")),
        ("PUT reviews/m?a=1 h:a=1", expect("one.header")),
        ("PUT reviews/m?a=1 h:a=2 h:a=1", expect("one.header")),
        ("PUT reviews/m?a=1", expect("one.query")),
        ("PUT reviews/m", expect("one.plain")),
    ];
    let table: Vec<_> = table.iter().map(|(request, line)| (*request, line.as_str())).collect();
    check_reviews(vec![first, second], &table);
}

#[test]
fn whose_routes_decide_for_a_host() {
    let to_ratings = || vec![rule("r", "", "ratings.other:80")];
    let public = virtual_service("default/public", REVIEWS, to_ratings());
    let older = Route { created: Created::at(1), ..virtual_service("other/older", REVIEWS, to_ratings()) };
    let exported = Route {
        visibility: Visibility::Only(vec![namespace("default")]),
        ..virtual_service("other/exported", REVIEWS, to_ratings())
    };
    let private = Route {
        visibility: Visibility::Only(vec![namespace("default")]),
        ..virtual_service("default/private", REVIEWS, to_ratings())
    };
    let hidden = Route { visibility: Visibility::Only(vec![namespace("other")]), ..private.clone() };
    let wide = virtual_service("default/wide", "*.default.svc.cluster.local", to_ratings());
    let producer = http_route("default/producer", vec![of_service("reviews.default")], "", to_ratings());
    let stranger = http_route("third/stranger", vec![of_service("reviews.default")], "", to_ratings());
    let other_labels = virtual_service(
        "default/labels",
        REVIEWS,
        vec![rule("r", "label:app=other | ns=third | port=1", "ratings.other:80")],
    );
    let default = "default -> 10.1.0.1:8080 10.1.0.2:8080";
    for (routes, winner) in [
        (vec![&public, &older], "older.r -> 10.1.0.3:80"),
        (vec![&public, &older, &exported], "exported.r -> 10.1.0.3:80"),
        (vec![&public, &exported, &private], "private.r -> 10.1.0.3:80"),
        (vec![&public, &producer], "producer.r -> 10.1.0.3:80"),
        (vec![&private, &producer], "private.r -> 10.1.0.3:80"),
        (vec![&wide, &public], "public.r -> 10.1.0.3:80"),
        (vec![&wide], "wide.r -> 10.1.0.3:80"),
        (vec![&stranger], default),
        (vec![&hidden], default),
        (vec![&other_labels], default),
        (vec![&other_labels, &wide], "wide.r -> 10.1.0.3:80"),
    ] {
        check_reviews(routes.into_iter().cloned().collect(), &[("GET reviews/", winner)]);
    }
}

#[test]
fn a_consumer_route_is_for_its_own_namespace() {
    let to_ratings = vec![rule("r", "", "reviews.default:9080")];
    let mut entries = shop();
    entries.push(route(http_route("default/mine", vec![of_service("ratings.other")], "", to_ratings)));
    check_requests(&entries, &[("10.0.0.2:80", "GET x/", "mine.r -> 10.1.0.1:8080 10.1.0.2:8080")]);
    let elsewhere = snapshot(viewer("third/c", ProxyRole::Sidecar, &[]), entries);
    let facts = connection(Direction::Outbound, "10.0.0.2:80");
    assert_eq!(line(&elsewhere, ask(&elsewhere, &facts, "GET x/", 0)), "default -> 10.1.0.3:80");
}

#[test]
fn routes_of_one_port_leave_the_others_alone() {
    let mut entries = shop();
    let parent = Parent::Service { service: service_id("ratings.other"), port: Some(100) };
    entries.push(route(http_route("other/r", vec![parent], "", vec![rule("r", "/x", "ratings.other:80")])));
    check_requests(
        &entries,
        &[
            ("10.0.0.2:80", "GET ratings.other/x", "default -> 10.1.0.3:80"),
            ("10.0.0.2:100", "GET ratings.other/x", "r.r -> 10.1.0.3:80"),
            ("10.0.0.2:100", "GET ratings.other/y", "404 route_not_found"),
        ],
    );
}

#[test]
fn routes_for_hosts_that_are_no_services() {
    let mut entries = shop();
    let to_ratings = || vec![rule("r", "/x", "ratings.other:80")];
    entries.push(route(virtual_service("default/exact", "api.example.com", to_ratings())));
    entries.push(route(virtual_service("default/wide", "*.example.com", to_ratings())));
    check_requests(
        &entries,
        &[
            ("9.9.9.9:80", "GET API.example.com:80/x", "exact.r -> 10.1.0.3:80"),
            ("9.9.9.9:80", "GET www.example.com/x", "wide.r -> 10.1.0.3:80"),
            ("9.9.9.9:80", "GET www.example.com/y", "404 route_not_found"),
            ("9.9.9.9:80", "GET example.com/x", "Passthrough -> as is 9.9.9.9:80"),
        ],
    );
}

#[test]
fn shares_follow_the_weights() {
    let mut entries = shop();
    let rules =
        vec![rule("r", "", "reviews.default:9080/v1*90 reviews.default:9080/v2*9 404*1 ratings.other:80*0")];
    entries.push(route(virtual_service("default/canary", REVIEWS, rules)));
    let snapshot = snapshot(client(), entries);
    let facts = connection(Direction::Outbound, "10.0.0.1:9080");
    let mut seen = std::collections::BTreeMap::new();
    let rounds = 10_000u64;
    for n in 0..rounds {
        // Evenly spread, so that the shares are exact but for rounding.
        let random = u64::MAX / rounds * n;
        *seen.entry(line(&snapshot, ask(&snapshot, &facts, "GET reviews/", random))).or_insert(0u64) += 1;
    }
    let shares: Vec<_> = seen.values().map(|count| (count + 5) / 10 * 10).collect();
    // In the order of the lines: the 404, v1, v2.
    assert_eq!(shares, [100, 9000, 900], "{seen:?}");
}

#[test]
fn policies_of_a_host_are_looked_up_from_the_client_outwards() {
    let rules = |entries: Vec<Arc<Entry>>, subset: &str| {
        let mut all = shop();
        all.retain(|entry| entry.key.origin != Origin::DestinationRule);
        all.extend(entries);
        let backend = format!("ratings.other:80/{subset}");
        all.push(route(virtual_service(
            "default/r",
            "ratings.other.svc.cluster.local",
            vec![rule("r", "", &backend)],
        )));
        let snapshot = snapshot(client(), all);
        let facts = connection(Direction::Outbound, "10.0.0.2:80");
        line(&snapshot, ask(&snapshot, &facts, "GET x/", 0))
    };
    let host = "ratings.other.svc.cluster.local";
    let root = || destination_rule("istio-system/d", host, None, "root:a=b");
    let owner = || destination_rule("other/d", host, None, "owner:a=b");
    let mine = || destination_rule("default/d", "*.svc.cluster.local", None, "mine:a=b");
    let exact = || destination_rule("default/e", host, None, "exact:a=b");
    let twin = || destination_rule("default/f", host, None, "twin:a=b");
    for (entries, known) in [
        (vec![root()], vec!["root"]),
        (vec![root(), owner()], vec!["owner"]),
        (vec![root(), owner(), mine()], vec!["mine"]),
        (vec![root(), owner(), mine(), exact()], vec!["exact"]),
        (vec![mine(), exact(), twin()], vec!["exact", "twin"]),
    ] {
        for subset in ["root", "owner", "mine", "exact", "twin"] {
            let found = rules(entries.clone(), subset);
            assert_eq!(found == "r.r -> ", known.contains(&subset), "{subset} {found}");
        }
    }
}

#[test]
fn a_policy_for_some_clients_comes_before_the_one_for_all() {
    let host = "ratings.other.svc.cluster.local";
    let for_clients = |name: &str, subsets: &str, labels: &[(&str, &str)]| {
        let made = destination_rule(name, host, None, subsets);
        let Resource::Policy(policy) = &made.resource else { unreachable!("it is one") };
        let PolicyKind::Destination(destination) = &policy.kind else { unreachable!("it is one") };
        let clients = Selector::new(labels.iter().copied().collect());
        let kind =
            PolicyKind::Destination(Box::new(DestinationPolicy { clients, ..(**destination).clone() }));
        entry(made.key.clone(), Resource::Policy(Policy { kind, ..policy.clone() }))
    };
    let known = |viewer: Viewer, subset: &str| {
        let mut all = shop();
        all.retain(|entry| entry.key.origin != Origin::DestinationRule);
        all.push(destination_rule("default/all", host, None, "all:a=b"));
        all.push(for_clients("default/some", "some:a=b", &[("app", "x")]));
        all.push(for_clients("other/theirs", "theirs:a=b", &[("app", "x")]));
        let rules = vec![rule("r", "", &format!("ratings.other:80/{subset}"))];
        all.push(route(virtual_service("default/r", host, rules)));
        let snapshot = snapshot(viewer, all);
        let facts = connection(Direction::Outbound, "10.0.0.2:80");
        line(&snapshot, ask(&snapshot, &facts, "GET x/", 0)) == "r.r -> "
    };
    let client = |app: &str| viewer("default/client", ProxyRole::Sidecar, &[("app", app)]);
    for (app, expected) in [("x", [false, true, false]), ("y", [true, false, false])] {
        assert_eq!(["all", "some", "theirs"].map(|subset| known(client(app), subset)), expected, "{app}");
    }
}
