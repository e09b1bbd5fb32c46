//! Names to addresses, where the mesh has none: only for what an explicit proxy is asked for by name.

use std::net::SocketAddr;

use lateen_engine::{Decision, Destination, Forward};

use crate::fault::{Fault, Reason};
use crate::worker::Worker;

/// Gives a destination that is known by name only an address, asked of the system's resolver.
///
/// # Errors
/// The name is unknown, or nobody answers in time.
pub(crate) async fn settle(worker: &Worker, host: Option<&str>, to: &mut Destination) -> Result<(), Fault> {
    let (Destination::Passthrough(address), Some(host)) = (&mut *to, host) else { return Ok(()) };
    if !address.ip().is_unspecified() {
        return Ok(());
    }
    *address = look_up(worker, host, address.port()).await?;
    Ok(())
}

/// The same for whatever a decision leads to.
///
/// # Errors
/// As [`settle`].
pub(crate) async fn settle_decision(
    worker: &Worker,
    host: Option<&str>,
    decision: &mut Decision,
) -> Result<(), Fault> {
    let mut decision = decision;
    while let Decision::Detect(otherwise) = decision {
        decision = otherwise;
    }
    match decision {
        Decision::Forward(Forward { to, .. }) => settle(worker, host, to).await,
        _ => Ok(()),
    }
}

async fn look_up(worker: &Worker, host: &str, port: u16) -> Result<SocketAddr, Fault> {
    let asking = tokio::net::lookup_host((host, port));
    let failed = |error: &dyn std::fmt::Display| {
        Fault::connect(Reason::ConnectFailure, format!("resolve {host}: {error}"))
    };
    let found = worker.deadlines().within(worker.settings().connect, asking).await;
    let mut found = found.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    found.next().ok_or_else(|| failed(&"no address"))
}
