//! One request through all proxies that it meets: each is asked with the snapshot that it would have.

use crate::explain::{Explanation, Taken, explain};
use crate::gateway::gateway_of;
use crate::normalize::normalize_path;
use crate::rewrite::rewrite_path;
use crate::snapshot::Snapshot;
use crate::{ConnectionFacts, Destination, Direction, Forward, Headers, Hop, RequestFacts};
use lateen_model::{
    Catalog, Entry, HeaderEdit, Hostname, PathRewrite, ProxyRole, Resource, Tunnel, Viewer, Workload,
};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// A client outside of the mesh, as documentation writes it (RFC 5737).
const OUTSIDE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 40000);

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Who sends: `namespace/name` of a workload, or of what it is an instance of. From a gateway: what comes in there.
    pub from: String,
    /// The URL: `http://`, or `https://` and `tcp://` for bytes that no proxy looks into.
    pub to: String,
    /// The method.
    pub method: String,
    /// Headers, names in any case.
    pub headers: Vec<(String, String)>,
    /// The die of weights and endpoints.
    pub random: u64,
}

/// Why a question cannot be asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CannotAsk {
    /// The URL is none.
    #[error(
        "{url:?} is no URL that can be explained; expected http://HOST[:PORT][/PATH], https:// or tcp://"
    )]
    Url {
        /// As given.
        url: String,
    },
    /// Nobody has the name.
    #[error("no workload is called {name:?}; there are: {known}")]
    NoWorkload {
        /// As given.
        name: String,
        /// Those there are.
        known: String,
    },
}

/// What becomes of a request, proxy after proxy.
#[derive(Clone, Debug)]
pub struct Journey {
    /// What was asked.
    pub question: Question,
    /// The proxies that it meets.
    pub legs: Vec<Leg>,
    /// Whether it arrives.
    pub arrives: bool,
}

/// What one proxy does.
#[derive(Clone, Debug)]
pub struct Leg {
    /// The workload of the proxy.
    pub proxy: String,
    /// Whether it goes out, comes in, or enters at a gateway.
    pub direction: String,
    /// The decisions.
    pub explanation: Explanation,
}

