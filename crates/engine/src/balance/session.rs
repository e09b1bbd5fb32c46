//! `Session`: what a client carries so that its requests stay with one endpoint.
//!
//! It names the endpoint by a hash of its address, which is no secret: whoever tries all addresses finds it. It leads only
//! to endpoints that the group of the request has, whatever a client makes of it; the times in it are the client's word.

use lateen_model::SessionPersistence;
use std::net::SocketAddr;
use std::time::Duration;
use twox_hash::XxHash64;

/// Keeps tokens apart from hashes of other kinds.
const SEED: u64 = 0x6c61_7465_656e;

/// What names an endpoint in a session.
pub(crate) fn token(endpoint: SocketAddr) -> u64 {
    let mut bytes = [0; 18];
    let ip = match endpoint.ip() {
        std::net::IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        std::net::IpAddr::V6(ip) => ip,
    };
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..].copy_from_slice(&endpoint.port().to_be_bytes());
    XxHash64::oneshot(SEED, &bytes)
}

/// A session. Times are seconds of the calendar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// What names its endpoint.
    pub endpoint: u64,
    /// The die by which the backend of the rule was chosen; the same die chooses the same one again.
    pub die: u64,
    /// When it began.
    began: u64,
    /// When it was last used.
    used: u64,
}

impl Session {
    /// One that begins now.
    pub fn new(endpoint: SocketAddr, die: u64, now: u64) -> Self {
        Self { endpoint: token(endpoint), die, began: now, used: now }
    }

    /// The same, used now.
    #[must_use]
    pub fn used(self, now: u64) -> Self {
        Self { used: now, ..self }
    }

    /// Whether it is of this endpoint.
    pub fn is_of(&self, endpoint: SocketAddr) -> bool {
        self.endpoint == token(endpoint)
    }

    /// As text for a cookie or a header.
    pub fn encode(&self) -> String {
        format!("{:016x}{:016x}{:010x}{:010x}", self.endpoint, self.die, self.began, self.used)
    }

    /// What a client sent, if it is a session that lasts still.
    pub fn decode(text: &str, policy: &SessionPersistence, now: u64) -> Option<Self> {
        if text.len() != 52 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let part = |range| u64::from_str_radix(&text[range], 16).ok();
        let session =
            Self { endpoint: part(0..16)?, die: part(16..32)?, began: part(32..42)?, used: part(42..52)? };
        let lasts = |since: u64, longest: Option<Duration>| {
            since <= now && longest.is_none_or(|longest| now - since < longest.as_secs().max(1))
        };
        let lasting =
            lasts(session.began, policy.absolute_timeout) && lasts(session.used, policy.idle_timeout);
        lasting.then_some(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_model::SessionToken;

    #[test]
    fn a_session_lasts_as_long_as_its_policy_says() {
        let policy = |absolute: Option<u64>, idle: Option<u64>| SessionPersistence {
            by: SessionToken::Header("x-session".into()),
            absolute_timeout: absolute.map(Duration::from_secs),
            idle_timeout: idle.map(Duration::from_secs),
        };
        let endpoint = "10.0.0.1:80".parse().expect("an address");
        let text = Session::new(endpoint, 7, 1000).used(1050).encode();
        for (policy, now, lasts) in [
            (policy(None, None), 1_000_000, true),
            (policy(None, None), 900, false),
            (policy(Some(100), None), 1099, true),
            (policy(Some(100), None), 1100, false),
            (policy(None, Some(10)), 1059, true),
            (policy(Some(100), Some(10)), 1060, false),
        ] {
            let session = Session::decode(&text, &policy, now);
            assert_eq!(session.is_some(), lasts, "{now}");
            assert!(session.is_none_or(|session| session.is_of(endpoint) && session.die == 7));
        }
        for bad in ["", "zz", &text[1..], &format!("+{}", &text[1..]), "é", &"0".repeat(53)] {
            assert_eq!(Session::decode(bad, &policy(None, None), 2000), None, "{bad}");
        }
    }
}
