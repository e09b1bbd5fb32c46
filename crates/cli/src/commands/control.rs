//! `lateen control`: the control plane as a process.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use ipnet::IpNet;
use lateen_control::{App, Config};
use lateen_runtime::clock::Clock;
use lateen_runtime::metrics::Registry;
use lateen_runtime::signal::Signals;
use lateen_runtime::{limits, log};

use crate::args::ControlArgs;
use crate::output::WithHint as _;

/// Which events are logged; like `info` or `warn,lateen_control=debug`.
const FILTER: &str = "LATEEN_LOG";

pub(super) fn run(args: ControlArgs) -> anyhow::Result<ExitCode> {
    let filter = std::env::var(FILTER).unwrap_or_else(|_| "info".to_owned());
    let log = log::init(log::Format::Text, &filter).hint(format!("{FILTER} says which events are logged"))?;
    // One descriptor for each proxy that connects, or two.
    limits::raise_open_files().context("raise the limit of open files")?;
    if !args.dir.is_dir() {
        bail!("read objects: {} is not a directory", args.dir.display());
    }
    let end_with_input = args.end_with_input;
    let app = App::build(config(args), Clock::system(), Registry::new(), Some(log))?;
    // Objects are read and applied on threads of their own; one is enough to serve.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(app, end_with_input));
    // The read of standard input cannot be called back.
    runtime.shutdown_background();
    ended
}

async fn serve(app: App, end_with_input: bool) -> anyhow::Result<ExitCode> {
    let (mut signals, _trigger) = Signals::listen().context("catch signals")?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = app.run(async {
        // Whoever drops the sender wants the end as well.
        let _ = stopped.await;
    });
    tokio::pin!(running);
    tokio::select! {
        outcome = &mut running => return Ok(outcome.map(|()| ExitCode::SUCCESS)?),
        ending = signals.next() => tracing::info!(?ending, "asked to end"),
        () = input_ended(), if end_with_input => tracing::info!("standard input ended"),
    }
    drop(stop);
    tokio::select! {
        outcome = running => Ok(outcome.map(|()| ExitCode::SUCCESS)?),
        // A second signal does not wait for anybody.
        _ = signals.next() => Ok(ExitCode::FAILURE),
    }
}

/// Waits until standard input ends; what comes before is nobody's.
async fn input_ended() {
    let _ = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()))
        .await;
}

fn config(args: ControlArgs) -> Config {
    let mut config = Config::new(args.dir, args.state, args.run);
    config.listen = args.listen;
    if !args.service_range.is_empty() {
        config.world.service_range_v6 = None;
    }
    for range in args.service_range {
        match range {
            IpNet::V4(range) => config.world.service_range_v4 = range,
            IpNet::V6(range) => config.world.service_range_v6 = Some(range),
        }
    }
    config.world.allow_unenforced = args.allow_unenforced;
    config
}
