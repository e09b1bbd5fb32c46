//! Whatever is asked, there is an answer; and the index over paths finds what a look at each rule would find.

mod mesh;

use lateen_engine::*;
use lateen_model::*;
use mesh::*;
use proptest::prelude::*;
use std::sync::Arc;

fn everything(role: ProxyRole) -> Arc<Snapshot> {
    let labels = [("gateway", "yes")];
    let gw = || vec![of_gateway(Origin::Gateway, "default/gw"), of_service("web.default")];
    let rules = || {
        vec![
            rule("a", "/a/** h:x=1 q:y=* | ~/é+", "web.default:80"),
            rule("b", "host=web", "web.default:80*0"),
        ]
    };
    let any = vec![AuthorizationRule::default()];
    snapshot(
        viewer("default/web", role, &labels),
        [
            service("web.default", &["10.0.0.1"], "http:80 tcp:81 detect:82 udp:83"),
            service("cart.default", &[], "detect:80"),
            instance(workload(
                "default/web",
                "10.1.0.1",
                &labels,
                &[("web.default", "http:80"), ("cart.default", "detect:80")],
            )),
            route(virtual_service("default/v", "*", rules())),
            route(http_route("default/h", gw(), "", rules())),
            gateway(Origin::Gateway, "default/gw", "http:80:*.com http:80"),
            authorization("default/a", Target::Mesh, Action::Allow, any),
        ],
    )
}

prop_compose! {
    fn address()(ip in prop_oneof![Just("10.0.0.1"), Just("10.1.0.1"), Just("9.9.9.9"), Just("[::1]"), Just("[::ffff:10.1.0.1]")], port in prop_oneof![78u16..85, any::<u16>()]) -> String {
        format!("{ip}:{port}")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn there_is_always_an_answer(
        gateway in any::<bool>(),
        direction in 0usize..3,
        destination in address(),
        host in proptest::option::of("[a-zA-Zé.:\\[\\]]{0,12}"),
        authority in "(web|cart|[A-Zé.:\\[\\]0-9]{0,8})(\\.default|\\.com)?(\\.svc)?(:[0-9]{0,6})?",
        path in "(/a)?[/é?&=a-c]{0,8}",
        method in "\\PC{0,5}",
        random in any::<u64>(),
    ) {
        let direction = [Direction::Outbound, Direction::Inbound, Direction::Gateway][direction].clone();
        let snapshot = everything(if gateway { ProxyRole::Gateway } else { ProxyRole::Sidecar });
        let connection = ConnectionFacts { destination_host: host.map(Str::from), ..connection(direction, &destination) };
        let headers = Map(vec![("x".into(), "1".into())]);
        let facts = RequestFacts {
            connection: &connection, scheme: "http", method: &method, authority: &authority, path_and_query: &path, headers: &headers, random,
        };
        let said = decide_connection(&snapshot, &connection);
        connection_line(&snapshot, &said);
        line(&snapshot, decide_request(&snapshot, &facts));
        let told = explain(&snapshot, &connection, Some(&facts), random);
        prop_assert!(!told.steps.is_empty());
    }

    /// Rules of random paths, listed: the first that matches by itself is the one that is found.
    #[test]
    fn the_index_finds_the_first_rule_that_matches(
        patterns in prop::collection::vec(("[/ab]{0,5}", 0..5), 1..24),
        paths in prop::collection::vec("[/ab]{0,6}", 1..16),
    ) {
        let matching = |(text, kind): &(String, i32)| match kind {
            0 => PathMatch::Text(StringMatch::Exact(text.into())),
            1 => PathMatch::Text(StringMatch::Prefix(text.into())),
            2 => PathMatch::segments(text),
            3 => PathMatch::Text(StringMatch::Regex(FullRegex::parse(&format!("{text}a*")).expect("letters only"))),
            _ => PathMatch::Text(StringMatch::PrefixIgnoreCase(text.to_uppercase().into())),
        };
        let rules = patterns.iter().enumerate().map(|(n, pattern)| {
            let path = Some(matching(pattern));
            Rule { matches: vec![RequestMatch { path, ..RequestMatch::default() }], ..rule(&n.to_string(), "", "web.default:80") }
        });
        let host = "web.default.svc.cluster.local";
        let snapshot = snapshot(viewer("default/c", ProxyRole::Sidecar, &[]), [
            service("web.default", &["10.0.0.1"], "http:80"),
            route(virtual_service("default/v", host, rules.collect())),
        ]);
        let connection = connection(Direction::Outbound, "10.0.0.1:80");
        for path in paths {
            let path = format!("/{path}");
            let expected = patterns.iter().position(|pattern| matching(pattern).matches(&path));
            let expected = expected.map_or("404 route_not_found".to_owned(), |n| format!("v.{n} -> "));
            prop_assert_eq!(line(&snapshot, ask(&snapshot, &connection, &format!("GET web{path}"), 0)), expected);
        }
    }
}
