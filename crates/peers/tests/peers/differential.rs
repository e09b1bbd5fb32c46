//! The same requests through Envoy and through us.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::ensure;
use lateen_engine::{Question, journey};
use lateen_model::{Catalog, Tunnel};
use lateen_peers::backend::Backends;
use lateen_peers::case::{Body, Case as Request, Version};
use lateen_peers::compare::{Asker, Aspect, Difference, Outcome, differences};
use lateen_peers::corpus;
use lateen_peers::differences::MEANT;
use lateen_peers::envoy::{Cluster, Envoy};
use lateen_peers::mesh::Mesh;
use lateen_peers::peers::Peer;
use lateen_peers::proxy::{self, Proxy, Start};
use lateen_peers::rules::{self, APPS};
use serde_json::Value;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    ("the_same_requests_through_envoy", &[Peer::Envoy], the_same_requests),
    ("weights_split_as_envoy_splits", &[Peer::Envoy], weights),
];

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Any number; the same requests on every machine.
const SEED: u64 = 2026;
const REQUESTS: usize = 4000;

/// Both proxies in front of the same applications.
struct Two {
    envoy: Envoy,
    ours: Proxy,
    at: SocketAddr,
    catalog: Catalog,
    _backends: Backends,
    _folder: tempfile::TempDir,
}

impl Two {
    fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let names: Vec<&str> = APPS.iter().map(|(name, _)| *name).collect();
        let backends = Backends::start(&names)?;
        let clusters: Vec<Cluster<'_>> =
            APPS.iter().map(|(name, http2)| (*name, backends.at(name), *http2)).collect();
        let envoy = Envoy::start(folder.path(), &rules::virtual_hosts(), &clusters)?;
        let port = proxy::free_port(LOCAL)?;
        let mut mesh = Mesh::default();
        for (name, at, http2) in clusters {
            mesh.service(name, if http2 { "http2" } else { "http" }, at, Tunnel::None);
        }
        mesh.workload("gateway", "gateway-0", LOCAL, Tunnel::None);
        mesh.add(&rules::objects(port));
        let path = folder.path().join("mesh.yaml");
        let catalog = mesh.write(&path)?;
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
        Ok(Self { envoy, ours, at, catalog, _backends: backends, _folder: folder })
    }
}

fn the_same_requests() -> anyhow::Result<()> {
    let two = Two::start()?;
    let requests = corpus::generate(SEED, REQUESTS);
    let (at_envoy, at_ours) = (two.envoy.address, two.at);
    let (envoy, ours) = std::thread::scope(|scope| {
        let envoy = scope.spawn(|| ask(at_envoy, &requests));
        let ours = scope.spawn(|| ask(at_ours, &requests));
        (envoy.join(), ours.join())
    });
    let failed = |_| anyhow::anyhow!("a caller panicked");
    let (envoy, ours) = (envoy.map_err(failed)??, ours.map_err(failed)??);
    let logs = (by_case(two.envoy.finish()?), by_case(two.ours.finish()?));
    explained(&two.catalog, at_ours.port(), &requests, &logs.1)?;
    let mut report = Report::default();
    for (request, (envoy, ours)) in requests.iter().zip(envoy.iter().zip(&ours)) {
        let mut found = differences(envoy, ours);
        found.extend(routes(request, &logs, envoy, ours));
        report.take(request, found);
    }
    report.finish(requests.len())
}

/// So many requests are split by weight.
const SPLIT: u32 = 3000;

fn weights() -> anyhow::Result<()> {
    let two = Two::start()?;
    for (who, at) in [("Envoy", two.envoy.address), ("ours", two.at)] {
        let mut asker = Asker::new(at)?;
        let mut counts = BTreeMap::<String, u32>::new();
        for id in 0..SPLIT as usize {
            let request = Request {
                id,
                version: Version::Http11,
                method: "GET".to_owned(),
                target: "/".to_owned(),
                host: rules::SPLIT.0.to_owned(),
                headers: Vec::new(),
                body: Body::None,
            };
            *counts.entry(asker.ask(&request)?.backend().to_owned()).or_default() += 1;
        }
        let total: u32 = rules::SPLIT.1.iter().sum();
        for (name, weight) in ["v1", "v2", "v3"].into_iter().zip(rules::SPLIT.1) {
            let share = f64::from(weight) / f64::from(total);
            let (expected, deviation) =
                (f64::from(SPLIT) * share, (f64::from(SPLIT) * share * (1.0 - share)).sqrt());
            let found = f64::from(counts.remove(name).unwrap_or_default());
            // Six deviations: once in half a billion runs by chance.
            let near = (found - expected).abs() <= 6.0 * deviation;
            ensure!(near, "{who}: {found} of {SPLIT} at {name}, expected about {expected}");
        }
        ensure!(counts.is_empty(), "{who}: some went elsewhere: {counts:?}");
    }
    Ok(())
}

fn ask(at: SocketAddr, requests: &[Request]) -> anyhow::Result<Vec<Outcome>> {
    let mut asker = Asker::new(at)?;
    requests.iter().map(|request| asker.ask(request)).collect()
}

type Log = HashMap<String, Value>;

/// Lines of an access log by the case that they tell of.
fn by_case(lines: Vec<Value>) -> Log {
    let name = |line: &Value| line["user_agent"].as_str().map(str::to_owned);
    lines.into_iter().filter_map(|line| Some((name(&line)?, line))).collect()
}

