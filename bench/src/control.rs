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
use lateen_cli::output::Output;
use serde::Serialize;
use serde_json::json;

use self::clients::{Clients, Delays};
use self::mesh::Mesh;
use self::plane::{Plane, Started};
use crate::child;
use crate::figures::{Figure, quantile};
use crate::http::LOAD_CORE;
use crate::machine::Machine;
use crate::sheet::{self, Sheet};

/// Measure the control plane alone.
#[derive(Debug, Clone, Args)]
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

    /// Of these, how many read every resource as our proxies do; the others only what changes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    whole_clients: u32,

    /// Single changes, one after the other.
    #[arg(long, default_value_t = 20)]
    changes: u32,

    /// Changes per second of the stream.
    #[arg(long, default_value_t = 20)]
    rate: u32,

    /// How long the stream lasts.
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = parse_duration)]
    duration: Duration,

    /// A small mesh and a short stream, to see that everything works.
    #[arg(long)]
    quick: bool,

    /// Directory of results.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    results: PathBuf,
}

impl ControlArgs {
    fn settle(mut self) -> Self {
        if self.quick {
            (self.services, self.workloads, self.clients) = (100, 1_000, vec![20]);
            (self.changes, self.duration) = (5, Duration::from_secs(2));
        }
        self
    }
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
    /// Until a whole client decides by it.
    change_in_force_millis: Figure,
    change_cpu_millis: f64,
    /// Of the stream's changes, until the last client has it.
    stream_changes: usize,
    stream_p50_millis: f64,
    stream_p99_millis: f64,
    stream_max_millis: f64,
    stream_in_force_p50_millis: f64,
    stream_in_force_p99_millis: f64,
    stream_cpu_millis_per_change: f64,
    memory_mib: f64,
}

pub(crate) fn run(args: &ControlArgs, output: &mut Output) -> anyhow::Result<()> {
    let machine = Machine::here();
    machine.must_have_two_cores()?;
    machine.warn_when_busy(output)?;
    child::pin(LOAD_CORE)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut measurements = Vec::new();
    let args = &args.clone().settle();
    for clients in &args.clients {
        let measured = runtime.block_on(measure(args, *clients, output));
        measurements.push(measured.with_context(|| format!("measure {clients} clients"))?);
    }
    let sheet = summary(args, &measurements);
    let details = json!({ "measurements": measurements });
    sheet::publish(&args.results, "control", &machine, &[sheet], &[], details, output)
}

async fn measure(args: &ControlArgs, count: u32, output: &mut Output) -> anyhow::Result<Measurement> {
    let mut mesh = Mesh::write(args.services, args.workloads)?;
    let (plane, start) = Plane::start(&mesh).await?;
    output.note(format_args!("{count} clients: the control plane is ready after {:.0} ms", start.millis))?;

    let before = plane.cpu()?;
    let addresses = args.services + args.workloads;
    let (mut clients, full_state) = Clients::connect(&plane, count, args.whole_clients, addresses).await?;
    let full_state_cpu = plane.cpu()? - before;
    let full_state_memory_mib = plane.memory_mib()?;
    output.note(format_args!("{count} clients: all have the whole state after {full_state:?}"))?;

    let before = plane.cpu()?;
    let mut singles = Vec::new();
    for number in 0..args.changes {
        let change = mesh.change(number as usize)?;
        singles.push(clients.wait_for(&change).await?);
    }
    let change_cpu = (plane.cpu()? - before) / args.changes.max(1);

    let before = plane.cpu()?;
    let stream = clients.stream(&mut mesh, args.rate, args.duration).await?;
    let stream_cpu = (plane.cpu()? - before) / stream.len().max(1) as u32;
    let nothing = "no change was measured";
    let single = |delay: fn(&Delays) -> f64| Figure::of(singles.iter().map(delay)).context(nothing);
    let streamed = |delay: fn(&Delays) -> f64, share| {
        let mut delays: Vec<f64> = stream.iter().map(delay).collect();
        delays.sort_by(f64::total_cmp);
        quantile(&delays, share).context(nothing)
    };
    Ok(Measurement {
        clients: count,
        start,
        full_state_millis: millis(full_state),
        full_state_cpu_millis: millis(full_state_cpu),
        full_state_memory_mib,
        change_first_millis: single(|delays| delays.first)?,
        change_median_millis: single(|delays| delays.median)?,
        change_last_millis: single(|delays| delays.last)?,
        change_in_force_millis: single(|delays| delays.in_force)?,
        change_cpu_millis: millis(change_cpu),
        stream_changes: stream.len(),
        stream_p50_millis: streamed(|delays| delays.last, 0.5)?,
        stream_p99_millis: streamed(|delays| delays.last, 0.99)?,
        stream_max_millis: streamed(|delays| delays.last, 1.0)?,
        stream_in_force_p50_millis: streamed(|delays| delays.in_force, 0.5)?,
        stream_in_force_p99_millis: streamed(|delays| delays.in_force, 0.99)?,
        stream_cpu_millis_per_change: millis(stream_cpu),
        memory_mib: plane.memory_mib()?,
    })
}

