//! `ConnectionFacts` and `RequestFacts`: all that a decision may look at.

use crate::BackendId;
use lateen_model::{Identity, Str};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How a connection came to us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Direction {
    /// An application of ours dials out. The caller is the proxy's own workload.
    Outbound,
    /// Somebody dials an application of ours: captured plaintext, or the target of an HBONE tunnel.
    Inbound,
    /// Somebody dials a listener of a gateway.
    Gateway,
}

/// What is known of a connection before its first byte is read (or, at a gateway, after TLS).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionFacts {
    /// How it came to us.
    pub direction: Direction,
    /// Where it comes from, as seen by us.
    pub client: SocketAddr,
    /// Where it was meant to go: the original destination, the authority of the tunnel, the listener's address.
    pub destination: SocketAddr,
    /// The host it was meant for, when that was said by name (plain mode's listeners, HBONE by host name).
    pub destination_host: Option<Str>,
    /// Who is at the other end, proved by mTLS. None is plaintext.
    pub peer: Option<Arc<Identity>>,
    /// The server name of a TLS that ended here.
    pub sni: Option<Str>,
    /// Whether TLS ended here (at a gateway), so that requests are `https`.
    pub tls: bool,
}

/// The heads of requests as decisions read them, whatever protocol brought them.
pub trait Headers {
    /// The value of a header, several values joined by `,`. The name is lower case and no pseudo-header.
    fn get(&self, name: &str) -> Option<Cow<'_, str>>;

    /// Whether `holds` is true of any of the values of a header, each as a field of its own. A header that may come
    /// several times must be asked so: joined, a second value hides what the first one is.
    fn any(&self, name: &str, holds: &mut dyn FnMut(&str) -> bool) -> bool;
}

/// What is known of a request when its head was read.
#[derive(Clone, Copy)]
pub struct RequestFacts<'a> {
    /// The connection that brought it.
    pub connection: &'a ConnectionFacts,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The method.
    pub method: &'a str,
    /// `:authority` or `Host`, as sent, with its port; empty when there is none.
    pub authority: &'a str,
    /// The path and query, normalised as the mesh says.
    pub path_and_query: &'a str,
    /// The other headers.
    pub headers: &'a dyn Headers,
    /// A random number: pure code has no dice.
    pub random: u64,
}

impl<'a> RequestFacts<'a> {
    /// The path without its query.
    pub fn path(&self) -> &'a str {
        let end = self.path_and_query.bytes().position(|byte| byte == b'?');
        end.map_or(self.path_and_query, |end| &self.path_and_query[..end])
    }

    /// The query without its `?`.
    pub fn query(&self) -> &'a str {
        self.path_and_query.split_once('?').map_or("", |(_, query)| query)
    }

    /// The port of the authority, if it says one.
    pub fn said_port(&self) -> Option<u16> {
        let (before, port) = self.authority.rsplit_once(':')?;
        (!before.contains(':') || before.ends_with(']')).then(|| port.parse().ok()).flatten()
    }

    /// The host of the authority, without port.
    pub fn host(&self) -> &'a str {
        host_of(self.authority)
    }
}

/// The host part of `host[:port]` or `[v6][:port]`.
pub fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// The endpoints that were tried already and are not asked again.
#[derive(Clone, Default, Debug)]
pub struct Excluded(smallvec::SmallVec<[SocketAddr; 4]>);

impl Excluded {
    /// One more.
    pub fn add(&mut self, endpoint: SocketAddr) {
        if !self.contains(endpoint) {
            self.0.push(endpoint);
        }
    }

    /// Whether it was tried.
    pub fn contains(&self, endpoint: SocketAddr) -> bool {
        self.0.contains(&endpoint)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &SocketAddr> {
        self.0.iter()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a request wants of a choice, beyond the algorithm of the group.
#[derive(Clone, Copy, Default, Debug)]
pub struct Preference {
    /// The hash that decides, where the group has a table of hashes.
    pub hash: Option<u64>,
    /// The endpoint of its session (`Session::endpoint`), as long as the group has it and it may be used.
    pub session: Option<u64>,
    /// A retry may leave the localities that were tried (`retryRemoteLocalities`).
    pub other_localities: bool,
}

/// The endpoints of a group that are ejected, in order.
#[derive(Clone, Debug)]
pub struct LeftOut(Arc<[SocketAddr]>);

impl LeftOut {
    /// These; none for nobody.
    pub fn new(mut endpoints: Vec<SocketAddr>) -> Option<Self> {
        endpoints.sort_unstable();
        endpoints.dedup();
        (!endpoints.is_empty()).then(|| Self(endpoints.into()))
    }

    /// Whether this one is.
    pub fn contains(&self, endpoint: SocketAddr) -> bool {
        self.0.binary_search(&endpoint).is_ok()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &SocketAddr> {
        self.0.iter()
    }

    /// How many, which is never none.
    #[expect(clippy::len_without_is_empty, reason = "nobody left out is no value of this type")]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// What a worker knows of endpoints, and the cursors of round robin: what is not in the snapshot.
pub trait Load {
    /// Requests or connections under way to this endpoint from this worker.
    fn active(&self, endpoint: SocketAddr) -> u32;
    /// The next number of a cursor that belongs to this group of endpoints, or to a part of it.
    fn next(&self, cursor: u64) -> u64;
    /// The endpoints of a group that may not be used now.
    fn left_out(&self, group: BackendId) -> Option<LeftOut>;
    /// The present, by the clock that `Compiler::at` is told; asked only where endpoints warm up.
    fn now(&self) -> Duration;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_authorities() {
        for (authority, host) in [
            ("reviews:9080", "reviews"),
            ("reviews", "reviews"),
            ("[fd00::1]:80", "fd00::1"),
            ("fd00::1", "fd00::1"),
            ("1.2.3.4:1", "1.2.3.4"),
            ("", ""),
        ] {
            assert_eq!(host_of(authority), host, "{authority}");
        }
    }
}
