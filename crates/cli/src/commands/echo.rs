//! `lateen echo`: the built-in test service.

use std::process::ExitCode;

use anyhow::Context as _;
use hyper::StatusCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::args::EchoArgs;
use crate::echo::call::Call;
use crate::echo::{Config, Echo, Ports};
use crate::output::{Output, WithHint as _, WrongUsage};

/// The port when none is given.
const DEFAULT_PORT: u16 = 8080;

pub(super) fn run(args: EchoArgs, output: &mut Output) -> anyhow::Result<ExitCode> {
    let ports = ports(&args);
    let config = config(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(config, &ports, output))
}

async fn serve(config: Config, ports: &Ports, output: &mut Output) -> anyhow::Result<ExitCode> {
    // Signals are caught before anyone can be told that we listen.
    let mut terminate = signal(SignalKind::terminate()).context("catch SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("catch SIGINT")?;
    let name = config.name.clone();
    let echo = Echo::bind(config, ports).hint("choose another port, or 0 for any free one")?;
    for (protocol, address) in echo.addresses() {
        output.line(format_args!("{name}: {protocol} on {address}"))?;
    }
    let stop = CancellationToken::new();
    let running = echo.run(stop.clone());
    tokio::pin!(running);
    tokio::select! {
        () = &mut running => return Ok(ExitCode::SUCCESS),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stop.cancel();
    tokio::select! {
        () = running => Ok(ExitCode::SUCCESS),
        // A second signal does not wait for requests under way.
        _ = terminate.recv() => Ok(ExitCode::FAILURE),
        _ = interrupt.recv() => Ok(ExitCode::FAILURE),
    }
}

fn ports(args: &EchoArgs) -> Ports {
    let mut http = args.http.clone();
    let none = http.is_empty() && args.grpc.is_empty() && args.tcp.is_empty();
    if none {
        http.push(args.port.unwrap_or(DEFAULT_PORT));
    }
    Ports { address: args.bind, http, grpc: args.grpc.clone(), tcp: args.tcp.clone() }
}

fn config(args: EchoArgs) -> anyhow::Result<Config> {
    let host = Config::default().host;
    let calls: Result<Vec<Call>, _> = args.call.iter().map(|url| url.parse()).collect();
    Ok(Config {
        name: args.name.unwrap_or_else(|| host.clone()),
        version: args.version,
        host,
        status: StatusCode::from_u16(args.status)?,
        delay: args.delay,
        fail_percent: args.fail_percent,
        calls: calls.map_err(|error| WrongUsage(error.to_string()))?,
        need_calls: args.need_calls,
        drain: args.drain,
    })
}
