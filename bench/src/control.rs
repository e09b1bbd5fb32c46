//! The control plane alone: start and memory, the way of one change, and a steady stream of changes.
//!
//! The objects are files, the clients speak delta xDS with the same code as our proxies, each with a
//! token of its own over TLS. The control plane has core 0 for itself; the clients share core 1, so with
//! 200 of them the tails include their own work. A change is a file replaced on disk, so reading,
//! translating and sending are all in its time, and so is the wait for more changes.

mod clients;
mod mesh;
mod plane;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use lateen_cli::args::parse_duration;
use lateen_cli::output::{Output, Table};
use serde::Serialize;

use self::clients::Clients;
use self::mesh::Mesh;
use self::plane::{Plane, Started};
use crate::child;
use crate::figures::{Figure, quantile};
use crate::http::LOAD_CORE;
use crate::machine::{Machine, write_record};

/// Measure the control plane alone.
#[derive(Debug, Args)]
pub(crate) struct ControlArgs {
    /// Services of the mesh.
    #[arg(long, default_value_t = 1_000)]
    services: u32,

    /// Workloads of the mesh.
    #[arg(long, default_value_t = 10_000)]
    workloads: u32,

    /// Clients that subscribe; repeatable.
    #[arg(long, default_values_t = [20, 200])]
    clients: Vec<u32>,

    /// Single changes, one after the other.
    #[arg(long, default_value_t = 20)]
    changes: u32,

    /// Changes per second of the stream.
    #[arg(long, default_value_t = 20)]
    rate: u32,

    /// How long the stream lasts.
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = parse_duration)]
    duration: Duration,

    /// Directory of results.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    results: PathBuf,
}

/// What was found with one number of clients.
#[derive(Debug, Clone, Serialize)]
struct Measurement {
    clients: u32,
    start: Started,
    /// Until the last client has the whole state.
    full_state_millis: f64,
    full_state_cpu_millis: f64,
    full_state_memory_mib: f64,
    /// Of single changes, until the first, the median and the last client has it.
    change_first_millis: Figure,
    change_median_millis: Figure,
    change_last_millis: Figure,
    change_cpu_millis: f64,
    /// Of the stream's changes, until the last client has it.
    stream_changes: usize,
    stream_p50_millis: f64,
    stream_p99_millis: f64,
    stream_max_millis: f64,
    stream_cpu_millis_per_change: f64,
    memory_mib: f64,
}

/// Everything of a run, written beside the table.
#[derive(Debug, Serialize)]
struct Record<'a> {
    bench: &'static str,
    command: String,
    machine: Machine,
    services: u32,
    workloads: u32,
    measurements: &'a [Measurement],
}

pub(crate) fn run(args: &ControlArgs, output: &mut Output) -> anyhow::Result<()> {
    let machine = Machine::here();
    machine.must_have_two_cores()?;
    machine.warn_when_busy(output)?;
    child::pin(LOAD_CORE)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut measurements = Vec::new();
    for clients in &args.clients {
        let measured = runtime.block_on(measure(args, *clients, output));
        measurements.push(measured.with_context(|| format!("measure {clients} clients"))?);
    }
    print(args, &measurements, output)?;
    let record = Record {
        bench: "control",
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        machine,
        services: args.services,
        workloads: args.workloads,
        measurements: &measurements,
    };
    write_record(&args.results, record.bench, &record, output)
}

