//! What the control plane is told of one instance: always the newest, however long it is away.

use std::sync::Arc;
use std::time::Duration;

use lateen_control::api::types::Instance;
use tokio::sync::watch;

use super::Shared;

/// Keeps the control plane's knowledge of one instance up to date. Dropping it removes the instance.
pub(crate) struct Registration {
    wanted: watch::Sender<Option<Instance>>,
    told: watch::Receiver<u64>,
}

impl Registration {
    pub(crate) fn start(shared: Arc<Shared>, namespace: String, name: String) -> Self {
        let (wanted, changes) = watch::channel(None);
        let (progress, told) = watch::channel(0);
        tokio::spawn(keep(shared, namespace, name, changes, progress));
        Self { wanted, told }
    }

    /// From now on this is true.
    pub(crate) fn set(&self, instance: Instance) {
        self.wanted.send_if_modified(|current| {
            let new = Some(instance);
            let changed = *current != new;
            *current = new;
            changed
        });
    }

    /// Waits until the control plane was told something.
    pub(crate) async fn told(&self) {
        let _ = self.told.clone().wait_for(|count| *count > 0).await;
    }

    /// Removes the instance; waits a moment for the control plane to hear of it.
    pub(crate) async fn end(self) {
        let Self { wanted, mut told } = self;
        drop(wanted);
        let _ = tokio::time::timeout(Duration::from_secs(2), async { while told.changed().await.is_ok() {} })
            .await;
    }
}

async fn keep(
    shared: Arc<Shared>,
    namespace: String,
    name: String,
    mut wanted: watch::Receiver<Option<Instance>>,
    told: watch::Sender<u64>,
) {
    while wanted.changed().await.is_ok() {
        let mut wait = Duration::from_millis(5);
        loop {
            let Some(instance) = wanted.borrow_and_update().clone() else { break };
            match shared.api.put_instance(&namespace, &name, &instance).await {
                Ok(_) => break told.send_modify(|count| *count += 1),
                Err(error) => tracing::debug!(%error, instance = %name, "the control plane was not told"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_millis(500));
        }
    }
    for _ in 0..20 {
        if shared.api.remove_instance(&namespace, &name).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
