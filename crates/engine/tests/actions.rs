//! What rules do besides sending requests on, from the compiled rule to the decision.

mod mesh;

use lateen_engine::{Direction, Explanation, MatchedPath, RequestDecision, RequestFacts, explain};
use lateen_model::*;
use mesh::*;
use std::sync::Arc;

fn answering(name: &str, matching: &str, answer: Answer) -> Rule {
    Rule { answer: Some(answer), ..rule(name, matching, "") }
}

fn redirect(status: u16, path: PathRewrite) -> Answer {
    Answer::Redirect(Redirect {
        status,
        scheme: Some("https".into()),
        host: None,
        port: RedirectPort::Unchanged,
        path: Some(path),
    })
}

fn direct(status: u16, body: &str) -> Answer {
    Answer::Direct(DirectResponse { status, body: body.as_bytes().into() })
}

fn web(rules: Vec<Rule>) -> Vec<Arc<Entry>> {
    vec![
        service("web.default", &["10.0.0.1"], "http:80"),
        instance(workload("default/web", "10.1.0.1", &[], &[("web.default", "http:80")])),
        route(virtual_service("default/v", "web.default.svc.cluster.local", rules)),
    ]
}

fn client() -> Viewer {
    viewer("default/client", ProxyRole::Sidecar, &[])
}

#[test]
fn rules_answer_themselves() {
    let moved = |text: &str| redirect(301, PathRewrite::Matched(text.into()));
    let snapshot = snapshot(
        client(),
        web(vec![
            answering("gone", "/gone", direct(410, "gone")),
            answering("moved", "/old/**", moved("/new")),
            answering("text", "/text*", moved("/new")),
            rule("rest", "", "web.default:80"),
        ]),
    );
    let facts = connection(Direction::Outbound, "10.0.0.1:80");
    for (request, expected) in [
        ("GET web/gone", "410 gone"),
        ("GET web/old/a?q=1", "301 https://web/new/a?q=1"),
        ("GET web:80/old", "301 https://web/new"),
        ("GET web:8080/text/a", "301 https://web:8080/new/a"),
        ("GET web/", "v.rest -> 10.1.0.1:80"),
    ] {
        assert_eq!(line(&snapshot, ask(&snapshot, &facts, request, 0)), expected, "{request}");
    }
}

#[test]
fn a_decision_knows_what_was_matched() {
    let rules = "/exact|/prefix*|/segments/**|~/re.*|h:x=1"
        .split('|')
        .enumerate()
        .map(|(index, matching)| rule(&index.to_string(), matching, "web.default:80"));
    let snapshot = snapshot(client(), web(rules.collect()));
    let facts = connection(Direction::Outbound, "10.0.0.1:80");
    for (request, expected) in [
        ("GET web/exact", MatchedPath::Whole),
        ("GET web/prefixed", MatchedPath::Text(7)),
        ("GET web/segments/x", MatchedPath::Segments(9)),
        ("GET web/regex", MatchedPath::Whole),
        ("GET web/any h:x=1", MatchedPath::Text(1)),
    ] {
        let RequestDecision::Forward(forward) = ask(&snapshot, &facts, request, 0) else {
            panic!("{request}")
        };
        assert_eq!(forward.matched, expected, "{request}");
    }
}

#[test]
fn schemes_and_authorities_are_matched() {
    let matching = |change: fn(&mut RequestMatch)| {
        let mut matching = RequestMatch::default();
        change(&mut matching);
        matching
    };
    let exact = |text: &str| Some(StringMatch::Exact(text.into()));
    let rules = [
        ("https", matching(|m| m.scheme = Some(StringMatch::Exact("https".into())))),
        ("port", RequestMatch { authority: exact("web:81"), ..RequestMatch::default() }),
        ("host", RequestMatch { authority: exact("web"), ..RequestMatch::default() }),
    ];
    let rules = rules
        .map(|(name, matching)| Rule { matches: vec![matching], ..answering(name, "", direct(200, name)) });
    let snapshot = snapshot(client(), web(rules.into()));
    let facts = connection(Direction::Outbound, "10.0.0.1:80");
    for (request, expected) in [
        ("GET WEB/", "200 host"),
        ("GET web:80/", "200 host"),
        ("GET Web:81/", "200 port"),
        ("GET web.default/", "404 route_not_found"),
    ] {
        assert_eq!(line(&snapshot, ask(&snapshot, &facts, request, 0)), expected, "{request}");
    }
}

fn explained(rule: Rule) -> Explanation {
    let snapshot = snapshot(client(), web(vec![rule]));
    let facts = connection(Direction::Outbound, "10.0.0.1:80");
    let request = RequestFacts {
        connection: &facts,
        scheme: "http",
        method: "GET",
        authority: "web",
        path_and_query: "/old/a",
        headers: &Map(Vec::new()),
        random: 0,
    };
    explain(&snapshot, &facts, Some(&request), 0)
}

#[test]
fn filters_are_told_in_words() {
    let filters = vec![
        Filter::Cors(Cors {
            allow_origins: vec![StringMatch::Exact("https://a".into())],
            allow_methods: vec!["GET".into()],
            allow_headers: vec!["x-a".into()],
            expose_headers: vec!["x-b".into()],
            max_age: Some(std::time::Duration::from_secs(60)),
            allow_credentials: true,
            forward_unmatched_preflights: false,
        }),
        Filter::Fault(FaultInjection {
            delay: Some((std::time::Duration::from_secs(1), Share::per_million(100_000))),
            abort: Some((Abort::Http(500), Share::ALL)),
        }),
        Filter::RequestHeaders(HeaderEdit {
            set: vec![("x".into(), Format::parse("%PROTOCOL%").expect("a format"))],
            add: vec![("y".into(), Format::literal("1"))],
            remove: vec!["z".into()],
        }),
        Filter::Rewrite(Rewrite {
            path: Some(PathRewrite::Matched("/new".into())),
            authority: Some("w".into()),
        }),
        Filter::Mirror(Mirror { target: backend("copy.default:80", 1).target, share: Share::ALL }),
    ];
    let explanation = explained(Rule { filters, ..rule("r", "/old*", "web.default:80") });
    let text = explanation.to_string();
    let at = text.find("treatment").expect("a treatment");
    let end = text.find("endpoints").expect("endpoints");
    let lines: Vec<&str> =
        text[at..end].lines().skip(1).map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(
        lines,
        [
            "CORS for origin is \"https://a\"; methods GET; headers x-a; exposes x-b; with credentials; \
             remembered for 60s; preflights of others are answered without leave",
            "10 % of the requests wait 1s",
            "100 % of the requests are answered with 500",
            "request header z is removed",
            "request header x becomes \"%PROTOCOL%\"",
            "request header y gets \"1\" added",
            "the matched part of the path becomes \"/new\"",
            "host becomes \"w\"",
            "a copy of 100 % of the requests goes to copy.default.svc.cluster.local:80, which is not there",
        ],
        "{text}"
    );
}

#[test]
fn answers_are_told_in_words() {
    let edit = HeaderEdit { set: vec![("x".into(), Format::literal("1"))], ..HeaderEdit::default() };
    let answer = redirect(308, PathRewrite::Full("/new".into()));
    let explanation =
        explained(Rule { filters: vec![Filter::ResponseHeaders(edit)], ..answering("r", "", answer) });
    let text = explanation.to_string();
    assert!(explanation.passes && explanation.taken.is_none());
    assert!(
        text.ends_with(
            "answer      308 to https://web/new\n            response header x becomes \"1\"\n\
             => answered with 308 by route v.r\n"
        ),
        "{text}"
    );
}
