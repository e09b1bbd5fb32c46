//! Backends are restarted one after another, and routes are edited, under load: nothing fails.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use lateen_peers::control::Control;
use lateen_peers::load::{self, Failure, Kind, Plan};
use lateen_peers::nginx::Nginx;
use lateen_peers::peers::Peer;
use lateen_peers::process::{self, Process, eventually};
use lateen_peers::proxy::{free_port, own_address};
use rustix::process::Signal;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    ("no_request_fails_while_backends_restart", &[Peer::Nginx], backends_restart),
    ("a_killed_backend_fails_only_what_it_may_have_seen", &[], backends_are_killed),
];

/// Requests a second, of all kinds together.
const RATE: u32 = 500;
/// So many backends have each service.
const BACKENDS: u8 = 3;
const RESTARTS: usize = 20;
const LEAST: Duration = Duration::from_secs(5);
const EDIT_EVERY: Duration = Duration::from_millis(100);
/// Nothing here takes longer, or something hangs.
const LONGEST: Duration = Duration::from_secs(60);

/// Something that listens and can be started again at its place.
trait Backend: Sized {
    fn start(at: SocketAddr) -> anyhow::Result<Self>;
    /// Ends it, so that what is under way is finished.
    fn end(&mut self) -> anyhow::Result<()>;
}

/// `lateen echo`: HTTP/1.1, HTTP/2 and gRPC.
struct Echo(Process);

impl Backend for Echo {
    fn start(at: SocketAddr) -> anyhow::Result<Self> {
        let mut command = process::lateen()?;
        command.args(["echo", "--http", &at.port().to_string(), "--bind", &at.ip().to_string()]);
        command.stdout(Stdio::null());
        let mut process = Process::start(command)?;
        eventually("echo listens", || (TcpStream::connect(at).is_ok() || !process.is_alive()).then_some(()))?;
        ensure!(process.is_alive(), "echo ended at its start");
        Ok(Self(process))
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let status = self.0.end()?;
        ensure!(status.success(), "echo ended with {status}");
        Ok(())
    }
}

impl Backend for Nginx {
    fn start(at: SocketAddr) -> anyhow::Result<Self> {
        Nginx::start_at(
            at,
            true,
            "keepalive_timeout 5s; keepalive_requests 300; location / { return 200 'here'; }",
        )
    }

    fn end(&mut self) -> anyhow::Result<()> {
        // nginx calls this a graceful end, and SIGTERM a fast one.
        self.process().signal(Signal::QUIT);
        self.process().wait()?;
        Ok(())
    }
}

/// Addresses of the backends of a service: one port, an address each.
fn places() -> anyhow::Result<Vec<SocketAddr>> {
    let IpAddr::V4(first) = own_address() else { anyhow::bail!("an address of the loopback") };
    let [a, b, c, _] = first.octets();
    let port = free_port(first.into())?;
    Ok((1..=BACKENDS).map(|last| SocketAddr::from(([a, b, c, last], port))).collect())
}

/// Declares a service with its backends, and starts them.
fn service<B: Backend>(control: &Control, name: &str, port: &str) -> anyhow::Result<Vec<(SocketAddr, B)>> {
    let places = places()?;
    let target = places[0].port();
    control.write(
        &format!("{name}.yaml"),
        &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  selector: {{app: \
             {name}}}\n  ports: [{{name: {port}, port: 80, targetPort: {target}}}]\n"
        ),
    )?;
    edit(control, name, 0)?;
    for (index, place) in places.iter().enumerate() {
        control.register(name, &format!("{name}-{index}"), place.ip())?;
    }
    places.into_iter().map(|place| Ok((place, B::start(place)?))).collect()
}

/// A route that says in each answer which edit of it was in force.
fn edit(control: &Control, name: &str, number: usize) -> anyhow::Result<()> {
    let extra = if number.is_multiple_of(2) { "" } else { "timeout: 30s, " };
    control.write(
        &format!("route-{name}.yaml"),
        &format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: default}}\n\
             spec:\n  hosts: [{name}]\n  http:\n  - {{{extra}headers: {{response: {{set: {{x-edit: 'e{number}'}}}}}}, \
             route: [{{destination: {{host: {name}}}}}]}}\n"
        ),
    )
}

/// Edits the routes of these services until told to stop; says how often.
fn keep_editing(control: &Control, names: &[&str], stop: &AtomicBool) -> anyhow::Result<usize> {
    let mut edits = 0;
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        edits += 1;
        for name in names {
            edit(control, name, edits)?;
        }
        next += EDIT_EVERY;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(edits)
}

fn restart<B: Backend>((place, backend): &mut (SocketAddr, B)) -> anyhow::Result<()> {
    backend.end()?;
    *backend = B::start(*place)?;
    Ok(())
}

