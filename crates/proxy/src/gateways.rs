//! The listeners of a gateway come and go with the resources: with each snapshot what is open is compared with what
//! should be.
//!
//! Certificates change without a listener being closed. A port that cannot be opened is tried again, and the others
//! are served meanwhile. A listener that goes away lets those in who were waiting already.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use lateen_engine::Snapshot;
use lateen_model::{ClientCertificate, Credential, HostPattern, Key, Listener, ListenerProtocol};
use lateen_pki::tls::{ListenerCredential, ListenerSettings, ListenerTerms, WallClock};
use lateen_runtime::broker::Broker;
use lateen_runtime::clock::{self, Clock};
use lateen_runtime::live::LiveHandle;
use lateen_runtime::ready::StartupTask;
use tokio::sync::{mpsc, watch};

use crate::enter::Door;
use crate::listen::{Bound, is_missing_family, one_for_each};

/// When a port that could not be opened is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// What is spoken under the TLS of a gateway, best first.
const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// A listener for one worker, and what it is for at the moment; none closes it.
pub(crate) struct Opened {
    pub(crate) listener: TcpListener,
    pub(crate) doors: watch::Receiver<Option<Door>>,
}

/// Who opens ports.
pub(crate) enum Opener {
    /// The broker, on the machine.
    Broker(Broker),
    /// We ourselves.
    Here,
}

impl Opener {
    /// A socket for each worker, and where they can be reached.
    async fn open(&self, port: u16, workers: usize) -> io::Result<(Vec<TcpListener>, SocketAddr)> {
        match self {
            Self::Broker(broker) => {
                let (listener, published) = broker.listen(port).await?;
                // One queue for all: whoever is free accepts.
                let copies = (1..workers).map(|_| listener.try_clone()).collect::<io::Result<Vec<_>>>()?;
                Ok((std::iter::once(listener).chain(copies).collect(), published))
            }
            Self::Here => {
                let (mut sockets, address) = one_for_each((Ipv4Addr::UNSPECIFIED, port).into(), workers)?;
                match one_for_each((Ipv6Addr::UNSPECIFIED, address.port()).into(), workers) {
                    Ok((more, _)) => sockets.extend(more),
                    Err(error) if is_missing_family(&error) => {}
                    Err(error) => return Err(error),
                }
                Ok((sockets, address))
            }
        }
    }
}

/// How TLS ends for the hosts of a port: compared with what was wanted before, so that nothing is made twice.
type Terms = Vec<(HostPattern, Host)>;

/// How TLS ends for one host.
#[derive(Clone, PartialEq)]
struct Host {
    credentials: Vec<Credential>,
    clients: ClientCertificate,
}

/// A port that is open.
struct Port {
    terms: Option<Terms>,
    published: SocketAddr,
    doors: watch::Sender<Option<Door>>,
}

/// Keeps the ports of a gateway.
pub(crate) struct Gateways {
    opener: Opener,
    workers: Vec<mpsc::UnboundedSender<Opened>>,
    ports: BTreeMap<u16, Port>,
    clock: Clock,
    listening: watch::Sender<Vec<Bound>>,
}

impl Gateways {
    /// Nothing is open yet; `listening` is told what is.
    pub(crate) fn new(
        opener: Opener,
        workers: Vec<mpsc::UnboundedSender<Opened>>,
        clock: Clock,
        listening: watch::Sender<Vec<Bound>>,
    ) -> Self {
        Self { opener, workers, ports: BTreeMap::new(), clock, listening }
    }

    /// Follows the snapshots for ever; `first` is done when the first was looked at.
    pub(crate) async fn run(mut self, snapshots: LiveHandle<Snapshot>, first: StartupTask) {
        let mut first = Some(first);
        let mut seen = 0;
        let mut snapshot = snapshots.current();
        let mut complete = true;
        loop {
            tokio::select! {
                (version, newer) = snapshots.newer_than(seen) => (seen, snapshot) = (version, newer),
                () = clock::sleep(AGAIN), if !complete => {}
            }
            complete = self.reconcile(&snapshot).await;
            if let Some(first) = first.take() {
                first.done();
            }
        }
    }

