//! What every part that serves may look at.

use std::sync::{Arc, OnceLock};

use lateen_runtime::clock::Clock;
use lateen_runtime::drain::Drain;
use lateen_runtime::log::LogFilter;
use lateen_runtime::metrics::Registry;
use lateen_runtime::ready::Ready;

use crate::authority::Authority;
use crate::authority::tokens::Tokens;
use crate::config::Config;
use crate::fleet::Fleet;
use crate::hub::{HubHandle, Published};
use crate::source::manifest::Manifests;
use crate::source::registration::Registrations;
use crate::store::Store;

/// The running control plane, as its servers see it.
pub(crate) struct Control {
    pub(crate) config: Config,
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Clock,
    pub(crate) metrics: Registry,
    pub(crate) ready: Ready,
    pub(crate) drain: Drain,
    pub(crate) log: Option<LogFilter>,
    pub(crate) hub: HubHandle,
    pub(crate) registrations: Registrations,
    pub(crate) manifests: Manifests,
    pub(crate) tokens: Tokens,
    pub(crate) fleet: Fleet,
    /// Once the mesh is known: its trust domain names us.
    pub(crate) authority: OnceLock<Arc<Authority>>,
}

impl Control {
    pub(crate) fn published(&self) -> Option<Arc<Published>> {
        self.hub.published()
    }

    pub(crate) fn authority(&self) -> Option<&Arc<Authority>> {
        self.authority.get()
    }
}
