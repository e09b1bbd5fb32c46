//! What is told is what is done.

mod mesh;

use lateen_engine::{CannotAsk, Journey, Question, Step, journey};
use lateen_model::*;
use mesh::*;

fn catalog() -> Catalog {
    let reviews = |name: &str, ip: &str, version: &str| {
        let labels = [("app", "reviews"), ("version", version)];
        let own = workload(name, ip, &labels, &[("reviews.default", "http:9080")]);
        let policies = vec![key(Origin::AuthorizationPolicy, "default/front-only")];
        instance(Workload { workload_name: "reviews".into(), policies, ..own })
    };
    let front_only = AuthorizationRule {
        from: vec![Source {
            principals: vec![StringMatch::from_policy_value("cluster.local/ns/default/sa/front")],
            ..Source::default()
        }],
        when: vec![Condition {
            key: ConditionKey::RequestHeader("x-set".into()),
            values: vec![StringMatch::Exact("yes".into())],
            not_values: Vec::new(),
            addresses: AddressMatch::default(),
        }],
        ..AuthorizationRule::default()
    };
    let mut canary = rule("canary", "", "reviews.default:9080/v1*90 reviews.default:9080/v2*10");
    let set = vec![("x-set".into(), Format::literal("yes"))];
    canary.filters.push(Filter::RequestHeaders(HeaderEdit { set, ..HeaderEdit::default() }));
    let rules = vec![rule("jason", "h:end-user=jason", "reviews.default:9080/v2"), canary];
    let entries = [
        service("reviews.default", &["10.0.0.1"], "http:9080"),
        instance(workload("default/front", "10.1.0.9", &[], &[])),
        instance(workload("default/edge", "10.1.0.8", &[("gateway", "yes")], &[])),
        instance(workload("other/stranger", "10.1.0.7", &[], &[])),
        reviews("default/reviews-v1-0", "10.1.0.1", "v1"),
        reviews("default/reviews-v2-0", "10.1.0.2", "v2"),
        destination_rule(
            "default/reviews",
            "reviews.default.svc.cluster.local",
            None,
            "v1:version=v1 v2:version=v2",
        ),
        route(virtual_service("default/reviews", "reviews.default.svc.cluster.local", rules)),
        authorization("default/front-only", Target::Selected, Action::Allow, vec![front_only]),
        peer_authentication("istio-system/default", Target::Mesh, MtlsMode::Strict, &[]),
        gateway(Origin::Gateway, "default/gw", "http:80"),
        route(http_route(
            "default/in",
            vec![of_gateway(Origin::Gateway, "default/gw")],
            "",
            vec![rule("in", "", "reviews.default:9080")],
        )),
    ];
    let mut catalog = Catalog::default();
    catalog.apply(&delta(entries));
    catalog
}

fn ask_about(from: &str, to: &str, headers: &[(&str, &str)]) -> Journey {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let question = Question { from: from.into(), to: to.into(), method: "GET".into(), headers, random: 0 };
    journey(&catalog(), &question).expect("it can be asked")
}

#[track_caller]
fn check(journey: &Journey, expected: &str) {
    let text = journey.to_string();
    let found: Vec<&str> = text.lines().map(str::trim_end).collect();
    let expected: Vec<&str> = expected.trim().lines().map(str::trim_end).collect();
    assert_eq!(found, expected, "\n{text}");
}

#[test]
fn a_request_is_followed_to_the_application() {
    let journey = ask_about("default/front", "http://reviews:9080/reviews/1", &[]);
    check(
        &journey,
        "
default/front (outbound)
  name        reviews is default/reviews.default.svc.cluster.local
  port        9080 of default/reviews.default.svc.cluster.local speaks http
  routes      VirtualService default/reviews
    no        VirtualService default/reviews rule jason: not so: header end-user is \"jason\"
    MATCH     VirtualService default/reviews rule canary: everything
  backends     90 % reviews.default.svc.cluster.local:9080 subset v1 <- this time
               10 % reviews.default.svc.cluster.local:9080 subset v2
  treatment   timeout none; 2 retries on connect-failure, refused-stream, cancelled, unavailable
              request header x-set becomes \"yes\"
  endpoints   reviews.default.svc.cluster.local:9080 subset v1: 1, chosen by least request
              10.1.0.1:9080 default/reviews-v1-0
  endpoint    10.1.0.1:9080 default/reviews-v1-0 by mTLS (HBONE to 10.1.0.1:15008), if it proves to be spiffe://cluster.local/ns/default/sa/reviews-v1-0
  => sent to 10.1.0.1:9080 (default/reviews-v1-0) by route reviews.canary
default/reviews-v1-0 (inbound)
  mtls        port 9080 is STRICT by PeerAuthentication istio-system/default; the caller is spiffe://cluster.local/ns/default/sa/front
  policy      ALLOW AuthorizationPolicy default/front-only: rule 0 matches
  => passed to the application at 10.1.0.1:9080
",
    );
    assert!(journey.arrives);
}

