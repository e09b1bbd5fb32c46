//! Thousands of requests from a seed: near each rule, and then bent.

use crate::case::{Body, Case, Version};
use crate::random::Die;
use crate::rules::{HOSTS, Hint};

/// Targets that meet no rule on purpose, or are spelt oddly.
const ODD_TARGETS: &[&str] = &[
    "/",
    "//",
    "/.",
    "/..",
    "/a/..",
    "/a/../..",
    "/%2e%2e/a",
    "/a/%2E/b",
    "/%2F",
    "/a%2fb",
    "/a%5cb",
    "/a\\b",
    "/%00",
    "/%zz",
    "/%",
    "/%4",
    "/a;x=1/b",
    "/a?",
    "/a??b",
    "/a?b=/../c",
    "/a?b=%2e%2e",
    "/a//b",
    "/a/./b/",
    "/~u",
    "/%7eu",
    "/a+b",
    "/a%20b",
    "/a?x=%00",
    "/a?q=a&q=b",
    "/:80/",
    "/@a",
    "/a%C3%A9",
    "/a|b",
    "/a\"b",
    "/a<b>",
    "/a{b}",
    "/a^b`c",
    "/a*b",
    "*",
    "/a%25b",
    "/exact%3Fx",
    "/a?b#c",
    "/#c",
    "/....//a",
    "/a/...",
    "/.a",
    "/a.",
    "/a/.b",
    "/%2e",
    "/%2e/a",
];

/// Headers that proxies treat in ways of their own, or that values make odd.
const ODD_HEADERS: &[(&str, &str)] = &[
    ("accept", "*/*"),
    ("Accept-Encoding", "gzip, br"),
    ("X-Forwarded-For", "10.1.2.3"),
    ("x-forwarded-for", "10.1.2.3, 10.4.5.6"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "evil.test"),
    ("x-request-id", "chosen"),
    ("x-envoy-max-retries", "9"),
    ("x-envoy-upstream-rq-timeout-ms", "1"),
    ("x-envoy-original-path", "/x"),
    ("x-envoy-internal", "true"),
    ("x-forwarded-client-cert", "By=spiffe://x"),
    ("te", "trailers"),
    ("te", "gzip"),
    ("via", "1.1 other"),
    ("x-empty", ""),
    ("x-tab", "a\tb"),
    ("x-space", "  padded  "),
    ("x-high", "caf\u{e9}"),
    ("x-quote", "\"a, b\""),
    ("x-list", "a,b"),
    ("x-list", "c"),
    ("cookie", "a=1"),
    ("cookie", "b=2"),
    ("authorization", "Bearer x"),
    ("x-under_score", "1"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("range", "bytes=0-3"),
    ("if-none-match", "\"x\""),
    ("max-forwards", "0"),
    ("x-real-ip", "1.2.3.4"),
    ("forwarded", "for=1.2.3.4"),
    ("priority", "u=1"),
    ("early-data", "1"),
    ("date", "x"),
    ("server", "mine"),
    ("expect", "100-continue"),
    ("content-type", "text/plain"),
];

/// Those that belong to one connection: only in HTTP/1.
const HOP_HEADERS: &[(&str, &str)] = &[
    ("Connection", "keep-alive"),
    ("Connection", "close"),
    ("connection", "x-hop"),
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Connection", "keep-alive"),
    ("proxy-authorization", "Basic x"),
    ("proxy-authenticate", "x"),
    ("Upgrade", "h2c"),
    ("trailer", "x-end"),
];

const METHODS: &[&str] =
    &["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "get", "PURGE", "M-SEARCH"];
const OTHER_HOSTS: &[&str] = &[
    "unknown.test",
    "paths.test.",
    "xpaths.test",
    "127.0.0.1",
    "[::1]:80",
    "wild.test",
    "paths.test:0",
    "-",
];

/// So many requests.
#[must_use]
pub fn generate(seed: u64, count: usize) -> Vec<Case> {
    let mut die = Die::new(seed);
    (0..count).map(|id| case(&mut die, id)).collect()
}

fn case(die: &mut Die, id: usize) -> Case {
    let host = die.pick(HOSTS);
    let rule = die.pick(host.rules);
    let (method, target, headers): Hint = *die.pick(rule.hints);
    let version = match die.below(10) {
        0..=5 => Version::Http11,
        6..=8 => Version::Http2,
        _ => Version::Http10,
    };
    let mut case = Case {
        id,
        version,
        method: method.to_owned(),
        target: target.to_owned(),
        host: (*die.pick(host.names)).to_owned(),
        headers: vec![("User-Agent".to_owned(), format!("case-{id}"))],
        body: body(die, method),
    };
    case.headers.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    bend(die, &mut case);
    if version == Version::Http10 {
        case.body = match case.body {
            Body::Chunks(chunks, _) => Body::Length(chunks.concat()),
            other => other,
        };
        case.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("expect"));
    }
    case
}

/// Changes some of it; most cases stay near their rule.
fn bend(die: &mut Die, case: &mut Case) {
    if die.percent(10) {
        case.method = (*die.pick(METHODS)).to_owned();
        // Nobody agrees on what these bodies mean; the smuggling corpus asks.
        if matches!(case.method.as_str(), "TRACE" | "HEAD" | "get") {
            case.body = Body::None;
        }
    }
    if die.percent(8) {
        case.host = (*die.pick(OTHER_HOSTS)).to_owned();
    }
    match die.below(20) {
        0..=2 => case.target = (*die.pick(ODD_TARGETS)).to_owned(),
        3 => case.target = encode_one(die, &case.target),
        4 => case.target.insert_str(0, "/x/.."),
        5 => case.target.push('/'),
        6 => case.target.push_str("?x=1"),
        7 => case.target.insert(0, '/'),
        _ => {}
    }
    for _ in 0..die.below(4) {
        let (name, value) = *die.pick(ODD_HEADERS);
        case.headers.push((name.to_owned(), value.to_owned()));
    }
    if case.version != Version::Http2 && die.percent(10) {
        let (name, value) = *die.pick(HOP_HEADERS);
        case.headers.push((name.to_owned(), value.to_owned()));
    }
}

fn encode_one(die: &mut Die, target: &str) -> String {
    let path = target.find('?').unwrap_or(target.len());
    if path < 2 {
        return target.to_owned();
    }
    let at = 1 + die.below(path - 1);
    let escape = format!("%{:02x}", target.as_bytes()[at]);
    format!("{}{escape}{}", &target[..at], &target[at + 1..])
}

fn body(die: &mut Die, method: &str) -> Body {
    let bytes = |die: &mut Die| -> Vec<u8> {
        let length = die.below(300);
        (0..length).map(|_| u8::try_from(die.below(256)).unwrap_or_default()).collect()
    };
    match (method, die.below(10)) {
        ("POST" | "PUT" | "PATCH", 0..=4) => Body::Length(bytes(die)),
        ("POST" | "PUT" | "PATCH", 5..=7) | ("DELETE", 0) => {
            let chunks = (0..die.below(4)).map(|_| bytes(die)).filter(|chunk| !chunk.is_empty()).collect();
            let trailers =
                if die.percent(30) { vec![("x-end".to_owned(), "done".to_owned())] } else { Vec::new() };
            Body::Chunks(chunks, trailers)
        }
        ("GET", 0) => Body::Length(bytes(die)),
        _ => Body::None,
    }
}
