//! What a proxy holds while nothing happens, and what a new TLS connection costs it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use clap::Args;
use lateen_cli::output::Output;
use lateen_pki::tls::{Accepted, Tls, WallClock};
use lateen_pki::{CertifiedIdentity, Current, PrivateKey, SecretPem, TrustBundle};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde::Serialize;
use serde_json::json;

use crate::child::Measured;
use crate::contender::{Contender, Stage, free_address};
use crate::figures::Figure;
use crate::http::{Places, set_stage};
use crate::machine::{Cores, Machine};
use crate::ours::{self, Authority};
use crate::sheet::{self, Sheet};
use crate::{drive, envoy};

/// Measure memory at rest, per idle connection, and new TLS connections.
#[derive(Debug, Clone, Args)]
pub(crate) struct MemoryArgs {
    /// Idle connections whose memory is counted.
    #[arg(long, default_value_t = 2_000)]
    connections: u32,

    /// New TLS connections counted, one after the other, in each round.
    #[arg(long, default_value_t = 1_000)]
    handshakes: u32,

    /// Rounds of new TLS connections.
    #[arg(long, default_value_t = 5)]
    rounds: u32,

    /// Few of everything, to see that it works.
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    pub(crate) places: Places,
}

/// Connections that are open before those that are counted: what a process needs once is not theirs.
const BEFORE: u32 = 200;

/// How long a proxy may take to give back what it needed for a moment.
const SETTLE: Duration = Duration::from_millis(1500);

/// A round of which more was stolen says nothing.
const STOLEN: f64 = 10.0;

#[derive(Debug, Clone, Serialize)]
struct Rest {
    name: &'static str,
    idle_mib: f64,
    keep_alive_kib: f64,
    tls_kib: f64,
}

pub(crate) fn run(args: &MemoryArgs, output: &mut Output) -> anyhow::Result<()> {
    let mut args = args.clone();
    if args.quick {
        (args.connections, args.handshakes, args.rounds) = (300, 50, 1);
    }
    let machine = Machine::here();
    machine.must_have_two_cores()?;
    machine.warn_when_busy(output)?;
    let (_backend, stage) = set_stage(&args.places)?;
    let with_envoy = stage.envoy.is_some();
    let mut rests = vec![at_rest(&args, &stage, Contender::Full)?];
    if with_envoy {
        rests.push(at_rest(&args, &stage, Contender::EnvoyFull)?);
    }
    let mut handshakes: Vec<(&str, f64)> = Vec::new();
    for round in 1..=args.rounds {
        for name in ["Lateen", "Envoy"].into_iter().filter(|name| with_envoy || *name == "Lateen") {
            let cores = Cores::now()?;
            let found = per_core_second(&args, &stage, name)?;
            output.note(format_args!("round {round}/{} {name} {found:.0} TLS connections", args.rounds))?;
            if cores.stolen_since()? <= STOLEN {
                handshakes.push((name, found));
            }
        }
    }
    let sheets = [rest_sheet(&rests), handshake_sheet(&handshakes)];
    let details = json!({ "rests": rests, "handshakes": handshakes });
    sheet::publish(&args.places.results, "memory", &machine, &sheets, &[], details, output)
}

fn rest_sheet(rests: &[Rest]) -> Sheet {
    let heads =
        ["", "idle process MiB", "per idle keep-alive connection KiB", "per idle mTLS connection KiB"];
    let mut sheet = Sheet::new("Memory at rest, full config", heads);
    for rest in rests {
        let figures = [rest.idle_mib, rest.keep_alive_kib, rest.tls_kib].map(|figure| format!("{figure:.1}"));
        sheet.row([rest.name.to_owned()].into_iter().chain(figures));
    }
    sheet.row(["target".to_owned(), "≤ 12".to_owned(), "≤ 16".to_owned(), "≤ 40".to_owned()]);
    sheet
}

fn handshake_sheet(handshakes: &[(&str, f64)]) -> Sheet {
    let heads = ["", "connections per core-second"];
    let mut sheet = Sheet::new("New mTLS connections: TLS 1.3, P-256 on both sides, no resumption", heads);
    for name in ["Lateen", "Envoy"] {
        let mine = handshakes.iter().filter(|(whose, _)| *whose == name).map(|(_, found)| *found);
        if let Some(figure) = Figure::of(mine) {
            sheet.row([name.to_owned(), figure.to_string()]);
        }
    }
    sheet
}