/// The routes that the logs name, where both forwarded.
fn routes(request: &Request, logs: &(Log, Log), envoy: &Outcome, ours: &Outcome) -> Option<Difference> {
    envoy.received.as_ref().and(ours.received.as_ref())?;
    let text = |log: &Log, key| {
        log.get(&request.name()).and_then(|line| line[key].as_str()).unwrap_or_default().to_owned()
    };
    let (envoy, ours) = (text(&logs.0, "route"), text(&logs.1, "route_name"));
    let same = ours.rsplit(['.', '/']).next() == Some(&envoy);
    (!same).then_some(Difference { aspect: Aspect::Route, envoy, ours })
}

/// What `lateen explain` says of every request that was decided on is what the proxy then did.
fn explained(catalog: &Catalog, port: u16, requests: &[Request], log: &Log) -> anyhow::Result<()> {
    let (mut asked, mut wrong) = (0, Vec::new());
    for request in requests {
        let Some(line) = log.get(&request.name()) else { continue };
        // `OPTIONS *` has no URL.
        if request.target == "*" {
            continue;
        }
        let route = line["route_name"].as_str();
        if route.is_none() && line["response_code_details"] != "route_not_found" {
            continue;
        }
        asked += 1;
        let explained = explanation(catalog, port, request)?;
        let done = route
            .map(|route| format!("{route} to {}", line["upstream_cluster"].as_str().unwrap_or_default()));
        let done = done.unwrap_or_else(|| "refused".to_owned());
        if explained != done {
            wrong.push(format!("{request}\n      explained {explained}, done {done}"));
        }
    }
    let _ = writeln!(std::io::stderr(), "{asked} requests explained, {} of them wrongly", wrong.len());
    ensure!(
        wrong.is_empty(),
        "explained wrongly, such as\n    {}",
        wrong[..wrong.len().min(8)].join("\n    ")
    );
    ensure!(asked * 2 > requests.len(), "only {asked} were explained");
    Ok(())
}

/// The route and the service that `lateen explain` names.
fn explanation(catalog: &Catalog, port: u16, request: &Request) -> anyhow::Result<String> {
    let mut headers: Vec<(String, String)> =
        request.fields().map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    if request.version == Version::Http2 {
        join_cookies(&mut headers);
    }
    headers.push(("host".to_owned(), request.host.clone()));
    let question = Question {
        from: "default/gateway-0".to_owned(),
        to: format!("http://gateway.test:{port}{}", request.target),
        method: request.method.clone(),
        headers,
        random: 0,
    };
    let journey = journey(catalog, &question)?;
    let taken = journey.legs.first().and_then(|leg| leg.explanation.taken.as_ref());
    let Some(taken) = taken else { return Ok("refused".to_owned()) };
    let effective = &taken.forward.effective;
    let service = effective.service.as_ref().map(|service| service.hostname.to_string()).unwrap_or_default();
    Ok(format!("{} to outbound|{}||{service}", effective.route_name, effective.port))
}

/// Crumbs are one cookie to everybody but HTTP/2 (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut Vec<(String, String)>) {
    let is_cookie = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("cookie");
    let crumbs: Vec<String> = headers.iter().filter(is_cookie).map(|(_, value)| value.clone()).collect();
    if crumbs.len() > 1 {
        headers.retain(|header| !is_cookie(&header));
        headers.push(("cookie".to_owned(), crumbs.join("; ")));
    }
}

/// What was found, meant and not.
#[derive(Default)]
struct Report {
    meant: BTreeMap<&'static str, usize>,
    unmeant: BTreeMap<String, Vec<String>>,
    same: usize,
}

impl Report {
    fn take(&mut self, request: &Request, found: Vec<Difference>) {
        if found.is_empty() {
            self.same += 1;
        }
        for difference in found {
            match MEANT.iter().find(|meant| (meant.covers)(request, &difference)) {
                Some(meant) => *self.meant.entry(meant.name).or_default() += 1,
                None => {
                    let Difference { aspect, envoy, ours } = difference;
                    let line = format!("{request}\n      Envoy {envoy}, ours {ours}");
                    self.unmeant.entry(aspect.to_string()).or_default().push(line);
                }
            }
        }
    }

    fn finish(self, requests: usize) -> anyhow::Result<()> {
        let meant: usize = self.meant.values().sum();
        let unmeant: usize = self.unmeant.values().map(Vec::len).sum();
        let _ = writeln!(
            std::io::stderr(),
            "{requests} requests: {} the same in everything, {meant} differences that are meant ({:?}), {unmeant} that are not",
            self.same,
            self.meant
        );
        let mut text = String::new();
        for (aspect, lines) in &self.unmeant {
            text.push_str(&format!(
                "\n{aspect}: {} times, such as\n    {}",
                lines.len(),
                lines[..lines.len().min(6)].join("\n    ")
            ));
        }
        ensure!(unmeant == 0, "{text}");
        let gone: Vec<_> = MEANT
            .iter()
            .filter(|meant| !self.meant.contains_key(meant.name))
            .map(|meant| meant.name)
            .collect();
        ensure!(gone.is_empty(), "meant differences that never occur: {gone:?}");
        Ok(())
    }
}
