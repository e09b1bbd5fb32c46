//! `Answered`: what a rule answers itself, as far as that can be said without a connection.

use crate::rewrite::{MatchedPath, rewrite_path};
use crate::trace::Step;
use crate::{Effective, RequestFacts, host_of};
use lateen_model::{Answer, DirectResponse, Redirect, RedirectPort};
use std::fmt::Write as _;
use std::sync::Arc;

/// A request that is answered by its rule.
#[derive(Clone, Debug)]
pub struct Answered {
    /// With what.
    pub reply: Reply,
    /// What else the rule does: edits of the response, CORS. It has no endpoint.
    pub effective: Arc<Effective>,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Ask there.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// Where.
        location: String,
    },
    /// This.
    Direct(DirectResponse),
}

impl Reply {
    pub(crate) fn new(answer: &Answer, request: &RequestFacts<'_>, matched: MatchedPath) -> Self {
        match answer {
            Answer::Redirect(redirect) => {
                Self::Redirect { status: redirect.status, location: location(redirect, request, matched) }
            }
            Answer::Direct(direct) => Self::Direct(direct.clone()),
        }
    }

    /// Its status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Redirect { status, .. } => *status,
            Self::Direct(direct) => direct.status,
        }
    }
}

impl Answered {
    pub(crate) fn describe(&self) -> Step {
        let what = match &self.reply {
            Reply::Redirect { status, location } => format!("{status} to {location}"),
            Reply::Direct(direct) => format!("{} with a body of {} bytes", direct.status, direct.body.len()),
        };
        Step::Answer { what, filters: self.effective.describe_filters() }
    }
}

/// The location of a redirect. The well-known port of its scheme is never written (Envoy writes one that was set by
/// number; the URL is the same).
fn location(redirect: &Redirect, request: &RequestFacts<'_>, matched: MatchedPath) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(request.scheme);
    let said = host_of(request.authority);
    let host = redirect.host.as_deref().unwrap_or(said);
    let port = match redirect.port {
        RedirectPort::Number(port) => Some(port),
        RedirectPort::OfScheme => None,
        RedirectPort::OfRequest => Some(request.connection.destination.port()),
        RedirectPort::Unchanged if redirect.host.is_some() => None,
        // A well-known port that was said with another scheme means that scheme.
        RedirectPort::Unchanged => request.said_port().filter(|port| !is_well_known(request.scheme, *port)),
    };
    let mut out = format!("{scheme}://");
    let bracketed = host.contains(':') && !host.starts_with('[');
    out.push_str(if bracketed { "[" } else { "" });
    out.push_str(host);
    out.push_str(if bracketed { "]" } else { "" });
    if let Some(port) = port.filter(|port| !is_well_known(scheme, *port)) {
        let _ = write!(out, ":{port}");
    }
    match &redirect.path {
        None => out.push_str(request.path_and_query),
        Some(path) => {
            let new = rewrite_path(path, matched, request.path_and_query);
            out.push_str(without_second_query(&new));
        }
    }
    out
}

/// A query of the new path stands in the place of the request's.
fn without_second_query(target: &str) -> &str {
    match target.match_indices('?').nth(1) {
        Some((at, _)) => &target[..at],
        None => target,
    }
}

fn is_well_known(scheme: &str, port: u16) -> bool {
    matches!((scheme, port), ("http", 80) | ("https", 443))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ConnectionFacts, Direction, Headers};
    use lateen_model::PathRewrite;
    use std::borrow::Cow;

    struct NoHeaders;

    impl Headers for NoHeaders {
        fn get(&self, _: &str) -> Option<Cow<'_, str>> {
            None
        }
        fn any(&self, _: &str, _: &mut dyn FnMut(&str) -> bool) -> bool {
            false
        }
    }

    fn redirect(scheme: &str, host: &str, port: RedirectPort, path: Option<PathRewrite>) -> Redirect {
        let some = |text: &str| (!text.is_empty()).then(|| text.into());
        Redirect { status: 301, scheme: some(scheme), host: some(host), port, path }
    }

    #[test]
    fn locations() {
        use RedirectPort::{Number, OfRequest, OfScheme, Unchanged};
        let full = |path: &str| Some(PathRewrite::Full(path.into()));
        let prefix = |path: &str| Some(PathRewrite::Matched(path.into()));
        // By http, to port 8080 of the proxy.
        for (scheme, host, port, path, url, expected) in [
            ("", "", Unchanged, None, "a.example/x?y", "http://a.example/x?y"),
            ("", "", Unchanged, None, "a.example:8080/x", "http://a.example:8080/x"),
            ("", "", Unchanged, None, "a.example:80/x", "http://a.example/x"),
            ("https", "", Unchanged, None, "a.example/x", "https://a.example/x"),
            ("https", "", Unchanged, None, "a.example:80/x", "https://a.example/x"),
            ("https", "", Unchanged, None, "a.example:8080/x", "https://a.example:8080/x"),
            ("", "b.example", Unchanged, None, "a.example:8080/x", "http://b.example/x"),
            ("", "", Number(8443), None, "a.example:8080/x", "http://a.example:8443/x"),
            ("https", "", Number(443), None, "a.example:8080/x", "https://a.example/x"),
            ("", "", Number(443), None, "a.example/x", "http://a.example:443/x"),
            ("https", "", OfScheme, None, "a.example:8080/x", "https://a.example/x"),
            ("", "b.example", OfRequest, None, "a.example/x", "http://b.example:8080/x"),
            ("", "", OfRequest, None, "a.example/x", "http://a.example:8080/x"),
            ("", "", Unchanged, None, "[fd00::1]:81/x", "http://[fd00::1]:81/x"),
            ("", "fd00::2", Unchanged, None, "a.example/x", "http://[fd00::2]/x"),
            ("", "", Unchanged, full("/new"), "a.example/x?y=1", "http://a.example/new?y=1"),
            ("", "", Unchanged, full("/new?z"), "a.example/x?y=1", "http://a.example/new?z"),
            ("", "", Unchanged, prefix("/new"), "a.example/x/b?y", "http://a.example/new/b?y"),
            ("", "", Unchanged, full("/a\r\nb"), "a.example/x", "http://a.example/a%0D%0Ab"),
        ] {
            let connection = ConnectionFacts {
                direction: Direction::Gateway,
                client: "10.0.0.9:1".parse().expect("an address"),
                destination: "10.0.0.1:8080".parse().expect("an address"),
                destination_host: None,
                peer: None,
                sni: None,
                tls: false,
            };
            let (authority, path_and_query) = url.split_at(url.find('/').expect("a path"));
            let request = RequestFacts {
                connection: &connection,
                scheme: "http",
                method: "GET",
                authority,
                path_and_query,
                headers: &NoHeaders,
                random: 0,
            };
            let redirect = redirect(scheme, host, port, path);
            let found = location(&redirect, &request, MatchedPath::Segments(2));
            assert_eq!(found, expected, "{redirect:?} {url}");
        }
    }
}