    /// Opens, changes and closes; false when a port could not be opened.
    async fn reconcile(&mut self, snapshot: &Snapshot) -> bool {
        let wanted = wanted(snapshot);
        let before = self.ports.len();
        self.ports.retain(|port, open| {
            let stays = wanted.contains_key(port);
            if !stays {
                tracing::info!(port, address = %open.published, "listener closed");
                open.doors.send_replace(None);
            }
            stays
        });
        let mut changed = before != self.ports.len();
        let mut complete = true;
        for (port, terms) in wanted {
            if let Some(open) = self.ports.get_mut(&port) {
                if open.terms != terms {
                    open.doors.send_replace(Some(door(port, terms.as_ref(), self.clock)));
                    open.terms = terms;
                }
                continue;
            }
            match self.open(port, terms).await {
                Ok(open) => {
                    tracing::info!(port, address = %open.published, "listening");
                    self.ports.insert(port, open);
                    changed = true;
                }
                Err(error) => {
                    tracing::error!(port, %error, "cannot open the listener; is the port taken?");
                    complete = false;
                }
            }
        }
        if changed {
            let bound = |(port, open): (&u16, &Port)| Bound {
                name: format!("gateway:{port}"),
                address: open.published,
            };
            self.listening.send_replace(self.ports.iter().map(bound).collect());
        }
        complete
    }

    async fn open(&self, port: u16, terms: Option<Terms>) -> io::Result<Port> {
        let (sockets, published) = self.opener.open(port, self.workers.len()).await?;
        let (doors, follow) = watch::channel(Some(door(port, terms.as_ref(), self.clock)));
        for (listener, worker) in sockets.into_iter().zip(self.workers.iter().cycle()) {
            // A worker is gone only when the process ends.
            let _ = worker.send(Opened { listener, doors: follow.clone() });
        }
        Ok(Port { terms, published, doors })
    }
}

/// Every port that should be open, and how TLS ends there.
fn wanted(snapshot: &Snapshot) -> BTreeMap<u16, Option<Terms>> {
    let mut wanted: BTreeMap<u16, Option<Terms>> = BTreeMap::new();
    for (_, listener) in snapshot.listeners() {
        // No kind of route leads from a listener of plain TCP yet.
        if listener.protocol == ListenerProtocol::Tcp {
            continue;
        }
        let terms = wanted.entry(listener.port).or_default();
        if listener.protocol == ListenerProtocol::Https {
            let terms = terms.get_or_insert_with(Terms::new);
            terms.extend(hosts(listener, |key| snapshot.credential(key).cloned()));
        }
    }
    wanted
}

/// The hosts of a listener, those too that have no credential: they refuse.
fn hosts(listener: &Listener, credential: impl Fn(&Key) -> Option<Credential>) -> Terms {
    let host = match &listener.tls {
        Some(tls) => Host {
            credentials: tls.credentials.iter().filter_map(credential).collect(),
            clients: tls.client_certificate,
        },
        None => Host { credentials: Vec::new(), clients: ClientCertificate::None },
    };
    let any = [HostPattern::Any];
    let patterns = if listener.hosts.is_empty() { &any[..] } else { &listener.hosts[..] };
    patterns.iter().map(|pattern| (pattern.clone(), host.clone())).collect()
}

/// What a port is for. A host whose certificates cannot be used refuses every handshake.
fn door(port: u16, terms: Option<&Terms>, clock: Clock) -> Door {
    let Some(terms) = terms else { return Door::Gateway { port, tls: None } };
    let clock = WallClock::new(move || clock.wall());
    let read = |(pattern, host): &(HostPattern, Host)| {
        let usable = |credential: &Credential| match ListenerCredential::new(credential) {
            Ok(credential) => Some(credential),
            Err(error) => {
                tracing::warn!(port, host = %pattern, %error, "certificate of the listener not usable");
                None
            }
        };
        let credentials = host.credentials.iter().filter_map(usable).collect();
        (pattern.clone(), ListenerTerms { credentials, clients: host.clients == ClientCertificate::Required })
    };
    let (settings, wrong) = ListenerSettings::new(terms.iter().map(read), &clock, ALPN);
    for (host, error) in wrong {
        tracing::warn!(port, %host, %error, "the listener refuses everybody");
    }
    Door::Gateway { port, tls: Some(Arc::new(settings)) }
}

#[cfg(test)]
mod tests;
