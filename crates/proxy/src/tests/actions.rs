//! What rules do to requests and responses, whole exchanges: what the application gets, what the caller gets, what is
//! recorded.

use std::net::SocketAddr;
use std::sync::Arc;

use lateen_model::*;

use super::mesh::*;

/// A route of the service `app` with these rules.
fn route(precedence: Precedence, rules: Vec<Rule>) -> Arc<Entry> {
    let key = Key::new(Origin::VirtualService, Namespace::default(), "shop");
    let host = HostPattern::parse("app.default.svc.cluster.local").expect("a host");
    let route = Route {
        key: key.clone(),
        parents: vec![Parent::Mesh],
        hosts: vec![host],
        rules,
        precedence,
        created: Created::UNKNOWN,
        visibility: Visibility::Public,
    };
    Arc::new(Entry::for_everyone(key, Resource::Route(route)))
}

fn to_app() -> Backend {
    let target = BackendTarget::Service { service: service_id("app"), port: 80, subset: None };
    Backend { target, weight: 1, filters: Vec::new() }
}

/// A rule of the paths that begin with this text.
fn under(prefix: &str, filters: Vec<Filter>) -> Rule {
    let path = Some(PathMatch::Text(StringMatch::Prefix(prefix.into())));
    matching(path, filters)
}

fn matching(path: Option<PathMatch>, filters: Vec<Filter>) -> Rule {
    Rule {
        name: "r".into(),
        matches: vec![RequestMatch { path, ..RequestMatch::default() }],
        filters,
        backends: vec![to_app()],
        ..Rule::default()
    }
}

fn answering(prefix: &str, answer: Answer, filters: Vec<Filter>) -> Rule {
    Rule { answer: Some(answer), backends: Vec::new(), ..under(prefix, filters) }
}

async fn front_with(rules: Vec<Rule>) -> (Proxy, SocketAddr) {
    let at = echo("app").await;
    let instance = instance("app", at, AppProtocol::Http1, Tunnel::None);
    let resources = [service("app", AppProtocol::Http1), instance, route(Precedence::Listed, rules)];
    front_of(&resources, |_| ()).await
}

/// What the application was sent, without the fields that are there anyway.
fn seen(body: &str) -> Vec<&str> {
    let own = ["x-request-id: ", "x-forwarded-proto: ", "x-envoy-attempt-count: "];
    let lines = body.trim_end().lines().skip(1);
    lines.filter(|line| !own.iter().any(|own| line.starts_with(own))).collect()
}

#[tokio::test]
async fn rewrites_say_what_was_asked_for() {
    let rewrite = |path: PathRewrite| vec![Filter::Rewrite(Rewrite { path: Some(path), authority: None })];
    let to = |text: &str| rewrite(PathRewrite::Matched(text.into()));
    let regex = RegexRewrite::parse("^/re/(.)/(.)", r"/\2/\1").expect("a pattern");
    let host = Filter::Rewrite(Rewrite { path: None, authority: Some("other.example:81".into()) });
    let by_edit =
        HeaderEdit { set: vec![("host".into(), Format::literal("edited"))], ..HeaderEdit::default() };
    let (proxy, front) = front_with(vec![
        matching(Some(PathMatch::segments("/segments")), to("/")),
        under("/text", to("/new")),
        matching(Some(PathMatch::Text(StringMatch::Exact("/exact".into()))), to("/new")),
        under("/full", rewrite(PathRewrite::Full("/new".into()))),
        under("/re", rewrite(PathRewrite::Regex(regex))),
        under("/host", vec![host]),
        under("/edit", vec![Filter::RequestHeaders(by_edit)]),
    ])
    .await;
    let mut caller = Wire::connect(front).await;
    for (index, (target, sent, host)) in [
        ("/segments/a?q=1", "/a?q=1", "app"),
        ("/segments", "/", "app"),
        ("/text/a", "/new/a", "app"),
        ("/exact?q", "/new?q", "app"),
        ("/full/a?q", "/new?q", "app"),
        ("/re/a/b/c", "/b/a/c", "app"),
        ("/host/a", "/host/a", "other.example:81"),
        ("/edit", "/edit", "edited"),
        // Decided by, rewritten and told after normalising.
        ("/x/../text/%61", "/new/a", "app"),
    ]
    .into_iter()
    .enumerate()
    {
        let (status, body) = caller.ask(&get(target)).await;
        assert_eq!(status, "HTTP/1.1 200 OK", "{target}");
        let asked = if target.starts_with("/x") { "/text/a" } else { target };
        let mut expected = vec![format!("GET {sent} HTTP/1.1"), format!("Host: {host}")];
        if sent != asked {
            expected.push(format!("x-envoy-original-path: {asked}"));
        }
        if host != "app" {
            expected.push("x-envoy-original-host: app".to_owned());
        }
        assert_eq!(seen(&body), expected, "{target}");
        // What was asked for is recorded.
        let records = proxy.records.wait(index + 1).await;
        assert!(records[index].starts_with(&format!("GET {asked} 200 - via_upstream")), "{records:?}");
    }
}

