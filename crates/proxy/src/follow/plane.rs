//! Batches from a control plane.

use lateen_runtime::live::LiveHandle;
use lateen_runtime::metrics::{Labels, Registry};
use lateen_runtime::ready::StartupTask;
use lateen_wire::Claim;
use lateen_wire::client::{self, Update};

use super::Snapshots;
use crate::identity::Holding;
use crate::plane::Plane;

/// Follows the control plane for ever, from the first certificate on; `first` is done with the first snapshot.
pub async fn follow(
    plane: Plane,
    claim: Claim,
    holding: LiveHandle<Option<Holding>>,
    snapshots: &Snapshots,
    registry: &Registry,
    first: StartupTask,
) {
    let Some(held) = first_holding(&holding).await else { return };
    // What is held is renewed in place: the same handles show the certificate of the day.
    let (mut following, task) = client::follow(move || plane.by_certificate(&held), &claim);
    let connected = registry.gauge("lateen_control_connected", "whether the control plane is being followed");
    let link = following.link.clone();
    registry.ask(connected, Labels::none(), move || f64::from(u8::from(link.borrow().connected)));
    let take = async {
        let mut first = Some(first);
        while let Some(Update { batch, applied }) = following.updates.recv().await {
            snapshots.take(batch).await;
            applied.done();
            if let Some(first) = first.take() {
                first.done();
            }
        }
    };
    tokio::join!(take, task);
}

async fn first_holding(holding: &LiveHandle<Option<Holding>>) -> Option<Holding> {
    let current = holding.current();
    match &*current {
        Some(held) => Some(held.clone()),
        None => (*holding.newer_than(0).await.1).clone(),
    }
}