fn backends_restart() -> anyhow::Result<()> {
    let begun = Instant::now();
    let control = Control::start()?;
    let mut plain = service::<Nginx>(&control, "plain", "http")?;
    let mut two = service::<Echo>(&control, "two", "http2")?;
    let mut calls = service::<Echo>(&control, "calls", "grpc")?;
    control.register("client", "client-0", own_address())?;
    let names = ["plain", "two", "calls"];
    let (proxy, at) = control.sidecar(&names)?;
    let kinds = [Kind::Http1 { posts: 0 }, Kind::Http2, Kind::Grpc];
    let plans = kinds
        .iter()
        .zip(&at)
        .map(|(kind, at)| Plan { kind: *kind, at: *at, rate: RATE.div_ceil(3) })
        .collect();
    let load = load::start(plans);
    let stop = AtomicBool::new(false);
    let (edits, restarted) = std::thread::scope(|scope| {
        let editing = scope.spawn(|| keep_editing(&control, &names, &stop));
        let begun = Instant::now();
        // Where restarts are quick there are more of them, so that enough requests meet one.
        let turns = (0..).take_while(|turn| *turn < RESTARTS || begun.elapsed() < LEAST);
        let restarted: anyhow::Result<usize> = turns
            .map(|turn| {
                let which = turn % usize::from(BACKENDS);
                restart(&mut plain[which])?;
                restart(&mut two[which])?;
                restart(&mut calls[which])?;
                load.settle()?;
                Ok(turn + 1)
            })
            .try_fold(0, |_, turn: anyhow::Result<usize>| turn);
        stop.store(true, Ordering::Relaxed);
        (editing.join(), restarted)
    });
    let edits = edits.map_err(|_| anyhow::anyhow!("the editor panicked"))??;
    let restarts = restarted?;
    let tallies = load.stop()?;
    let lines = proxy.finish()?;
    let mut failed = Vec::new();
    for (name, tally) in names.iter().zip(&tallies) {
        let _ = writeln!(
            std::io::stderr(),
            "{name}: {} requests while each backend ended and came back, {restarts} times in all; {edits} edits, {} of them \
             seen in answers; {} failed ({:?})",
            tally.sent,
            tally.edits.len(),
            tally.failed.len(),
            begun.elapsed()
        );
        ensure!(tally.sent > 300, "{name}: only {} requests were sent", tally.sent);
        ensure!(
            tally.edits.len() > edits / 4,
            "{name}: only {} of {edits} edits were seen",
            tally.edits.len()
        );
        failed.extend(tally.failed.iter().take(4));
    }
    ensure!(failed.is_empty(), "some failed, such as {:#?}", told(&failed, &lines));
    ensure!(begun.elapsed() < LONGEST, "it took {:?}", begun.elapsed());
    Ok(())
}

/// Failures, with what the access log says of their kind: calls of gRPC share one path.
fn told(failed: &[&Failure], lines: &[serde_json::Value]) -> Vec<String> {
    let of = |failure: &Failure| {
        let failures =
            |line: &&serde_json::Value| line["path"] == *failure.path && line["response_flags"] != "-";
        let line = lines.iter().find(failures).cloned().unwrap_or_default();
        format!("{} {}: {} -- {line}", failure.method, failure.path, failure.why)
    };
    failed.iter().map(|failure| of(failure)).collect()
}

fn backends_are_killed() -> anyhow::Result<()> {
    let control = Control::start()?;
    let mut plain = service::<Echo>(&control, "plain", "http")?;
    control.register("client", "client-0", own_address())?;
    let (proxy, at) = control.sidecar(&["plain"])?;
    let load = load::start(vec![Plan { kind: Kind::Http1 { posts: 5 }, at: at[0], rate: RATE }]);
    for turn in 0..RESTARTS {
        let (place, backend) = &mut plain[turn % usize::from(BACKENDS)];
        backend.0.signal(Signal::KILL);
        backend.0.wait()?;
        *backend = Echo::start(*place)?;
        load.settle()?;
        std::thread::sleep(EDIT_EVERY);
    }
    let tally = load.stop()?.remove(0);
    let lines = proxy.finish()?;
    let by_path: HashMap<&str, &serde_json::Value> =
        lines.iter().filter_map(|line| Some((line["path"].as_str()?, line))).collect();
    let _ = writeln!(
        std::io::stderr(),
        "{} requests while backends were killed {RESTARTS} times: {} failed, all of them POST that a dead process may have seen",
        tally.sent,
        tally.failed.len()
    );
    for failure in &tally.failed {
        let line = by_path.get(failure.path.as_str()).copied().cloned().unwrap_or_default();
        let flags = line["response_flags"].as_str().unwrap_or_default();
        ensure!(
            failure.method == "POST",
            "{} {} failed: {} -- {line}",
            failure.method,
            failure.path,
            failure.why
        );
        ensure!(flags.contains("UC"), "{} failed without saying so: {line}", failure.path);
    }
    // A process that is killed takes the few requests along that it was working on, no more.
    let most = RESTARTS * 20;
    ensure!(tally.failed.len() <= most, "{} failed", tally.failed.len());
    Ok(())
}