fn summary(args: &ControlArgs, measurements: &[Measurement]) -> Sheet {
    let (services, workloads) = (args.services, args.workloads);
    let title = format!("The control plane alone: {services} services, {workloads} workloads");
    let clients = measurements.iter().map(|m| format!("{} proxies", m.clients));
    let heads = [String::new()].into_iter().chain(clients).collect();
    let mut sheet = Sheet { title, heads, rows: Vec::new() };
    let mut row = |name: String, value: &dyn Fn(&Measurement) -> String| {
        sheet.row([name].into_iter().chain(measurements.iter().map(value)));
    };
    row("start to ready: ms".to_owned(), &|m| format!("{:.0}", m.start.millis));
    row("start to ready: CPU ms".to_owned(), &|m| format!("{:.0}", m.start.cpu_millis));
    row("memory when ready: MiB".to_owned(), &|m| format!("{:.0}", m.start.memory_mib));
    row("whole state to the last client: ms".to_owned(), &|m| format!("{:.0}", m.full_state_millis));
    row("whole state to all: CPU ms".to_owned(), &|m| format!("{:.0}", m.full_state_cpu_millis));
    row("memory then: MiB".to_owned(), &|m| format!("{:.0}", m.full_state_memory_mib));
    row("one change to the first client: ms".to_owned(), &|m| m.change_first_millis.to_string());
    row("one change to the median client: ms".to_owned(), &|m| m.change_median_millis.to_string());
    row("one change to the last client: ms".to_owned(), &|m| m.change_last_millis.to_string());
    row("one change in force in a proxy: ms".to_owned(), &|m| m.change_in_force_millis.to_string());
    row("one change: CPU ms".to_owned(), &|m| format!("{:.2}", m.change_cpu_millis));
    let stream = format!("{} changes/s for {} s, to the last client", args.rate, args.duration.as_secs());
    row(format!("{stream}: p50 ms"), &|m| format!("{:.1}", m.stream_p50_millis));
    row(format!("{stream}: p99 ms"), &|m| format!("{:.1}", m.stream_p99_millis));
    row(format!("{stream}: max ms"), &|m| format!("{:.1}", m.stream_max_millis));
    row("the same, in force in a proxy: p50 ms".to_owned(), &|m| {
        format!("{:.1}", m.stream_in_force_p50_millis)
    });
    row("the same, in force in a proxy: p99 ms".to_owned(), &|m| {
        format!("{:.1}", m.stream_in_force_p99_millis)
    });
    row("CPU ms per change of the stream".to_owned(), &|m| format!("{:.2}", m.stream_cpu_millis_per_change));
    row("memory at the end: MiB".to_owned(), &|m| format!("{:.0}", m.memory_mib));
    sheet
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
