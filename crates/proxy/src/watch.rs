//! Long-lived connections meet new snapshots: what is denied now ends now. (Requests ask anew each by themselves.)

use lateen_engine::{ConnectionFacts, Decision, Denial, decide_connection};

use crate::worker::Worker;

/// Waits until a new snapshot denies the connection.
pub(crate) async fn denied(worker: &Worker, facts: &ConnectionFacts) -> Denial {
    let mut snapshots = worker.shared.snapshots.follow();
    loop {
        if let Decision::Deny(denial) = decide_connection(snapshots.changed().await, facts) {
            return denial;
        }
    }
}
