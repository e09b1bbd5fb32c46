//! `lateen demo`: the shop, walked through live.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;
use lateen_runtime::signal::Signals;

use crate::args::DemoArgs;
use crate::demo::{Demo, Progress, Report, Step};
use crate::mesh::Events;
use crate::output::{BAD, DIM, GOOD, Output, STRONG, Table, WARN, styled};

pub(super) fn run(args: DemoArgs, output: &mut Output) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(demo(args, output))
}

async fn demo(args: DemoArgs, output: &mut Output) -> anyhow::Result<ExitCode> {
    let (mut signals, _end) = Signals::listen().context("listen for signals")?;
    let started = Instant::now();
    output.note(styled(STRONG, "starting a shop of nine processes, each with a proxy beside it"))?;
    let mut demo = tokio::select! {
        demo = Demo::start(args.sandbox, Events::default()) => demo?,
        _ = signals.next() => return Ok(ExitCode::FAILURE),
    };
    let stood_up = started.elapsed();
    introduce(&demo, stood_up, output)?;
    let walked = tokio::select! {
        steps = demo.walk(|progress| show(&progress, output)) => Some(steps),
        _ = signals.next() => None,
    };
    let Some(steps) = walked else {
        output.note("stopping…")?;
        stop(demo, &mut signals).await;
        return Ok(ExitCode::FAILURE);
    };
    let held = steps.iter().all(|step| step.held);
    let report = Report {
        environment: demo.mesh().environment().name().to_owned(),
        attempts: demo.mesh().attempts().iter().map(ToString::to_string).collect(),
        stood_up_ms: u64::try_from(stood_up.as_millis()).unwrap_or(u64::MAX),
        held,
        steps,
    };
    if args.json {
        output.json(&report)?;
    } else {
        summary(&report, output)?;
    }
    if args.keep {
        output.note(format!("\nthe shop    http://{}/", demo.gateway()))?;
        output.note(format!("its pages   http://{}/ (metrics: /metrics)", demo.mesh().admin()))?;
        output.note(format!("its files   {}", demo.directory().display()))?;
        output.note(format!(
            "its state   {} (lateen status --state …)",
            demo.mesh().home().state().display()
        ))?;
        output.note("Ctrl-C stops it")?;
        let _ = signals.next().await;
    }
    stop(demo, &mut signals).await;
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ends the shop; a second signal does not wait: what is left dies with this process.
async fn stop(demo: Demo, signals: &mut Signals) {
    tokio::select! {
        () = demo.stop() => {}
        _ = signals.next() => {}
    }
}

fn introduce(demo: &Demo, stood_up: std::time::Duration, output: &mut Output) -> anyhow::Result<()> {
    for attempt in demo.mesh().attempts().iter().filter(|attempt| attempt.failure.is_some()) {
        output.note(styled(DIM, format!("not possible here: {attempt}")))?;
    }
    let environment = demo.mesh().environment();
    let style = if environment.has_namespaces() { DIM } else { WARN };
    output.note(format!("environment: {}", styled(style, environment)))?;
    output.note(format!(
        "the shop stands after {:.1} s; customers come in at http://{}/\n",
        stood_up.as_secs_f64(),
        demo.gateway()
    ))?;
    Ok(())
}

fn show(progress: &Progress<'_>, output: &mut Output) {
    let lines = match progress {
        Progress::Begins { number, story, .. } => vec![styled(STRONG, format!("{number}  {story}"))],
        Progress::Ended(Step { held, seen, shown, .. }) => {
            let mark = if *held { styled(GOOD, "✓") } else { styled(BAD, "✗") };
            let shown = shown.iter().map(|line| format!("   {}", styled(DIM, line)));
            shown.chain([format!("   {mark} {seen}\n")]).collect()
        }
    };
    for line in lines {
        // A terminal that is gone does not end the walk.
        let _ = output.note(line);
    }
}

fn summary(report: &Report, output: &mut Output) -> anyhow::Result<()> {
    let mut table = Table::new(["STEP", "", "SEEN"]);
    for step in &report.steps {
        let mark = if step.held { styled(GOOD, "held") } else { styled(BAD, "failed") };
        table.row([&step.name, &mark, &step.seen]);
    }
    output.line("")?;
    output.line(table)?;
    let failed = report.steps.iter().filter(|step| !step.held).count();
    output.line(if failed == 0 {
        styled(GOOD, format!("\nall {} steps held, {}", report.steps.len(), report.environment))
    } else {
        styled(BAD, format!("\n{failed} of {} steps failed, {}", report.steps.len(), report.environment))
    })?;
    Ok(())
}
