//! What is served, and to whom: resources and certificates to proxies, one port for both; the API to the owner.

pub(crate) mod api;
pub(crate) mod callers;
mod discovery;
pub(crate) mod owners;
mod signing;

use std::sync::Arc;

use lateen_pki::tls::{Clients, Tls, WallClock};
use lateen_wire::certificates::CertificateService;
use lateen_wire::server::{self, Discovery, Listener, planes};

use crate::authority::Authority;
use crate::control::Control;
use discovery::Streams;
use signing::Signing;

/// Begins to serve proxies; ends with the drain, which waits for it.
pub(crate) fn proxies(control: &Arc<Control>, authority: &Arc<Authority>, listeners: Vec<Listener>) {
    let clock = control.clock;
    let tls = Tls::new(authority.bundle().clone(), WallClock::new(move || clock.wall()));
    let tls = tls.server(authority.server(), Clients::Optional, &[b"h2"]);
    for listener in listeners {
        let discovery =
            Discovery::new(control.hub.views(), Streams(Arc::clone(control)), control.drain.clone());
        let signing = Signing { control: Arc::clone(control), authority: Arc::clone(authority) };
        let service = planes(discovery, CertificateService::new(signing));
        let limits = control.config.connections;
        let (drain, holder) = (control.drain.clone(), control.drain.hold());
        let serving = server::serve(listener, Arc::clone(&tls), service, limits, drain);
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "serving proxies ended");
            }
            drop(holder);
        });
    }
}