impl fmt::Display for Journey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for leg in &self.legs {
            writeln!(f, "{} ({})", leg.proxy, leg.direction)?;
            for line in leg.explanation.to_string().lines() {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}

/// Follows a request through the proxies of a mesh.
///
/// # Errors
/// When nobody has the name that it comes from, or the URL is none.
pub fn journey(catalog: &Catalog, question: &Question) -> Result<Journey, CannotAsk> {
    let url = Url::parse(&question.to).ok_or_else(|| CannotAsk::Url { url: question.to.clone() })?;
    let from = find(catalog, &question.from)?;
    let headers = question.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    let path = url.path.to_owned();
    let mut request = Request { url, path, question, headers: headers.collect() };
    let viewer = viewer(catalog, from);
    let direction = if viewer.role == ProxyRole::Gateway { Direction::Gateway } else { Direction::Outbound };
    let snapshot = Snapshot::of(catalog, viewer);
    let facts = request.sent(&snapshot, from, direction);
    let mut legs = vec![leg(&snapshot, &facts, &request)];
    if let Some((server, facts)) = legs[0].explanation.taken.as_ref().and_then(|taken| arrives(taken, from)) {
        if let Some(taken) = &legs[0].explanation.taken {
            request.treat(&snapshot, &taken.forward);
        }
        let snapshot = Snapshot::of(catalog, viewer_of(&server, ProxyRole::Sidecar));
        legs.push(leg(&snapshot, &facts, &request));
    }
    let arrives = legs.iter().all(|leg| leg.explanation.passes);
    Ok(Journey { question: question.clone(), legs, arrives })
}

fn leg(snapshot: &Snapshot, facts: &ConnectionFacts, request: &Request<'_>) -> Leg {
    // Decided by the path that the proxies would send on, not by one of its other spellings.
    let path = normalize_path(&request.path, snapshot.mesh().path_normalization);
    let head = path.as_deref().map(|path| request.head(facts, path));
    let is_http = request.url.scheme == "http";
    let viewer = snapshot.viewer();
    let direction = match facts.direction {
        Direction::Outbound => "outbound",
        Direction::Inbound => "inbound",
        Direction::Gateway => "gateway",
    };
    Leg {
        proxy: format!("{}/{}", viewer.namespace(), viewer.name),
        direction: direction.to_owned(),
        explanation: match &head {
            None if is_http => {
                Explanation::refused("with 400: the path climbs above its root or holds a NUL")
            }
            head => explain(snapshot, facts, head.as_ref().filter(|_| is_http), request.question.random),
        },
    }
}

/// The proxy that is met next, and what it will know of the connection.
fn arrives(taken: &Taken, from: &Workload) -> Option<(Arc<Workload>, ConnectionFacts)> {
    if matches!(taken.forward.to, Destination::Local(_)) {
        return None;
    }
    let server = taken.picked.workload.clone().filter(|server| server.tunnel != Tunnel::None)?;
    let facts = ConnectionFacts {
        direction: Direction::Inbound,
        client: home(from),
        destination: taken.picked.endpoint,
        destination_host: None,
        peer: matches!(taken.picked.hop, Hop::Hbone { .. }).then(|| Arc::new(from.identity())),
        sni: None,
        tls: false,
    };
    Some((server, facts))
}

fn home(workload: &Workload) -> SocketAddr {
    workload.addresses.first().map_or(OUTSIDE, |ip| SocketAddr::new(*ip, OUTSIDE.port()))
}

/// The workload with a name, or the first instance of what has the name.
fn find<'a>(catalog: &'a Catalog, name: &str) -> Result<&'a Workload, CannotAsk> {
    let mut all: Vec<&Workload> = catalog
        .iter()
        .filter_map(|entry| match &entry.resource {
            Resource::Workload(workload) => Some(workload),
            _ => None,
        })
        .collect();
    all.sort_by_key(|workload| (&workload.namespace, &workload.name));
    let (namespace, short) = name.split_once('/').unwrap_or(("default", name));
    let here = || all.iter().filter(|workload| workload.namespace.as_str() == namespace);
    here()
        .find(|workload| workload.name == short)
        .or_else(|| here().find(|workload| workload.workload_name == short))
        .or_else(|| all.iter().find(|workload| plays_gateway(catalog, workload, namespace, short)))
        .copied()
        .ok_or_else(|| {
            let mut known: Vec<_> =
                all.iter().map(|workload| format!("{}/{}", workload.namespace, workload.name)).collect();
            if known.is_empty() {
                known.push("none".to_owned());
            }
            CannotAsk::NoWorkload { name: name.to_owned(), known: known.join(", ") }
        })
}

/// Whether a workload plays the gateway of a name.
fn plays_gateway(catalog: &Catalog, workload: &Workload, namespace: &str, name: &str) -> bool {
    let viewer = viewer_of(workload, ProxyRole::Gateway);
    let mut gateways = catalog.iter().filter(|entry| {
        entry.key.namespace.as_str() == namespace && entry.key.name == name && gateway_of(entry).is_some()
    });
    gateways.any(|entry| asks_for(entry, &viewer))
}

/// Whether a gateway asks for the labels of this viewer.
fn asks_for(entry: &Entry, viewer: &Viewer) -> bool {
    gateway_of(entry)
        .is_some_and(|gateway| !gateway.selector.is_empty() && crate::gateway::plays(viewer, gateway))
}

/// The viewer that the proxy of a workload is. It plays a gateway when one asks for its labels.
fn viewer(catalog: &Catalog, workload: &Workload) -> Viewer {
    let gateway = viewer_of(workload, ProxyRole::Gateway);
    if catalog.iter().any(|entry| asks_for(entry, &gateway)) {
        gateway
    } else {
        Viewer { role: ProxyRole::Sidecar, ..gateway }
    }
}

fn viewer_of(workload: &Workload, role: ProxyRole) -> Viewer {
    Viewer {
        role,
        name: workload.name.clone(),
        identity: workload.identity(),
        labels: workload.labels.clone(),
        node: workload.node.clone(),
        network: workload.network.clone(),
    }
}

/// The request on its way.
struct Request<'a> {
    url: Url<'a>,
    /// Path and query as they are now.
    path: String,
    question: &'a Question,
    headers: Vec<(String, String)>,
}