#[tokio::test]
async fn rules_answer_themselves() {
    let redirect = |status: u16, path: &str| {
        Answer::Redirect(Redirect {
            status,
            scheme: Some("https".into()),
            host: None,
            port: RedirectPort::Unchanged,
            path: Some(PathRewrite::Matched(path.into())),
        })
    };
    let direct =
        |status: u16, body: &str| Answer::Direct(DirectResponse { status, body: body.as_bytes().into() });
    let edit = HeaderEdit {
        set: vec![("content-type".into(), Format::literal("text/html"))],
        add: vec![("x-by".into(), Format::literal("us"))],
        remove: Vec::new(),
    };
    let (proxy, front) = front_with(vec![
        answering("/moved", redirect(308, "/new"), Vec::new()),
        answering("/tea", direct(418, "tea"), vec![Filter::ResponseHeaders(edit)]),
        answering("/ok", direct(200, "fine"), Vec::new()),
        answering("/empty", direct(200, ""), Vec::new()),
        answering("/none", direct(204, "not sent"), Vec::new()),
    ])
    .await;
    for (index, (request, expected)) in [
        ("GET /moved/a?b", "308 Permanent Redirect\r\nlocation: https://app/new/a?b\r\ncontent-length: 0"),
        ("GET /tea", "418 I'm a teapot\r\ncontent-type: text/html\r\nx-by: us\r\ncontent-length: 3|tea"),
        ("HEAD /ok", "200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4"),
        ("GET /ok", "200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4|fine"),
        ("GET /empty", "200 OK\r\ncontent-length: 0"),
        ("GET /none", "204 No Content"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut caller = Wire::connect(front).await;
        let (head, body) = expected.split_once('|').unwrap_or((expected, ""));
        // The connection goes on afterwards.
        for _ in 0..2 {
            caller.send(format!("{request} HTTP/1.1\r\nHost: app\r\n\r\n")).await;
            assert_eq!(caller.head().await, format!("HTTP/1.1 {head}\r\n\r\n"), "{request}");
            assert_eq!(caller.exactly(body.len()).await, body.as_bytes());
        }
        let (request, status) = (request, &head[..3]);
        let records = proxy.records.wait(2 * index + 2).await;
        let expected = format!("{request} {status} - direct_response peer=- tries=0");
        assert_eq!(records[2 * index], expected);
    }
}

#[tokio::test]
async fn callers_of_grpc_find_the_answer_in_its_status() {
    let body = DirectResponse { status: 503, body: b"closed\nfor 50 %".as_slice().into() };
    let (_proxy, front) = front_with(vec![answering("/", Answer::Direct(body), Vec::new())]).await;
    let mut caller = Wire::connect(front).await;
    caller
        .send(
            "POST /a/b HTTP/1.1\r\nHost: app\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n",
        )
        .await;
    let head = caller.head().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("grpc-status: 14\r\ngrpc-message: closed%0Afor 50 %25\r\n"), "{head}");
}

