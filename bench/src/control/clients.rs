//! Clients that follow the control plane as proxies do, and say when they have what.
//!
//! Some are our proxies' own code: they read every resource and compile it to the snapshot that requests
//! are decided by, so a change is in force when they have it. Two hundred of those would measure the one
//! core they share, so the rest speak the same protocol and acknowledge the same batches, but read only
//! the resources whose change they wait for.

mod thin;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use lateen_control::api::types::TokenRequest;
use lateen_engine::Compiler;
use lateen_model::{
    Identity, Labels, Namespace, NetworkId, NodeName, ProxyRole, Resource, Secret, ServiceAccount,
    TrustDomain, Viewer,
};
use lateen_pki::tls::{Accepted, Tls, WallClock};
use lateen_pki::{Current, TrustBundle};
use lateen_wire::client::{Following, follow};
use lateen_wire::{Claim, ControlPlane, Endpoint};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::mesh::{Change, MARK, Mesh, NAMESPACE};
use super::millis;
use super::plane::Plane;
use crate::figures::quantile;

/// How long a change may take to reach everyone.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a client took in one batch.
#[derive(Debug, Clone)]
struct Took {
    client: u32,
    at: Instant,
    /// Services and workloads.
    addresses: u32,
    /// Changing workloads with their marks.
    marks: Vec<(usize, u64)>,
}

impl Took {
    fn new(client: u32) -> Self {
        Took { client, at: Instant::now(), addresses: 0, marks: Vec::new() }
    }

    fn take(&mut self, resource: &Resource) {
        self.addresses += u32::from(matches!(resource, Resource::Workload(_) | Resource::Service(_)));
        let Resource::Workload(workload) = resource else { return };
        let index = workload.name.strip_prefix("changing-").and_then(|index| index.parse().ok());
        let mark = workload.labels.get(MARK).and_then(|mark| mark.parse().ok());
        self.marks.extend(index.zip(mark));
    }
}

/// How long one change took, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delays {
    pub(super) first: f64,
    pub(super) median: f64,
    pub(super) last: f64,
    /// Until the last of the whole clients decides by it.
    pub(super) in_force: f64,
}

/// All clients.
pub(super) struct Clients {
    count: u32,
    whole: u32,
    took: mpsc::UnboundedReceiver<Took>,
    /// When each client first had a mark of a changing workload, or a later one.
    seen: HashMap<(usize, u64), Vec<(u32, Instant)>>,
    newest: HashMap<(u32, usize), u64>,
    /// Owns the clients' tasks.
    _tasks: JoinSet<()>,
}

impl Clients {
    /// Connects all at once, `whole` of them with our proxies' own code; the time until the last has every
    /// service and workload.
    pub(super) async fn connect(
        plane: &Plane,
        count: u32,
        whole: u32,
        addresses: u32,
    ) -> anyhow::Result<(Self, Duration)> {
        let mut planes = Vec::new();
        for _ in 0..count {
            planes.push(invited(plane).await?);
        }
        let (sender, took) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let start = Instant::now();
        for (client, plane) in (0..).zip(planes) {
            let claim = Claim {
                role: ProxyRole::Sidecar,
                address: None,
                name: format!("client-{client}").into(),
                namespace: Namespace::parse(NAMESPACE)?,
            };
            if client < whole {
                let (following, task) = follow(move || plane.clone(), &claim);
                tasks.spawn(task);
                tasks.spawn(listen(client, viewer(client)?, following, sender.clone()));
            } else {
                tasks.spawn(thin::follow(client, plane, claim, sender.clone()));
            }
        }
        let (seen, newest) = (HashMap::new(), HashMap::new());
        let mut clients = Clients { count, whole, took, seen, newest, _tasks: tasks };
        let last = clients.wait_for_everything(addresses).await?;
        Ok((clients, last - start))
    }

    async fn wait_for_everything(&mut self, addresses: u32) -> anyhow::Result<Instant> {
        let mut held: HashMap<u32, u32> = HashMap::new();
        let mut complete = 0;
        loop {
            let took = self.next().await?;
            let held = held.entry(took.client).or_default();
            let before = *held;
            *held += took.addresses;
            if before < addresses && *held >= addresses {
                complete += 1;
            }
            if complete == self.count {
                return Ok(took.at);
            }
        }
    }