async fn measure(args: &ControlArgs, count: u32, output: &mut Output) -> anyhow::Result<Measurement> {
    let mut mesh = Mesh::write(args.services, args.workloads)?;
    let (plane, start) = Plane::start(&mesh).await?;
    output.note(format_args!("{count} clients: the control plane is ready after {:.0} ms", start.millis))?;

    let before = plane.cpu()?;
    let (mut clients, full_state) = Clients::connect(&plane, count, args.workloads).await?;
    let full_state_cpu = plane.cpu()? - before;
    let full_state_memory_mib = plane.memory_mib()?;
    output.note(format_args!("{count} clients: all have the whole state after {full_state:?}"))?;

    let before = plane.cpu()?;
    let (mut first, mut median, mut last) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..args.changes {
        let change = mesh.change(number as usize)?;
        let delays = clients.wait_for(&change).await?;
        first.push(delays[0]);
        median.push(delays[delays.len() / 2]);
        last.push(delays[delays.len() - 1]);
    }
    let change_cpu = (plane.cpu()? - before) / args.changes.max(1);

    let before = plane.cpu()?;
    let mut stream = clients.stream(&mut mesh, args.rate, args.duration).await?;
    let stream_cpu = (plane.cpu()? - before) / stream.len().max(1) as u32;
    stream.sort_by(f64::total_cmp);
    let nothing = "no change was measured";
    Ok(Measurement {
        clients: count,
        start,
        full_state_millis: millis(full_state),
        full_state_cpu_millis: millis(full_state_cpu),
        full_state_memory_mib,
        change_first_millis: Figure::of(first).context(nothing)?,
        change_median_millis: Figure::of(median).context(nothing)?,
        change_last_millis: Figure::of(last).context(nothing)?,
        change_cpu_millis: millis(change_cpu),
        stream_changes: stream.len(),
        stream_p50_millis: quantile(&stream, 0.5).context(nothing)?,
        stream_p99_millis: quantile(&stream, 0.99).context(nothing)?,
        stream_max_millis: quantile(&stream, 1.0).context(nothing)?,
        stream_cpu_millis_per_change: millis(stream_cpu),
        memory_mib: plane.memory_mib()?,
    })
}

fn print(args: &ControlArgs, measurements: &[Measurement], output: &mut Output) -> anyhow::Result<()> {
    let (services, workloads) = (args.services, args.workloads);
    output.line(format_args!("\n{services} services, {workloads} workloads\n"))?;
    let mut table = Table::without_head();
    let mut row = |name: String, value: &dyn Fn(&Measurement) -> String| {
        table.row([name].into_iter().chain(measurements.iter().map(value)));
    };
    row("clients".to_owned(), &|m| m.clients.to_string());
    row("start to ready: ms".to_owned(), &|m| format!("{:.0}", m.start.millis));
    row("start to ready: CPU ms".to_owned(), &|m| format!("{:.0}", m.start.cpu_millis));
    row("memory when ready: MiB".to_owned(), &|m| format!("{:.0}", m.start.memory_mib));
    row("whole state to the last client: ms".to_owned(), &|m| format!("{:.0}", m.full_state_millis));
    row("whole state to all: CPU ms".to_owned(), &|m| format!("{:.0}", m.full_state_cpu_millis));
    row("memory then: MiB".to_owned(), &|m| format!("{:.0}", m.full_state_memory_mib));
    row("one change to the first client: ms".to_owned(), &|m| m.change_first_millis.to_string());
    row("one change to the median client: ms".to_owned(), &|m| m.change_median_millis.to_string());
    row("one change to the last client: ms".to_owned(), &|m| m.change_last_millis.to_string());
    row("one change: CPU ms".to_owned(), &|m| format!("{:.2}", m.change_cpu_millis));
    let stream = format!("{} changes/s for {} s, to the last client", args.rate, args.duration.as_secs());
    row(format!("{stream}: p50 ms"), &|m| format!("{:.1}", m.stream_p50_millis));
    row(format!("{stream}: p99 ms"), &|m| format!("{:.1}", m.stream_p99_millis));
    row(format!("{stream}: max ms"), &|m| format!("{:.1}", m.stream_max_millis));
    row("CPU ms per change of the stream".to_owned(), &|m| format!("{:.2}", m.stream_cpu_millis_per_change));
    row("memory at the end: MiB".to_owned(), &|m| format!("{:.0}", m.memory_mib));
    output.line(table.numbers_from(1))?;
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
