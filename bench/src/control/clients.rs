//! Clients that follow the control plane as proxies do, and say when they have what.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use lateen_control::api::types::TokenRequest;
use lateen_model::{Identity, Namespace, ProxyRole, Resource, Secret};
use lateen_pki::tls::{Accepted, Tls, WallClock};
use lateen_pki::{Current, TrustBundle};
use lateen_wire::client::{Following, follow};
use lateen_wire::{Claim, ControlPlane, Endpoint};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::mesh::{Change, MARK, Mesh, NAMESPACE};
use super::millis;
use super::plane::Plane;

/// How long a change may take to reach everyone.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a client took in one batch.
struct Took {
    client: u32,
    at: Instant,
    workloads: u32,
    /// Changing workloads with their marks.
    marks: Vec<(usize, u64)>,
}

/// All clients.
pub(super) struct Clients {
    count: u32,
    took: mpsc::UnboundedReceiver<Took>,
    /// When each client first had a mark of a changing workload, or a later one.
    seen: HashMap<(usize, u64), Vec<Instant>>,
    newest: HashMap<(u32, usize), u64>,
    /// Owns the clients' tasks.
    _tasks: JoinSet<()>,
}

impl Clients {
    /// Connects all at once; the time until the last has every workload.
    pub(super) async fn connect(
        plane: &Plane,
        count: u32,
        workloads: u32,
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
            let (following, task) = follow(move || plane.clone(), &claim);
            tasks.spawn(task);
            tasks.spawn(listen(client, following, sender.clone()));
        }
        let (seen, newest) = (HashMap::new(), HashMap::new());
        let mut clients = Clients { count, took, seen, newest, _tasks: tasks };
        let last = clients.wait_for_everything(workloads).await?;
        Ok((clients, last - start))
    }

    async fn wait_for_everything(&mut self, workloads: u32) -> anyhow::Result<Instant> {
        let mut held: HashMap<u32, u32> = HashMap::new();
        let mut complete = 0;
        loop {
            let took = self.next().await?;
            let held = held.entry(took.client).or_default();
            let before = *held;
            *held += took.workloads;
            if before < workloads && *held >= workloads {
                complete += 1;
            }
            if complete == self.count {
                return Ok(took.at);
            }
        }
    }

    /// The delays of a change in milliseconds, shortest first, when every client has it.
    pub(super) async fn wait_for(&mut self, change: &Change) -> anyhow::Result<Vec<f64>> {
        let key = (change.workload, change.mark);
        while self.seen.get(&key).map_or(0, Vec::len) < self.count as usize {
            self.next().await?;
        }
        let mut delays: Vec<f64> =
            self.seen[&key].iter().map(|at| millis(at.saturating_duration_since(change.at))).collect();
        delays.sort_by(f64::total_cmp);
        Ok(delays)
    }

    /// Changes at a constant rate; of each the delay to the last client, in milliseconds.
    pub(super) async fn stream(
        &mut self,
        mesh: &mut Mesh,
        rate: u32,
        duration: Duration,
    ) -> anyhow::Result<Vec<f64>> {
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
            delays.extend(self.wait_for(change).await?.last());
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
                self.seen.entry((*workload, passed)).or_default().push(took.at);
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

/// Takes batch after batch, says when, and lets go of it.
async fn listen(client: u32, mut following: Following, sender: mpsc::UnboundedSender<Took>) {
    while let Some(update) = following.updates.recv().await {
        let mut took = Took { client, at: Instant::now(), workloads: 0, marks: Vec::new() };
        for entry in &update.batch.delta.set {
            let Resource::Workload(workload) = &entry.resource else { continue };
            took.workloads += 1;
            let index = workload.name.strip_prefix("changing-").and_then(|index| index.parse().ok());
            let mark = workload.labels.get(MARK).and_then(|mark| mark.parse().ok());
            took.marks.extend(index.zip(mark));
        }
        update.applied.done();
        if sender.send(took).is_err() {
            return;
        }
    }
}