    /// How long a change took to each client, when every client has it.
    pub(super) async fn wait_for(&mut self, change: &Change) -> anyhow::Result<Delays> {
        let key = (change.workload, change.mark);
        while self.seen.get(&key).map_or(0, Vec::len) < self.count as usize {
            self.next().await?;
        }
        let seen = &self.seen[&key];
        let delay = |at: &Instant| millis(at.saturating_duration_since(change.at));
        let mut all: Vec<f64> = seen.iter().map(|(_, at)| delay(at)).collect();
        all.sort_by(f64::total_cmp);
        let whole = seen.iter().filter(|(client, _)| *client < self.whole).map(|(_, at)| delay(at));
        Ok(Delays {
            first: all.first().copied().unwrap_or_default(),
            median: quantile(&all, 0.5).unwrap_or_default(),
            last: all.last().copied().unwrap_or_default(),
            in_force: whole.fold(0.0, f64::max),
        })
    }

    /// Changes at a constant rate; how long each took.
    pub(super) async fn stream(
        &mut self,
        mesh: &mut Mesh,
        rate: u32,
        duration: Duration,
    ) -> anyhow::Result<Vec<Delays>> {
        let total = (duration.as_secs_f64() * f64::from(rate)) as usize;
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
        let mut changes = Vec::new();
        while changes.len() < total {
            tokio::select! {
                biased;
                _ = ticks.tick() => changes.push(mesh.change(changes.len())?),
                took = self.next() => drop(took?),
            }
        }
        let mut delays = Vec::new();
        for change in &changes {
            delays.push(self.wait_for(change).await?);
        }
        Ok(delays)
    }

    async fn next(&mut self) -> anyhow::Result<Took> {
        let took = tokio::time::timeout(PATIENCE, self.took.recv()).await;
        let took = took.context("a client waits in vain")?.context("every client has ended")?;
        for (workload, mark) in &took.marks {
            let newest = self.newest.entry((took.client, *workload)).or_default();
            // Whoever has a later mark has those before it too: changes may be sent as one.
            for passed in *newest + 1..=*mark {
                self.seen.entry((*workload, passed)).or_default().push((took.client, took.at));
            }
            *newest = (*newest).max(*mark);
        }
        Ok(took)
    }
}

/// Where one client connects, with a token of its own.
async fn invited(plane: &Plane) -> anyhow::Result<ControlPlane> {
    let identity = format!("spiffe://{}/ns/{NAMESPACE}/sa/default", plane.api.status().await?.trust_domain);
    let answer = plane.api.mint_token(&TokenRequest { identity, uid: None }).await?;
    let control: Identity = answer.control_identity.parse()?;
    let bundle = TrustBundle::from_pem(control.trust_domain.clone(), &answer.roots)?;
    let tls = Tls::new(Current::new(bundle), WallClock::new(SystemTime::now));
    let accepted = Accepted::Identities(Arc::from([control]));
    let plane =
        ControlPlane::new(Endpoint::Socket(plane.socket.clone()), tls.client(None, accepted, &[b"h2"]));
    Ok(plane.with_token(&Secret::new(answer.token))?)
}

fn viewer(client: u32) -> anyhow::Result<Viewer> {
    let namespace = Namespace::parse(NAMESPACE)?;
    Ok(Viewer {
        role: ProxyRole::Sidecar,
        name: format!("client-{client}").into(),
        identity: Identity::new(TrustDomain::default(), namespace, ServiceAccount::default()),
        labels: Labels::default(),
        node: NodeName::default(),
        network: NetworkId::default(),
    })
}

/// Takes batch after batch, compiles it, and says when that is done.
async fn listen(client: u32, viewer: Viewer, mut following: Following, sender: mpsc::UnboundedSender<Took>) {
    let mut compiler = Compiler::new(viewer);
    while let Some(update) = following.updates.recv().await {
        let mut took = Took::new(client);
        for entry in &update.batch.delta.set {
            took.take(&entry.resource);
        }
        let _snapshot = compiler.apply(&update.batch.delta);
        took.at = Instant::now();
        update.applied.done();
        if sender.send(took).is_err() {
            return;
        }
    }
}
