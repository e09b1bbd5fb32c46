//! The pods that run, kept as the control plane lists them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lateen_control::api::types::Process;
use tokio_util::sync::CancellationToken;

use super::instance::{Facts, Life};
use super::join::{self, Guest};
use super::{Event, Shared};

/// The pods that run.
pub(crate) struct Pods {
    shared: Arc<Shared>,
    running: Mutex<BTreeMap<String, Running>>,
    /// What the control plane wants to run, as it last said.
    listed: Mutex<Vec<Process>>,
}

/// One pod, as it was asked for.
struct Running {
    process: Process,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    facts: Arc<Facts>,
    /// Whether a `lateen run` brought it: such a pod is none of the list's business.
    is_guest: bool,
}

/// The name is somebody else's.
#[derive(Debug, thiserror::Error)]
#[error("the name {name} is in use in the namespace {namespace}, by {by}")]
pub(crate) struct NameInUse {
    name: String,
    namespace: String,
    by: &'static str,
}

impl Pods {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, running: Mutex::default(), listed: Mutex::default() }
    }

    /// Follows the list of the control plane until told to stop.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                ended = self.follow_once() => if let Err(error) = ended {
                    tracing::debug!(%error, "the list of processes ended");
                },
            }
            // The control plane ended; it is started again.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn follow_once(self: &Arc<Self>) -> anyhow::Result<()> {
        let mut watch = self.shared.api.watch_processes().await?;
        while let Some(list) = watch.next().await? {
            *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = list.processes;
            self.reconcile();
        }
        Ok(())
    }

    /// Starts what is missing, and ends what is not wanted or is wanted otherwise.
    fn reconcile(self: &Arc<Self>) {
        let mut wanted = BTreeMap::new();
        for process in self.listed.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for ordinal in 0..process.replicas {
                wanted.insert(format!("{}-{ordinal}.{}", process.name, process.namespace), process.clone());
            }
        }
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<_> = running
            .iter()
            .filter(|(_, running)| !running.is_guest)
            .filter(|(pod, running)| wanted.get(*pod).is_none_or(|process| !same(process, &running.process)))
            .map(|(pod, _)| pod.clone())
            .collect();
        let mut ending = BTreeMap::new();
        for pod in gone {
            if let Some(old) = running.remove(&pod) {
                old.stop.cancel();
                ending.insert(pod, old.task);
            }
        }
        for (pod, process) in wanted {
            if !running.contains_key(&pod) {
                let before = ending.remove(&pod);
                running.insert(pod.clone(), self.start(pod, process, before));
            }
        }
    }

    /// Starts a pod, after the one that had its name before.
    fn start(
        self: &Arc<Self>,
        pod: String,
        process: Process,
        before: Option<tokio::task::JoinHandle<()>>,
    ) -> Running {
        let (stop, facts) = (CancellationToken::new(), Arc::new(Facts::default()));
        let (shared, ended, told) = (Arc::clone(&self.shared), stop.clone(), Arc::clone(&facts));
        let wanted = process.clone();
        let task = tokio::spawn(async move {
            if let Some(before) = before {
                let _ = before.await;
            }
            let (process, facts, stop) = (&wanted, &*told, &ended);
            Life { shared: &shared, pod: &pod, process, guest: None, facts, stop }.live().await;
            shared.events.tell(Event::Removed { pod });
        });
        Running { process, stop, task, facts, is_guest: false }
    }

    /// Starts the pod of a guest; it ends with the guest's process, or when the token is cancelled.
    ///
    /// # Errors
    /// When the name is in use.
    pub(crate) fn join(
        self: &Arc<Self>,
        process: Process,
        guest: Guest,
    ) -> Result<CancellationToken, NameInUse> {
        let pod = format!("{}.{}", process.name, process.namespace);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use = |by| {
            let (name, namespace) = (process.name.clone(), process.namespace.clone());
            Err(NameInUse { name, namespace, by })
        };
        match running.get(&pod) {
            Some(other) if !other.is_guest => return in_use("a process of the directory"),
            // One that is about to go is waited for.
            Some(other) if !other.stop.is_cancelled() => return in_use("another `lateen run`"),
            _ => {}
        }
        let same_name = |other: &Running| {
            !other.is_guest
                && (&other.process.name, &other.process.namespace) == (&process.name, &process.namespace)
        };
        if running.values().any(same_name) {
            return in_use("a process of the directory");
        }
        let before = running.remove(&pod).map(|old| old.task);
        let (stop, facts) = (CancellationToken::new(), Arc::new(Facts::default()));
        let task = {
            let (pods, pod, process) = (Arc::clone(self), pod.clone(), process.clone());
            let (facts, stop) = (Arc::clone(&facts), stop.clone());
            tokio::spawn(async move {
                if let Some(before) = before {
                    let _ = before.await;
                }
                join::live(&pods.shared, &pod, &process, &guest, &facts, &stop).await;
                // Nobody may join as what has ended; who comes now waits for us.
                stop.cancel();
                pods.shared.events.tell(Event::Removed { pod: pod.clone() });
                pods.forget(&pod, &facts);
            })
        };
        running.insert(pod, Running { process, stop: stop.clone(), task, facts, is_guest: true });
        Ok(stop)
    }

    /// Forgets a guest that has gone; a process of the directory that waited for its name starts.
    fn forget(self: &Arc<Self>, pod: &str, facts: &Arc<Facts>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.get(pod).is_some_and(|known| Arc::ptr_eq(&known.facts, facts)) {
            running.remove(pod);
            drop(running);
            self.reconcile();
        }
    }

    /// Ends all pods and waits for them.
    pub(crate) async fn stop(&self) {
        let running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        for one in running.values() {
            one.stop.cancel();
        }
        for (_, one) in running {
            let _ = one.task.await;
        }
    }

    /// The names of all pods.
    pub(crate) fn names(&self) -> Vec<String> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// What is known of a pod.
    pub(crate) fn facts(&self, pod: &str) -> Option<Arc<Facts>> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(pod).map(|running| Arc::clone(&running.facts))
    }

    /// Where gateways listen on the machine: pod, port, address.
    pub(crate) fn published(&self) -> Vec<(String, u16, SocketAddr)> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running
            .iter()
            .flat_map(|(pod, running)| {
                running.facts.published().into_iter().map(|(port, at)| (pod.clone(), port, at))
            })
            .collect()
    }
}

/// Whether a running instance serves this wish too: how many there are is not its business.
fn same(a: &Process, b: &Process) -> bool {
    let a = Process { replicas: b.replicas, ..a.clone() };
    a == *b
}
