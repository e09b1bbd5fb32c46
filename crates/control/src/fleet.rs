//! Connected proxies: who they are, what each has in force, what it refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lateen_model::{Identity, ProxyRole, Revision, Str};
use lateen_wire::server::Origin;

/// Everybody who is connected. Clones share it.
#[derive(Clone, Default, Debug)]
pub struct Fleet(Arc<Mutex<Members>>);

#[derive(Default, Debug)]
struct Members {
    next: u64,
    proxies: BTreeMap<u64, Proxy>,
    /// The end of the last certificate that a proxy got. Replicas share an identity, so its origin tells more.
    certificates: BTreeMap<(Origin, Identity), u64>,
}

/// One connected proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// How it calls itself.
    pub node: Str,
    /// Who it is, as verified.
    pub identity: Identity,
    /// What it plays.
    pub role: ProxyRole,
    /// Where it calls from.
    pub origin: Origin,
    /// Since when, in seconds since 1970.
    pub since: u64,
    /// The newest revision that it has in force.
    pub acknowledged: Option<Revision>,
    /// What it refused, with why.
    pub refused: BTreeMap<String, String>,
    /// When its certificate ends, in seconds since 1970.
    pub certificate_expires: Option<u64>,
}

/// A place in the fleet; dropping it leaves.
#[derive(Debug)]
pub struct Member {
    fleet: Fleet,
    id: u64,
}

impl Fleet {
    /// A proxy begins to follow.
    pub fn join(&self, mut proxy: Proxy) -> Member {
        let mut members = self.lock();
        let issued = members.certificates.get(&(proxy.origin, proxy.identity.clone())).copied();
        proxy.certificate_expires = proxy.certificate_expires.max(issued);
        members.next += 1;
        let id = members.next;
        members.proxies.insert(id, proxy);
        Member { fleet: self.clone(), id }
    }

    /// A proxy got a certificate that ends then (seconds since 1970).
    pub fn certified(&self, origin: Origin, identity: &Identity, expires: u64, now: u64) {
        let mut members = self.lock();
        members.certificates.retain(|_, expires| *expires > now);
        if origin == Origin::Unknown {
            return;
        }
        members.certificates.insert((origin, identity.clone()), expires);
        for proxy in members.proxies.values_mut() {
            if proxy.origin == origin && proxy.identity == *identity {
                proxy.certificate_expires = Some(expires);
            }
        }
    }

    /// All that are connected, by node.
    pub fn proxies(&self) -> Vec<Proxy> {
        let mut proxies: Vec<_> = self.lock().proxies.values().cloned().collect();
        proxies.sort_by(|a, b| (&a.node, a.since).cmp(&(&b.node, b.since)));
        proxies
    }

    /// How many are connected.
    pub fn len(&self) -> usize {
        self.lock().proxies.len()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The oldest revision that some connected proxy has in force; none while one has none, or nobody is connected.
    pub fn slowest(&self) -> Option<Revision> {
        self.lock().proxies.values().map(|proxy| proxy.acknowledged).min().flatten()
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// How far it is: the newest revision it has in force, and all that it refuses now.
    pub fn reached(&self, acknowledged: Option<Revision>, refused: BTreeMap<String, String>) {
        self.change(|proxy| {
            proxy.acknowledged = proxy.acknowledged.max(acknowledged);
            proxy.refused = refused;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Proxy)) {
        self.fleet.lock().proxies.get_mut(&self.id).map(change);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.fleet.lock().proxies.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(node: &str, pid: i32) -> Proxy {
        Proxy {
            node: node.into(),
            identity: Identity::parse("spiffe://cluster.local/ns/shop/sa/cart").expect("an identity"),
            role: ProxyRole::Sidecar,
            origin: Origin::Process(pid),
            since: 1,
            acknowledged: None,
            refused: BTreeMap::new(),
            certificate_expires: None,
        }
    }

    #[test]
    fn who_is_connected_and_what_it_has() {
        let fleet = Fleet::default();
        assert_eq!(fleet.slowest(), None);
        let (first, second) = (fleet.join(proxy("a.shop", 1)), fleet.join(proxy("b.shop", 2)));
        first.reached(Some(Revision(7)), BTreeMap::from([("route".into(), "why".into())]));
        assert_eq!((fleet.len(), fleet.slowest()), (2, None));
        second.reached(Some(Revision(5)), BTreeMap::new());
        assert_eq!(fleet.proxies()[0].refused.len(), 1);
        first.reached(Some(Revision(6)), BTreeMap::new());
        assert_eq!(fleet.slowest(), Some(Revision(5)));
        drop(second);
        assert_eq!((fleet.len(), fleet.slowest()), (1, Some(Revision(7))));
    }

    #[test]
    fn certificates_are_told_apart_by_process() {
        let fleet = Fleet::default();
        let identity = proxy("", 1).identity;
        let _first = fleet.join(proxy("a.shop", 1));
        fleet.certified(Origin::Process(1), &identity, 100, 10);
        fleet.certified(Origin::Process(2), &identity, 200, 10);
        let _second = fleet.join(proxy("b.shop", 2));
        let ends: Vec<_> = fleet.proxies().iter().map(|proxy| proxy.certificate_expires).collect();
        assert_eq!(ends, [Some(100), Some(200)]);
    }
}