#[test]
fn a_denial_names_the_policy() {
    let journey = ask_about("other/stranger", "http://reviews.default:9080/", &[("End-User", "jason")]);
    assert!(!journey.arrives);
    let last = journey.legs[1].explanation.steps.last().expect("a verdict");
    let text = "with 403: rbac_access_denied_matched_policy[none], by AuthorizationPolicy default/front-only";
    assert_eq!(*last, Step::Verdict { passes: false, text: text.into() });
}

#[test]
fn a_gateway_is_entered_from_outside() {
    let journey = ask_about("default/edge", "http://shop.com/", &[]);
    assert_eq!(journey.legs[0].direction, "gateway");
    let by_its_object = ask_about("default/gw", "http://shop.com/", &[]);
    assert_eq!(by_its_object.legs[0].proxy, journey.legs[0].proxy);
    assert!(journey.legs[0].explanation.passes && journey.legs[1].proxy.starts_with("default/reviews-"));
}

#[test]
fn what_nobody_declared_is_said_by_name() {
    let journey = ask_about("default/front", "https://example.com/", &[]);
    check(
        &journey,
        "
default/front (outbound)
  name        nobody declared example.com
  undeclared  example.com:443 passes through
  => sent on as it is, to the address that the name has
",
    );
}

#[test]
fn bytes_go_past_all_routes() {
    let journey = ask_about("front", "tcp://reviews:9080", &[]);
    let last = journey.legs[0].explanation.steps.last().expect("a verdict");
    let text = "connection of http: its requests are looked at one by one";
    assert_eq!(*last, Step::Verdict { passes: true, text: text.into() });
}

#[test]
fn a_question_that_cannot_be_asked_says_why() {
    let ask = |from: &str, to: &str| {
        let question = Question {
            from: from.into(),
            to: to.into(),
            method: "GET".into(),
            headers: Vec::new(),
            random: 0,
        };
        journey(&catalog(), &question).map(|_| ())
    };
    assert!(matches!(ask("default/front", "gopher://x"), Err(CannotAsk::Url { .. })));
    let unknown = ask("default/nobody", "http://x").expect_err("nobody has the name").to_string();
    assert!(
        unknown
            .starts_with("no workload is called \"default/nobody\"; there are: default/edge, default/front"),
        "{unknown}"
    );
}

#[test]
fn other_spellings_of_a_path_are_explained_as_they_are_decided() {
    let mut catalog = catalog();
    let admin = vec![
        rule("admin", "/admin/**", "reviews.default:9080/v2"),
        rule("rest", "", "reviews.default:9080/v1"),
    ];
    let host = "reviews.default.svc.cluster.local";
    catalog.apply(&delta([route(virtual_service("default/reviews", host, admin))]));
    for (path, expected) in [
        ("/x/../admin", Some("reviews.admin")),
        ("/%61dmin", Some("reviews.admin")),
        ("/x/admin", Some("reviews.rest")),
        ("/../admin", None),
    ] {
        let question = Question {
            from: "default/front".into(),
            to: format!("http://reviews:9080{path}"),
            method: "GET".into(),
            headers: Vec::new(),
            random: 0,
        };
        let journey = journey(&catalog, &question).expect("it can be asked");
        let taken = journey.legs[0].explanation.taken.as_ref();
        let route = taken.map(|taken| taken.forward.effective.route_name.as_str());
        assert_eq!(route, expected, "{path}\n{journey}");
    }
}

/// The next proxy judges what it is sent: the path after the rewrite, which began from the path in its one spelling.
#[test]
fn a_rewritten_path_is_what_the_server_sees() {
    let rewrite = Rewrite { path: Some(PathRewrite::Matched("/internal".into())), authority: None };
    let public = Rule {
        filters: vec![Filter::Rewrite(rewrite)],
        ..rule("public", "/public/**", "reviews.default:9080")
    };
    let rest = rule("rest", "", "reviews.default:9080");
    let deny = AuthorizationRule {
        to: vec![Operation { paths: vec![StringMatch::Prefix("/internal".into())], ..Operation::default() }],
        ..AuthorizationRule::default()
    };
    let mut catalog = catalog();
    catalog.apply(&delta([
        route(virtual_service("default/reviews", "reviews.default.svc.cluster.local", vec![public, rest])),
        authorization("default/front-only", Target::Selected, Action::Deny, vec![deny]),
    ]));
    for (path, arrives) in [("/public/a", false), ("/x/../%70ublic", false), ("/other", true)] {
        let question = Question {
            from: "default/front".into(),
            to: format!("http://reviews:9080{path}"),
            method: "GET".into(),
            headers: Vec::new(),
            random: 0,
        };
        let journey = journey(&catalog, &question).expect("it can be asked");
        assert_eq!((journey.legs.len(), journey.arrives), (2, arrives), "{path}\n{journey}");
    }
}
