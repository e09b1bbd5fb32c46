//! Requests that are known to be read in two ways: what reaches a backend must be read in one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use lateen_model::Tunnel;
use lateen_peers::backend::Backends;
use lateen_peers::client::Unanswered;
use lateen_peers::client::h1::Connection;
use lateen_peers::envoy::Envoy;
use lateen_peers::mesh::Mesh;
use lateen_peers::nginx::Nginx;
use lateen_peers::peers::Peer;
use lateen_peers::proxy::{self, Proxy, Start};
use lateen_peers::smuggling::{self, ATTACKS, HTTP2_ATTACKS, Seen};
use serde_json::Value;

use crate::Case;

pub(crate) const CASES: &[Case] =
    &[("nothing_is_smuggled", &[Peer::Envoy, Peer::Python, Peer::Nginx], nothing_is_smuggled)];

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A backend that remembers, behind us or behind Envoy.
struct Behind {
    backends: Backends,
    at: SocketAddr,
    _proxy: Option<Proxy>,
    _envoy: Option<Envoy>,
    _folder: tempfile::TempDir,
}

fn behind_us() -> anyhow::Result<Behind> {
    let folder = tempfile::tempdir()?;
    let backends = Backends::start(&["v1"])?;
    let mut mesh = Mesh::default();
    mesh.service("v1", "http", backends.at("v1"), Tunnel::None);
    mesh.workload("gateway", "gateway-0", LOCAL, Tunnel::None);
    let port = proxy::free_port(LOCAL)?;
    mesh.add(&format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: front, namespace: default}}\nspec:\n  \
         selector: {{app: gateway}}\n  servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ['*']}}]\n\
         ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: all, namespace: default}}\n\
         spec: {{hosts: ['*'], gateways: [front], http: [{{route: [{{destination: {{host: v1}}}}]}}]}}\n"
    ));
    let path = folder.path().join("mesh.yaml");
    mesh.write(&path)?;
    let start = Start {
        folder: folder.path(),
        role: "gateway",
        name: "gateway",
        mesh: &path,
        plain: None,
        certificate: None,
        workers: 1,
    };
    let ours = Proxy::start(start)?;
    let at = ours.at("gateway")?;
    Ok(Behind { backends, at, _proxy: Some(ours), _envoy: None, _folder: folder })
}

fn behind_envoy() -> anyhow::Result<Behind> {
    let folder = tempfile::tempdir()?;
    let backends = Backends::start(&["v1"])?;
    let hosts =
        "[{name: all, domains: ['*'], routes: [{match: {prefix: /}, route: {cluster: v1, timeout: 0s}}]}]";
    let envoy = Envoy::start(folder.path(), hosts, &[("v1", backends.at("v1"), false)])?;
    let at = envoy.address;
    Ok(Behind { backends, at, _proxy: None, _envoy: Some(envoy), _folder: folder })
}

fn nothing_is_smuggled() -> anyhow::Result<()> {
    let (ours, envoy) = (behind_us()?, behind_envoy()?);
    let (at_ours, at_envoy) = (ours.at, envoy.at);
    let (by_us, by_envoy) = std::thread::scope(|scope| {
        let (ours, envoy) = (scope.spawn(move || attack(at_ours)), scope.spawn(move || attack(at_envoy)));
        (ours.join(), envoy.join())
    });
    let failed = |_| anyhow::anyhow!("an attacker panicked");
    let (by_us, by_envoy) = (by_us.map_err(failed)??, by_envoy.map_err(failed)??);
    let recordings = ours.backends.recordings();
    let seen = read_by_all(&recordings)?;
    let at_envoys = by_number_leniently(&envoy.backends.recordings());
    let mut wrong = Vec::new();
    let mut table = String::new();
    let mut different = 0;
    let http1 = ATTACKS.iter().map(|attack| (attack.name, attack.reads));
    let http2 = HTTP2_ATTACKS.iter().map(|attack| (attack.name, attack.reads));
    for (number, (name, reads)) in http1.chain(http2).enumerate() {
        let mine = seen.get(&Some(number)).map(Vec::as_slice).unwrap_or_default();
        if let Some(why) = smuggling::unwanted(number, reads, mine) {
            wrong.push(format!("{name}: {why}; we answered {}", by_us[number]));
        }
        if name.starts_with("plain") && mine.len() != reads.len() {
            wrong.push(format!("{name}: refused with {}", by_us[number]));
        }
        let theirs = at_envoys.get(&Some(number)).map(Vec::len).unwrap_or_default();
        if mine.len() != theirs {
            different += 1;
            let _ = writeln!(
                table,
                "  {name:<50} ours {:<12} forwarded {}   Envoy {:<12} forwarded {theirs}",
                by_us[number],
                mine.len(),
                by_envoy[number]
            );
        }
    }
    let strangers: Vec<_> = seen.get(&None).into_iter().flatten().collect();
    let count = ATTACKS.len() + HTTP2_ATTACKS.len();
    let _ = writeln!(
        std::io::stderr(),
        "{count} attacks, {} of them not as wanted; {different} where Envoy's verdict is another (ours, then Envoy's):\n{table}",
        wrong.len()
    );
    ensure!(strangers.is_empty(), "requests that nobody sent: {strangers:?}");
    ensure!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
    Ok(())
}

