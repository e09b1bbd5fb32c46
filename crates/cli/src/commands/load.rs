//! `lateen load`: constant-rate load, live progress, a result.

use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::ctrl_c;

use crate::args::LoadArgs;
use crate::load::{InvalidPlan, Load, Plan, Report};
use crate::output::{self, Output, WithHint as _, WrongUsage};

/// The rates that can be kept, per second.
const RATES: RangeInclusive<f64> = 0.001..=1e7;

/// How often the progress line changes.
const TICK: Duration = Duration::from_millis(100);

pub(super) fn run(args: LoadArgs, output: &mut Output) -> anyhow::Result<ExitCode> {
    let (json, strict) = (args.json, args.strict);
    let plan = plan(args).map_err(|error| WrongUsage(error.to_string()))?;
    let total = plan.warmup + plan.duration;
    let load = Load::start(plan).hint("is the server running, and is this its port?")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(watch(&load, total, output.is_watched() && !json));
    let report = load.finish();
    if json {
        output.json(&report)?;
    } else {
        print(&report, output)?;
    }
    let failed = strict && report.failures() > 0;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn plan(args: LoadArgs) -> Result<Plan, InvalidPlan> {
    if args.rate != 0.0 && !RATES.contains(&args.rate) {
        return Err(InvalidPlan::Rate(args.rate));
    }
    let default = Plan::new(&args.url)?;
    Ok(Plan {
        rate: (args.rate > 0.0).then_some(args.rate),
        connections: args.connections,
        threads: args.threads.unwrap_or(default.threads),
        duration: args.duration,
        warmup: args.warmup,
        timeout: args.timeout,
        method: Method::from_bytes(args.method.as_bytes()).map_err(|_| InvalidPlan::Method(args.method))?,
        headers: args.header.iter().map(|header| parse_header(header)).collect::<Result<_, _>>()?,
        body: Bytes::from(vec![b'x'; args.body_size as usize]),
        http2_streams: args.h2.then_some(args.streams),
        ..default
    })
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), InvalidPlan> {
    let parsed = text.split_once(':').and_then(|(name, value)| {
        let name = name.trim().parse::<HeaderName>().ok()?;
        Some((name, value.trim().parse::<HeaderValue>().ok()?))
    });
    parsed.ok_or_else(|| InvalidPlan::Header(text.to_owned()))
}

/// Waits for the end or for Ctrl-C, showing how far it is.
async fn watch(load: &Load, total: Duration, is_shown: bool) {
    let bar = if is_shown { ProgressBar::new(total.as_millis() as u64) } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {msg}") {
        bar.set_style(style);
    }
    let mut last = load.status();
    while !load.is_finished() {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            _ = ctrl_c() => load.stop(),
        }
        let status = load.status();
        let passed = status.elapsed.saturating_sub(last.elapsed).as_secs_f64().max(1e-3);
        let rate = (status.answered - last.answered) as f64 / passed;
        bar.set_position(status.elapsed.as_millis() as u64);
        bar.set_message(format!(
            "{}, {}, {}",
            output::plural(status.answered, "answer"),
            output::rate(rate),
            output::plural(status.failed, "error"),
        ));
        last = status;
    }
    bar.finish_and_clear();
}

fn print(report: &Report, output: &mut Output) -> std::io::Result<()> {
    let heading = format!("{} over {} {}", report.target, report.connections, report.protocol);
    let connections = if report.connections == 1 { "connection" } else { "connections" };
    output.line(output::styled(output::STRONG, format_args!("{heading} {connections}")))?;
    output.line(report.table())
}