fn edit(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderEdit {
    let put = |(name, value): &(&str, &str)| (Str::from(*name), Format::parse(value).expect("a format"));
    HeaderEdit {
        set: set.iter().map(put).collect(),
        add: add.iter().map(put).collect(),
        remove: remove.iter().map(|name| (*name).into()).collect(),
    }
}

/// What a real Envoy does with the same edits: removed first, every value filled from the head as it came, empty values
/// left out, the first of several values taken.
#[tokio::test]
async fn headers_are_edited_with_values_of_the_request() {
    let (_proxy, front) = front_with(vec![under(
        "/fmt",
        vec![
            Filter::RequestHeaders(edit(
                &[
                    ("x-missing", "%REQ(nope)%"),
                    ("x-around", "a%REQ(nope)%b"),
                    ("x-tls", "%DOWNSTREAM_TLS_VERSION%"),
                    ("x-path", "%REQ(:path)% %REQ(:authority)%"),
                    ("x-kept", "%REQ(nope)%"),
                    ("x-first", "%REQ(x-many)%"),
                    ("x-chain", "%REQ(x-path)%"),
                    (
                        "x-what",
                        "%UPSTREAM_HOST%|%UPSTREAM_CLUSTER%|%ROUTE_NAME%|%RESPONSE_CODE%|%RESPONSE_FLAGS%",
                    ),
                    ("host", "%REQ(x-first-host)%.example"),
                    ("content-length", "5"),
                    ("x-lateen-fault", "x"),
                ],
                &[("x-both", "new"), ("x-many", "three")],
                &["x-both"],
            )),
            Filter::ResponseHeaders(edit(
                &[("x-status", "%RESPONSE_CODE% %RESP(x-own)% %REQ(x-path)% %RESPONSE_CODE_DETAILS%")],
                &[("x-own", "ours")],
                &["x-secret"],
            )),
        ],
    )])
    .await;
    let mut caller = Wire::connect(front).await;
    let request = "GET /fmt HTTP/1.1\r\nHost: app\r\nx-both: old\r\nx-many: one\r\nX-Many: two\r\n\
                   x-kept: was\r\nx-first-host: web\r\n\r\n";
    let (_, body) = caller.ask(request).await;
    assert_eq!(
        seen(&body),
        [
            "GET /fmt HTTP/1.1",
            "Host: web.example",
            "x-many: one",
            "X-Many: two",
            "x-kept: was",
            "x-first-host: web",
            "x-around: ab",
            "x-path: /fmt app",
            "x-first: one",
            "x-what: |outbound|80||app.default.svc.cluster.local|shop.r|0|-",
            "x-both: new",
            "x-many: three",
            "x-envoy-original-host: app",
        ]
    );
}

#[tokio::test]
async fn responses_are_edited_whoever_answers() {
    let edits = Filter::ResponseHeaders(edit(
        &[("x-status", "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESP(x-own)%"), ("x-path", "%REQ(x-path)%")],
        &[("x-own", "ours")],
        &["x-secret"],
    ));
    let request = Filter::RequestHeaders(edit(&[("x-path", "%REQ(:path)%")], &[], &[]));
    let (mut app, at) = app().await;
    let resources = |at: SocketAddr| {
        let rule = under("/", vec![request.clone(), edits.clone()]);
        let rule = Rule { retry: Some(RetryPolicy { attempts: 0, ..RetryPolicy::default() }), ..rule };
        let instance = instance("app", at, AppProtocol::Http1, Tunnel::None);
        [service("app", AppProtocol::Http1), instance, route(Precedence::Listed, vec![rule])]
    };
    let (proxy, front) = front_of(&resources(at), |_| ()).await;
    let mut caller = Wire::connect(front).await;
    caller.send(get("/a")).await;
    let mut wire = app.recv().await.expect("a connection");
    wire.head().await;
    wire.send("HTTP/1.1 201 Created\r\nx-own: theirs\r\nx-secret: 1\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(
        caller.head().await,
        "HTTP/1.1 201 Created\r\nx-own: theirs\r\nx-status: 201 - theirs\r\nx-path: /a\r\nx-own: ours\r\n\
         content-length: 0\r\n\r\n"
    );
    // The route's word holds for an answer of ours too.
    let (gone, nobody) = app_listener().await;
    drop(gone);
    proxy.publish("client", &resources(nobody));
    caller.send(get("/b")).await;
    let head = caller.head().await;
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
    assert!(head.contains("x-status: 503 UF \r\nx-path: /b\r\nx-own: ours\r\n"), "{head}");
}

/// With several destinations the rule has the last word, with one the destination; each sees what came before it.
#[tokio::test]
async fn a_destination_edits_after_its_rule_unless_it_is_one_of_several() {
    let by = |who: &str| Filter::RequestHeaders(edit(&[("x-set", who)], &[("x-add", who)], &[]));
    let own = |weight: u32| Backend { weight, filters: vec![by("destination")], ..to_app() };
    let with = |prefix: &str, backends: Vec<Backend>| Rule { backends, ..under(prefix, vec![by("rule")]) };
    let (_proxy, front) =
        front_with(vec![with("/one", vec![own(1)]), with("/several", vec![own(1), own(0)])]).await;
    let mut caller = Wire::connect(front).await;
    for (path, expected) in [
        ("/one", ["x-set: destination", "x-add: rule", "x-add: destination"]),
        ("/several", ["x-add: destination", "x-set: rule", "x-add: rule"]),
    ] {
        let (_, body) = caller.ask(&get(path)).await;
        assert_eq!(seen(&body)[2..], expected, "{path}");
    }
}

fn cors(origins: Vec<StringMatch>, change: impl FnOnce(&mut Cors)) -> Filter {
    let mut cors = Cors {
        allow_origins: origins,
        allow_methods: vec!["GET".into(), "POST".into()],
        allow_headers: vec!["x-h".into()],
        expose_headers: vec!["x-e".into(), "x-f".into()],
        max_age: Some(std::time::Duration::from_secs(600)),
        allow_credentials: true,
        forward_unmatched_preflights: true,
    };
    change(&mut cors);
    Filter::Cors(cors)
}

fn shops() -> Vec<Rule> {
    let exact = || vec![StringMatch::Exact("https://a.example".into())];
    let some = || {
        let regex = FullRegex::parse(r"https://[a-z]+\.shop\.example").expect("a pattern");
        vec![StringMatch::Regex(regex), StringMatch::Prefix("http://localhost:".into())]
    };
    let star = || vec!["*".into()];
    let all = |cors: &mut Cors| {
        (cors.allow_methods, cors.allow_headers, cors.expose_headers) = (star(), star(), star());
        (cors.max_age, cors.forward_unmatched_preflights) = (None, false);
    };
    let direct = Answer::Direct(DirectResponse { status: 200, body: b"x".as_slice().into() });
    vec![
        under("/exact", vec![cors(exact(), |_| ())]),
        under("/some", vec![cors(some(), |cors| cors.forward_unmatched_preflights = false)]),
        under("/any", vec![cors(vec![StringMatch::Present], all)]),
        under(
            "/open",
            vec![cors(vec![StringMatch::Present], |cors| {
                all(cors);
                cors.allow_credentials = false;
            })],
        ),
        answering("/direct", direct, vec![cors(exact(), |_| ())]),
    ]
}

const LISTED: &str = "access-control-allow-origin: https://a.example|access-control-allow-credentials: true|\
                      access-control-expose-headers: x-e,x-f|access-control-allow-methods: GET,POST|\
                      access-control-allow-headers: x-h|access-control-max-age: 600";

#[tokio::test]
async fn preflights_are_answered_by_the_proxy() {
    let asked = "access-control-request-method: PUT\r\naccess-control-request-headers: x-q\r\n";
    let (proxy, front) = front_with(shops()).await;
    let mut answered = 0;
    for (index, (path, origin, expected)) in [
        ("/exact", "https://a.example", Some(LISTED)),
        ("/exact", "https://b.example", None),
        ("/exact", "https://A.example", None),
        ("/exact", "", None),
        ("/some", "https://x.shop.example", Some(LISTED)),
        ("/some", "http://localhost:3000", Some(LISTED)),
        ("/some", "https://x.shop.example.evil", Some("")),
        (
            "/any",
            "https://a.example",
            Some(
                "access-control-allow-origin: https://a.example|access-control-allow-credentials: true|\
                 access-control-expose-headers: *|access-control-allow-methods: PUT|\
                 access-control-allow-headers: x-q",
            ),
        ),
        (
            "/open",
            "null",
            Some(
                "access-control-allow-origin: null|access-control-expose-headers: *|\
                 access-control-allow-methods: PUT|access-control-allow-headers: x-q",
            ),
        ),
        ("/direct", "https://a.example", Some(LISTED)),
    ]
    .into_iter()
    .enumerate()
    {
        let mut caller = Wire::connect(front).await;
        caller.send(format!("OPTIONS {path} HTTP/1.1\r\nHost: app\r\nOrigin: {origin}\r\n{asked}\r\n")).await;
        let head = caller.head().await;
        let fields: Vec<&str> = head.trim_end().split("\r\n").collect();
        let records = proxy.records.wait(index + 1).await;
        match expected {
            // The application gives the answer.
            None => assert!(records[index].contains("200 - via_upstream"), "{path} {origin} {records:?}"),
            Some(expected) => {
                answered += 1;
                let expected = expected.replace("https://a.example", origin);
                let expected = expected.split('|').filter(|field| !field.is_empty());
                let expected = ["HTTP/1.1 200 OK"].into_iter().chain(expected).chain(["content-length: 0"]);
                assert_eq!(fields, expected.collect::<Vec<_>>(), "{path} {origin}");
                assert!(records[index].contains("200 - cors_response"), "{path} {origin} {records:?}");
            }
        }
    }
    assert_eq!(answered, 7);
}

#[tokio::test]
async fn answers_tell_scripts_that_they_may_be_read() {
    let (_proxy, front) = front_with(shops()).await;
    let granted = "access-control-allow-origin: https://a.example\r\naccess-control-allow-credentials: true\r\n\
                   access-control-expose-headers: x-e,x-f\r\n";
    for (method, path, origin, expected) in [
        ("GET", "/exact", "https://a.example", granted),
        ("GET", "/direct", "https://a.example", granted),
        // No preflight: it does not say what it asks for.
        ("OPTIONS", "/exact", "https://a.example", granted),
        ("GET", "/exact", "https://b.example", ""),
        ("GET", "/some", "https://b.example", ""),
    ] {
        let mut caller = Wire::connect(front).await;
        caller.send(format!("{method} {path} HTTP/1.1\r\nHost: app\r\nOrigin: {origin}\r\n\r\n")).await;
        let head = caller.head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains(expected), "{path} {origin} {head}");
        assert_eq!(head.contains("access-control"), !expected.is_empty(), "{path} {origin} {head}");
    }
}
