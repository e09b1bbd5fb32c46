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
