//! What ties a request to an endpoint: the hash of it, or the session of its client.

use lateen_engine::{
    Effective, Preference, RequestDecision, Session, Snapshot, cookie, decide_request, hash_of, set_cookie,
};
use lateen_model::{SessionPersistence, SessionToken};
use lateen_runtime::clock::Clock;
use lateen_runtime::random;
use std::net::SocketAddr;
use std::sync::Arc;

use super::{Exchange, View, with_die, with_facts};
use crate::http::head::{ResponseHead, is_value};

/// What ties one request.
#[derive(Default)]
pub(crate) struct Affinity {
    hash: Option<u64>,
    /// The cookie that keeps the hash the same from now on.
    hash_cookie: Option<String>,
    session: Option<Sticky>,
}

/// A rule whose sessions stay, and the session that the client brought.
struct Sticky {
    policy: Arc<SessionPersistence>,
    session: Option<Session>,
    /// The die that chose the backend.
    die: u64,
}

impl Exchange<'_> {
    /// Decides; the backend that a session was given is chosen again.
    pub(super) fn decide(&mut self, snapshot: &Snapshot) -> RequestDecision {
        let die = random::next_u64();
        let decide =
            |die| with_die(self.entry, &self.heads.request, die, |facts| decide_request(snapshot, facts));
        let decision = decide(die);
        let RequestDecision::Forward(forward) = &decision else { return decision };
        let Some(policy) = forward.effective.persistence.clone() else { return decision };
        let headers = View(&self.heads.request.fields);
        let told = match &policy.by {
            SessionToken::Cookie { name, .. } => cookie(&headers, name),
            SessionToken::Header(name) => {
                self.heads.request.fields.get(name).map(|value| String::from_utf8_lossy(value).into_owned())
            }
        };
        let session = told.and_then(|text| Session::decode(&text, &policy, Clock::system().unix_seconds()));
        let decision = session.map_or(decision, |session| decide(session.die));
        let die = session.map_or(die, |session| session.die);
        let sticky = Sticky { policy, session, die };
        self.trip.affinity = Some(Box::new(Affinity { session: Some(sticky), ..Affinity::default() }));
        decision
    }

    /// Hashes the request, as it is sent on, where its policy says so.
    pub(super) fn prefer(&mut self, effective: &Effective) {
        let Some(policy) = effective.traffic.balance.as_ref().and_then(|balance| balance.hash.as_ref())
        else {
            return;
        };
        let hashed = with_facts(self.entry, &self.heads.request, |facts| hash_of(facts, policy));
        if let Some(hashed) = hashed {
            let affinity = self.trip.affinity.get_or_insert_default();
            (affinity.hash, affinity.hash_cookie) = (Some(hashed.hash), hashed.set_cookie);
        }
    }

    /// Gives the client what its next request shall bring.
    pub(super) fn tell_affinity(&mut self) {
        if let (Some(affinity), Some(picked)) = (self.trip.affinity.take(), &self.trip.picked) {
            affinity.tell(picked.endpoint, &mut self.heads.response);
        }
    }
}

impl Affinity {
    pub(super) fn preference(&self) -> Preference {
        let session = self.session.as_ref().and_then(|sticky| sticky.session);
        Preference {
            hash: self.hash,
            session: session.map(|session| session.endpoint),
            ..Preference::default()
        }
    }

    fn tell(&self, endpoint: SocketAddr, response: &mut ResponseHead) {
        let mut add = |name: &str, value: &str| {
            if is_value(value.as_bytes()) {
                response.fields.add(name.as_bytes(), value.as_bytes());
            }
        };
        if let Some(cookie) = &self.hash_cookie {
            add("set-cookie", cookie);
        }
        let Some(sticky) = &self.session else { return };
        let Some(session) = sticky.to_tell(endpoint, Clock::system().unix_seconds()) else { return };
        match &sticky.policy.by {
            SessionToken::Header(name) => add(name, &session.encode()),
            SessionToken::Cookie { name, path, permanent } => {
                let lifetime = sticky.policy.absolute_timeout.filter(|_| *permanent);
                add("set-cookie", &set_cookie(name, &session.encode(), path, lifetime, &[]));
            }
        }
    }
}

impl Sticky {
    /// The session after this request; none when the client has it already.
    fn to_tell(&self, endpoint: SocketAddr, now: u64) -> Option<Session> {
        match self.session.filter(|session| session.is_of(endpoint)) {
            Some(session) => self.policy.idle_timeout.map(|_| session.used(now)),
            None => Some(Session::new(endpoint, self.die, now)),
        }
    }
}
