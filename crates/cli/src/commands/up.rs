//! `lateen up`: a directory of objects as a running mesh.

use std::process::ExitCode;

use anyhow::Context as _;
use lateen_runtime::signal::Signals;
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::args::UpArgs;
use crate::mesh::{Event, Events, Mesh, Options};
use crate::output::{BAD, DIM, GOOD, Output, STRONG, WARN, styled};

pub(super) fn run(args: UpArgs, output: &mut Output) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(up(args, output))
}

async fn up(args: UpArgs, output: &mut Output) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.dir.is_dir(), "{} is no directory", args.dir.display());
    let options = Options {
        dir: args.dir,
        state: args.state.state,
        environment: args.sandbox.environment,
        pod_range: args.sandbox.pod_range,
        service_range: args.sandbox.service_range,
        sidecar_workers: args.sandbox.sidecar_workers,
        allow_unenforced: args.allow_unenforced,
        show_output: true,
        tap: None,
    };
    let (mut signals, _end) = Signals::listen().context("listen for signals")?;
    let events = Events::default();
    let mut news = events.listen();
    let mesh = tokio::select! {
        mesh = Mesh::start(options, events) => mesh?,
        _ = signals.next() => return Ok(ExitCode::FAILURE),
    };
    greet(&mesh, output)?;
    let ended = loop {
        tokio::select! {
            event = next(&mut news) => show(&mesh, &event, output)?,
            _ = signals.next() => break ExitCode::SUCCESS,
            () = mesh.broken() => {
                output.note(styled(BAD, "the sandbox ended"))?;
                break ExitCode::FAILURE;
            }
        }
    };
    output.note("stopping…")?;
    tokio::select! {
        () = mesh.stop() => Ok(ended),
        // A second signal does not wait: what is left dies with this process.
        _ = signals.next() => Ok(ExitCode::FAILURE),
    }
}

/// The next event; those that came too fast to be shown are left out.
async fn next(news: &mut Receiver<Event>) -> Event {
    loop {
        match news.recv().await {
            Ok(event) => return event,
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

fn greet(mesh: &Mesh, output: &mut Output) -> anyhow::Result<()> {
    for attempt in mesh.attempts().iter().filter(|attempt| attempt.failure.is_some()) {
        output.note(styled(DIM, format!("not possible here: {attempt}")))?;
    }
    let environment = mesh.environment();
    let style = if environment.has_namespaces() { STRONG } else { WARN };
    output.note(format!("environment  {}", styled(style, environment)))?;
    output.note(format!("state        {}", mesh.home().state().display()))?;
    output.note(format!("admin pages  http://{}/", mesh.admin()))?;
    output.note(format!("access logs  {}", mesh.home().state().join("logs").display()))?;
    Ok(())
}

fn show(mesh: &Mesh, event: &Event, output: &mut Output) -> anyhow::Result<()> {
    let line = match event {
        Event::ProxyReady { pod } => {
            for (gateway, port, at) in mesh.pods().published() {
                if gateway == *pod {
                    output
                        .note(format!("{} {pod} port {port} is http://{at}/", styled(GOOD, "published")))?;
                }
            }
            format!("{} {pod}", styled(DIM, "proxy"))
        }
        Event::Started { pod, pid } => format!("{} {pod} (process {pid})", styled(DIM, "started")),
        Event::Ready { pod, ready: true } => format!("{} {pod}", styled(GOOD, "ready")),
        Event::Ready { pod, ready: false } => format!("{} {pod}", styled(WARN, "not ready")),
        Event::Exited { pod, exit } => format!("{} {pod}: {exit}", styled(WARN, "exited")),
        Event::Removed { pod } => format!("{} {pod}", styled(DIM, "removed")),
        Event::Published { pod, port, at } => {
            format!("{} {pod} port {port} is http://{at}/", styled(GOOD, "published"))
        }
        Event::ControlEnded => styled(WARN, "the control plane ended; it is started again"),
        Event::Refused { pod, what } => format!("{} {pod}: {what}", styled(WARN, "refused")),
        Event::Problem { about, problem } => format!("{} {about}: {problem}", styled(BAD, "problem")),
    };
    output.note(line)?;
    Ok(())
}