fn at_rest(args: &MemoryArgs, stage: &Stage, contender: Contender) -> anyhow::Result<Rest> {
    let running = contender.start(stage)?;
    std::thread::sleep(SETTLE);
    let idle = running.memory()?;
    // One request each: what a connection needs for it must be given back.
    let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", ours::objects::HOST).into_bytes();
    let open = |count| -> anyhow::Result<drive::Drive> {
        let mut drive = drive::Drive::connect(running.http1, count, request.clone())?;
        drive.run(Duration::ZERO)?;
        std::thread::sleep(SETTLE);
        Ok(drive)
    };
    let _some = open(BEFORE)?;
    let before = running.memory()?;
    let _more = open(args.connections)?;
    let keep_alive = running.memory()?.saturating_sub(before);
    let (server, at, client) = tls_server(stage, contender == Contender::Full)?;
    let open = |count: u32| -> anyhow::Result<Vec<Connection>> {
        let all = (0..count).map(|_| connect(&client, at)).collect::<anyhow::Result<_>>()?;
        std::thread::sleep(SETTLE);
        Ok(all)
    };
    let _some = open(BEFORE)?;
    let before = server.memory()?;
    let _more = open(args.connections)?;
    let tls = server.memory()?.saturating_sub(before);
    let kib = |bytes: u64| bytes as f64 / 1024.0 / f64::from(args.connections);
    Ok(Rest {
        name: if contender == Contender::Full { "Lateen" } else { "Envoy" },
        idle_mib: idle as f64 / f64::from(1 << 20),
        keep_alive_kib: kib(keep_alive),
        tls_kib: kib(tls),
    })
}

/// Handshakes per second that the server's core would do if it did nothing else.
fn per_core_second(args: &MemoryArgs, stage: &Stage, name: &str) -> anyhow::Result<f64> {
    let (server, at, client) = tls_server(stage, name == "Lateen")?;
    for _ in 0..20 {
        connect(&client, at)?;
    }
    let cpu = server.cpu()?;
    for _ in 0..args.handshakes {
        connect(&client, at)?;
    }
    Ok(f64::from(args.handshakes) / (server.cpu()? - cpu).as_secs_f64())
}

/// A proxy that takes mTLS alone, where it listens, and how to call it.
fn tls_server(stage: &Stage, is_ours: bool) -> anyhow::Result<(Measured, SocketAddr, Arc<ClientConfig>)> {
    let (mut server, at, authority) = if is_ours {
        ours::server_of(stage)?
    } else {
        let (address, authority) = (free_address()?, Authority::new(stage.scratch.join("envoy-tls"))?);
        (envoy::server_of(stage, address, &authority)?, address, authority)
    };
    let start = Instant::now();
    while TcpStream::connect(at).is_err() {
        anyhow::ensure!(server.is_alive(), "the TLS server ended at its start");
        anyhow::ensure!(start.elapsed() < Duration::from_secs(20), "the TLS server does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok((server, at, settings(&authority)?))
}

/// A client that shows a certificate.
fn settings(authority: &Authority) -> anyhow::Result<Arc<ClientConfig>> {
    let files = authority.certify("client")?;
    let key = PrivateKey::from_pem(&SecretPem::new(std::fs::read_to_string(files.key)?))?;
    let identity = CertifiedIdentity::from_pem(&std::fs::read_to_string(files.chain)?, key)?;
    let roots = std::fs::read_to_string(files.roots)?;
    let bundle = TrustBundle::from_pem(lateen_model::TrustDomain::default(), &roots)?;
    let tls = Tls::new(Current::new(bundle), WallClock::new(SystemTime::now));
    Ok(tls.client(Some(&Current::new(identity)), Accepted::OwnTrustDomain, &[b"h2"]))
}

type Connection = StreamOwned<ClientConnection, TcpStream>;

/// What an HTTP/2 client says first: the preface and an empty SETTINGS frame.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A new connection on which both sides have spoken, so that both have verified each other.
fn connect(client: &Arc<ClientConfig>, at: SocketAddr) -> anyhow::Result<Connection> {
    let stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let session = ClientConnection::new(Arc::clone(client), ServerName::IpAddress(at.ip().into()))?;
    let mut stream = StreamOwned::new(session, stream);
    stream.write_all(PREFACE).context("shake hands")?;
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).context("read the server's settings")?;
    Ok(stream)
}