impl Request<'_> {
    /// The connection as the first proxy sees it: the application has resolved the name as we would. A name
    /// that nobody declared has an address that does not matter, so the name itself is said.
    fn sent(&self, snapshot: &Snapshot, from: &Workload, direction: Direction) -> ConnectionFacts {
        let at_gateway = direction == Direction::Gateway;
        let literal = self.url.host.parse().ok();
        let resolved = || snapshot.resolve(self.url.host).and_then(|found| found.first().copied());
        let ip = if at_gateway { Some(home(from).ip()) } else { literal.or_else(resolved) };
        ConnectionFacts {
            direction,
            client: if at_gateway { OUTSIDE } else { home(from) },
            destination: SocketAddr::new(ip.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), self.url.port),
            destination_host: ip.is_none().then(|| self.url.host.into()),
            peer: None,
            sni: None,
            tls: false,
        }
    }

    fn head<'a>(&'a self, facts: &'a ConnectionFacts, path: &'a str) -> RequestFacts<'a> {
        let host = self.headers.iter().find(|(name, _)| name == "host").map(|(_, value)| value.as_str());
        RequestFacts {
            connection: facts,
            scheme: self.url.scheme,
            method: &self.question.method,
            authority: host.unwrap_or(self.url.authority),
            path_and_query: path,
            headers: self,
            random: self.question.random,
        }
    }

    /// What the filters of a rule make of the head.
    fn treat(&mut self, snapshot: &Snapshot, forward: &Forward) {
        let Some(filters) = forward.effective.filters.as_deref() else { return };
        for HeaderEdit { set, add, remove } in &filters.request {
            let gone = |name: &str| {
                set.iter().any(|(set, _)| *set == *name) || remove.iter().any(|removed| *removed == *name)
            };
            self.headers.retain(|(name, _)| !gone(name));
            let put = set.iter().chain(add);
            self.headers.extend(put.map(|(name, value)| (name.to_string(), value.to_string())));
        }
        let normal = normalize_path(&self.path, snapshot.mesh().path_normalization);
        let rewritten = |path: &PathRewrite| Some(rewrite_path(path, forward.matched, normal.as_deref()?));
        if let Some(path) = filters.path.as_ref().and_then(rewritten) {
            self.path = path;
        }
        if let Some(authority) = &filters.authority {
            self.headers.retain(|(name, _)| name != "host");
            self.headers.push(("host".to_owned(), authority.to_string()));
        }
    }
}

impl Headers for Request<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values =
            self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let first = values.next()?;
        Some(values.fold(Cow::Borrowed(first), |all, value| Cow::Owned(format!("{all},{value}"))))
    }

    fn any(&self, name: &str, holds: &mut dyn FnMut(&str) -> bool) -> bool {
        self.headers.iter().any(|(known, value)| known == name && holds(value))
    }
}

/// The parts of a URL that decisions look at.
struct Url<'a> {
    scheme: &'a str,
    authority: &'a str,
    host: &'a str,
    port: u16,
    path: &'a str,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let default = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            "tcp" => None,
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.split('#').next().unwrap_or_default();
        let host = crate::host_of(authority);
        let bracketed = authority.rsplit_once(']').map(|(_, port)| port);
        let port = match bracketed.or_else(|| authority.strip_prefix(host)).unwrap_or_default() {
            "" => default?,
            port => port.strip_prefix(':')?.parse().ok()?,
        };
        let good = Hostname::parse(host).is_ok() && !path.contains(' ');
        let path = if path.is_empty() { "/" } else { path };
        (good && !path.starts_with('?')).then_some(Self { scheme, authority, host, port, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, expected) in [
            ("http://reviews.default:9080/reviews/1?x#y", Some(("reviews.default", 9080, "/reviews/1?x"))),
            ("http://a", Some(("a", 80, "/"))),
            ("a:81/b", Some(("a", 81, "/b"))),
            ("https://a/b", Some(("a", 443, "/b"))),
            ("http://[fd00::1]:8/", Some(("fd00::1", 8, "/"))),
            ("http://[fd00::1]/", Some(("fd00::1", 80, "/"))),
            ("tcp://a:1", Some(("a", 1, "/"))),
            ("tcp://a", None),
            ("ftp://a", None),
            ("http://", None),
            ("http://a:x/", None),
            ("http://a:99999/", None),
            ("http://u@a/", None),
        ] {
            let found = Url::parse(text).map(|url| (url.host, url.port, url.path));
            assert_eq!(found, expected, "{text}");
        }
    }
}
