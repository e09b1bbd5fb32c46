//! `Ending`: how a proxy is told to end, from inside its process.

use tokio::sync::watch;

/// How far the end has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    Running,
    Gracefully,
    AtOnce,
}

/// Tells a proxy to end. Clones tell the same one.
#[derive(Clone, Debug, Default)]
pub struct Ending(watch::Sender<Stage>);

impl Ending {
    /// Finish what is under way, and end.
    pub fn gracefully(&self) {
        self.raise(Stage::Gracefully);
    }

    /// End.
    pub fn at_once(&self) {
        self.raise(Stage::AtOnce);
    }

    /// What a signal means: the first asks, the second insists.
    pub(super) fn insist(&self) {
        let asked = *self.0.borrow() >= Stage::Gracefully;
        self.raise(if asked { Stage::AtOnce } else { Stage::Gracefully });
    }

    pub(crate) async fn asked(&self) {
        self.reached(Stage::Gracefully).await;
    }

    pub(crate) async fn insisted(&self) {
        self.reached(Stage::AtOnce).await;
    }

    fn raise(&self, to: Stage) {
        self.0.send_modify(|stage| *stage = to.max(*stage));
    }

    async fn reached(&self, stage: Stage) {
        // The sender lives in `self`.
        let _ = self.0.subscribe().wait_for(|&now| now >= stage).await;
    }
}