/// So many attackers at once.
const LANES: usize = 4;

/// What was answered to each attack, in a word.
fn attack(at: SocketAddr) -> anyhow::Result<Vec<String>> {
    let count = ATTACKS.len() + HTTP2_ATTACKS.len();
    let mut answers = vec![String::new(); count];
    let lanes: Vec<_> = std::thread::scope(|scope| {
        let lane = |lane: usize| {
            scope.spawn(move || -> anyhow::Result<Vec<(usize, String)>> {
                (lane..count).step_by(LANES).map(|number| Ok((number, attack_with(at, number)?))).collect()
            })
        };
        let lanes: Vec<_> = (0..LANES).map(lane).collect();
        lanes.into_iter().map(|lane| lane.join()).collect()
    });
    for lane in lanes {
        for (number, answer) in lane.map_err(|_| anyhow::anyhow!("an attacker panicked"))?? {
            answers[number] = answer;
        }
    }
    Ok(answers)
}

fn attack_with(at: SocketAddr, number: usize) -> anyhow::Result<String> {
    let Some(attack) = ATTACKS.get(number) else {
        return Ok(smuggling::send_http2(at, &HTTP2_ATTACKS[number - ATTACKS.len()], number)?);
    };
    let mut connection = Connection::open(at)?;
    // Some wait for a rest that never comes; those that have an answer give it at once.
    connection.patience(Duration::from_millis(700))?;
    connection.send(&attack.bytes(number));
    let mut answers = Vec::new();
    loop {
        let head = attack.name.contains("head with") && answers.is_empty();
        match connection.read(head) {
            Ok(response) => answers.push(response.status.to_string()),
            Err(Unanswered::Closed) if answers.is_empty() => answers.push("closed".to_owned()),
            Err(Unanswered::Closed) => {}
            Err(Unanswered::Silent) => answers.push("silent".to_owned()),
            Err(Unanswered::Garbled) => answers.push("garbled".to_owned()),
        }
        if answers.last().is_none_or(|last| last != "200") || answers.len() > 3 {
            return Ok(answers.join(" "));
        }
        if connection.is_over() {
            return Ok(answers.join(" "));
        }
    }
}

/// What three parsers read, which must be the same.
fn read_by_all(recordings: &[Vec<u8>]) -> anyhow::Result<BTreeMap<Option<usize>, Vec<Seen>>> {
    let h11 = read_by_h11(recordings)?;
    let nginx = Nginx::reads(recordings)?;
    let mut all = Vec::new();
    for (index, recording) in recordings.iter().enumerate() {
        let strict = smuggling::complete(recording);
        let shown = || recording.escape_ascii().to_string();
        let strict = strict.map_err(|why| anyhow::anyhow!("ambiguous: {why}\n{}", shown()))?;
        ensure!(h11[index] == strict, "h11 reads {:?}, we {strict:?}\n{}", h11[index], shown());
        let lines: Vec<_> = strict.iter().map(|(method, target, _)| format!("{method} {target}")).collect();
        ensure!(
            nginx[index].starts_with(&lines),
            "nginx reads {:?}, we {lines:?}\n{}",
            nginx[index],
            shown()
        );
        all.extend(strict);
    }
    ensure!(!all.is_empty(), "no request reached the backend");
    Ok(smuggling::by_number(all))
}

/// What Envoy sent on: only for the table, so that what is ambiguous there ends a connection's list.
fn by_number_leniently(recordings: &[Vec<u8>]) -> BTreeMap<Option<usize>, Vec<Seen>> {
    let read = recordings.iter().flat_map(|recording| smuggling::complete(recording).unwrap_or_default());
    smuggling::by_number(read)
}

fn read_by_h11(recordings: &[Vec<u8>]) -> anyhow::Result<Vec<Vec<Seen>>> {
    let hex = |bytes: &Vec<u8>| bytes.iter().fold(String::new(), |all, byte| format!("{all}{byte:02x}"));
    let input = serde_json::to_vec(&recordings.iter().map(hex).collect::<Vec<_>>())?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/h11_requests.py");
    let mut command = Command::new(Peer::Python.need()?);
    command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().context("start Python")?;
    child.stdin.take().context("a pipe")?.write_all(&input)?;
    let output = child.wait_with_output()?;
    let read: Vec<Value> = serde_json::from_slice(&output.stdout).context("what h11 reads")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all = Vec::new();
    for (connection, bytes) in read.iter().zip(recordings) {
        ensure!(connection["error"].is_null(), "h11: {}\n{}", connection["error"], bytes.escape_ascii());
        let requests = connection["requests"].as_array().context("a list")?;
        all.push(requests.iter().map(|one| (text(&one[0]), text(&one[1]), unhex(&text(&one[2])))).collect());
    }
    Ok(all)
}

fn unhex(text: &str) -> Vec<u8> {
    let pair = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..text.len()).step_by(2).filter_map(pair).collect()
}
