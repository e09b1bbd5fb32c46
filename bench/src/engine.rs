//! Decisions at ten thousand of everything, in a fresh process: routes on one gateway, endpoints of one service.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use clap::Args;
use lateen_cli::output::Output;
use lateen_engine::{
    BackendId, Compiler, ConnectionFacts, Destination, Direction, Excluded, Headers, LeftOut, Load,
    Preference, RequestDecision, RequestFacts, decide_request, pick_endpoint,
};
use lateen_model::{Delta, Entry, Identity, PathMatch, ProxyRole, Resource, StringMatch, Viewer};
use lateen_wire::convert;
use lateen_world::{Change, Settings, World};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::contender::CORE;
use crate::figures::Figure;
use crate::http::Places;
use crate::machine::Machine;
use crate::sheet::{self, Sheet};
use crate::{child, ours};

const MANY: usize = 10_000;

/// Measure decisions: 10,000 routes on one gateway, 10,000 endpoints of one service.
#[derive(Debug, Clone, Args)]
pub(crate) struct EngineArgs {
    #[command(flatten)]
    pub(crate) places: Places,
}

/// What a fresh process found.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Found {
    match_nanos: Figure,
    route_changed_micros: Figure,
    bytes_per_route: f64,
    pick_nanos: Figure,
    endpoint_changed_micros: Figure,
}

pub(crate) fn run(args: &EngineArgs, output: &mut Output) -> anyhow::Result<()> {
    let machine = Machine::here();
    let said = child::engine(CORE)?.output().context("start a fresh process")?;
    anyhow::ensure!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let found: Found = serde_json::from_slice(&said.stdout).context("read what it found")?;
    let mut sheet =
        Sheet::new("Decisions at 10,000 of everything", ["", "median [min-max]", "target", "met"]);
    let mut row = |what: &str, found: Figure, unit: &str, most: f64| {
        let met = if found.median <= most { "yes" } else { "no" };
        sheet.row([what.into(), format!("{found} {unit}"), format!("≤ {most} {unit}"), met.into()]);
    };
    let memory =
        Figure { median: found.bytes_per_route, min: found.bytes_per_route, max: found.bytes_per_route };
    row("10,000 routes on one host of a gateway: match", found.match_nanos, "ns", 1_000.0);
    row("10,000 routes: one changed, compiled and in a snapshot", found.route_changed_micros, "µs", 1_000.0);
    row("10,000 routes: memory for each, resource included", memory, "bytes", 2_048.0);
    row("10,000 endpoints: pick by least request", found.pick_nanos, "ns", 150.0);
    row(
        "10,000 endpoints: one changed, compiled and in a snapshot",
        found.endpoint_changed_micros,
        "µs",
        200.0,
    );
    let details = json!({ "found": found });
    sheet::publish(&args.places.results, "engine", &machine, &[sheet], &[], details, output)
}

/// The work of the fresh process.
pub(crate) fn measure_and_print() -> anyhow::Result<()> {
    let (match_nanos, route_changed_micros, bytes_per_route) = routes()?;
    let (pick_nanos, endpoint_changed_micros) = endpoints()?;
    let found =
        Found { match_nanos, route_changed_micros, bytes_per_route, pick_nanos, endpoint_changed_micros };
    let mut output = Output::of_process(lateen_cli::args::Color::Auto);
    output.line(serde_json::to_string(&found)?)?;
    Ok(())
}

/// Nanoseconds of one turn, over rounds of many.
fn time(turns: u32, mut turn: impl FnMut(u32)) -> Figure {
    let rounds = (0..15).map(|round| {
        let start = Instant::now();
        (0..turns).for_each(|number| turn(round * turns + number));
        start.elapsed().as_nanos() as f64 / f64::from(turns)
    });
    Figure::of(rounds).unwrap_or(Figure { median: 0.0, min: 0.0, max: 0.0 })
}

fn routes() -> anyhow::Result<(Figure, Figure, f64)> {
    let mut world = World::new(Settings::default());
    let outcome = world.apply(vec![
        Change::SetFile { path: "bench.yaml".into(), text: GATEWAY_AND_ROUTE.to_owned() },
        Change::SetInstance(ours::instance("gateway", "10.0.0.1".parse()?, lateen_model::Tunnel::None)?),
    ]);
    let (template, rest): (Vec<_>, Vec<_>) =
        outcome.delta.set.into_iter().partition(|entry| matches!(entry.resource, Resource::Route(_)));
    let template = template.into_iter().next().context("no route was made")?;
    let mut compiler = Compiler::new(viewer("gateway", ProxyRole::Gateway)?);
    compiler.apply(&Delta { set: rest, removed: Vec::new() });

    let before = child::memory_of("self")?;
    let entries = (0..MANY).map(|number| route(&template, number, 1)).collect::<anyhow::Result<_>>()?;
    let mut snapshot = compiler.apply(&Delta { set: entries, removed: Vec::new() });
    let bytes = child::memory_of("self")?.saturating_sub(before) as f64 / MANY as f64;

    let facts = facts(Direction::Gateway, "10.0.0.1:80")?;
    let paths: Vec<_> = (0..MANY).map(|number| format!("/shop/{}/item", (number * 7919) % MANY)).collect();
    let matched = time(20_000, |number| {
        let path = &paths[number as usize % MANY];
        black_box(decide_request(&snapshot, &request(&facts, "shop.example.com", path)));
    });
    let last = decide_request(&snapshot, &request(&facts, "shop.example.com", &paths[77]));
    anyhow::ensure!(matches!(last, RequestDecision::Forward(_)), "the routes do not match");
    let flips = [route(&template, 77, 2)?, route(&template, 77, 1)?];
    let flips = flips.map(|entry| Delta { set: vec![entry], removed: Vec::new() });
    let changed = time(200, |number| snapshot = compiler.apply(&flips[number as usize % 2]));
    Ok((matched, changed.times(1e-3), bytes))
}

/// One of many routes, decoded from bytes as a proxy gets it, so that it shares nothing with the others.
fn route(template: &Entry, number: usize, weight: u32) -> anyhow::Result<Arc<Entry>> {
    let mut entry = template.clone();
    let Resource::Route(route) = &mut entry.resource else { anyhow::bail!("the template is no route") };
    entry.key.name = format!("route-{number:05}").into();
    route.key = entry.key.clone();
    for rule in &mut route.rules {
        for matching in &mut rule.matches {
            matching.path = Some(PathMatch::Text(StringMatch::Prefix(format!("/shop/{number}/").into())));
        }
        for backend in &mut rule.backends {
            backend.weight = weight;
        }
    }
    let encoded = convert::encode(&entry);
    let decoded = convert::decode(encoded.type_url, &encoded.name, encoded.bytes);
    Ok(Arc::new(decoded.map_err(|refused| anyhow::anyhow!("refused: {}", refused.why))?))
}

fn endpoints() -> anyhow::Result<(Figure, Figure)> {
    let mut world = World::new(Settings::default());
    let instance = |number: usize, ready: bool| -> anyhow::Result<Change> {
        let [_, b, c, d] = (number as u32).to_be_bytes();
        let mut instance = ours::instance("backend", [10, 1 + b, c, d].into(), lateen_model::Tunnel::Hbone)?;
        instance.name = format!("backend-{number}").into();
        instance.ready = ready;
        Ok(Change::SetInstance(instance))
    };
    let file = Change::SetFile { path: "bench.yaml".into(), text: SERVICE.to_owned() };
    let changes = [Ok(file)].into_iter().chain((0..MANY).map(|number| instance(number, true)));
    let delta = world.apply(changes.collect::<anyhow::Result<Vec<_>>>()?).delta;
    let mut compiler = Compiler::new(viewer("client", ProxyRole::Sidecar)?);
    let mut snapshot = compiler.apply(&delta);
    let flips = [world.apply(vec![instance(77, false)?]).delta, world.apply(vec![instance(77, true)?]).delta];
    anyhow::ensure!(flips.iter().all(|delta| !delta.is_empty()), "an endpoint's change changes nothing");
    let changed = time(200, |number| snapshot = compiler.apply(&flips[number as usize % 2]));

    let host = "backend.default.svc.cluster.local";
    let mut facts = facts(Direction::Outbound, "10.0.0.1:80")?;
    facts.destination_host = Some(host.into());
    let picked = {
        let RequestDecision::Forward(forward) = decide_request(&snapshot, &request(&facts, host, "/")) else {
            anyhow::bail!("the service is not found");
        };
        let Destination::Backend(backend) = forward.to else { anyhow::bail!("it has no endpoints") };
        let excluded = Excluded::default();
        let mut die = 1_u64;
        time(20_000, |_| {
            // A cheap die: what is measured is the choice.
            die = die.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            black_box(
                pick_endpoint(&snapshot, backend, &Preference::default(), &excluded, &Idle, die).is_ok(),
            );
        })
    };
    Ok((picked, changed.times(1e-3)))
}

/// Nothing is under way.
struct Idle;

impl Load for Idle {
    fn active(&self, _: std::net::SocketAddr) -> u32 {
        0
    }
    fn next(&self, _: u64) -> u64 {
        0
    }
    fn left_out(&self, _: BackendId) -> Option<LeftOut> {
        None
    }
    fn now(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

struct NoHeaders;

impl Headers for NoHeaders {
    fn get(&self, _: &str) -> Option<std::borrow::Cow<'_, str>> {
        None
    }
    fn any(&self, _: &str, _: &mut dyn FnMut(&str) -> bool) -> bool {
        false
    }
}

fn facts(direction: Direction, destination: &str) -> anyhow::Result<ConnectionFacts> {
    Ok(ConnectionFacts {
        direction,
        client: "10.9.9.9:40000".parse()?,
        destination: destination.parse()?,
        destination_host: None,
        peer: None,
        sni: None,
        tls: false,
    })
}

fn request<'a>(connection: &'a ConnectionFacts, host: &'a str, path: &'a str) -> RequestFacts<'a> {
    RequestFacts {
        connection,
        scheme: "http",
        method: "GET",
        authority: host,
        path_and_query: path,
        headers: &NoHeaders,
        random: 0,
    }
}

fn viewer(name: &str, role: ProxyRole) -> anyhow::Result<Viewer> {
    let account = lateen_model::ServiceAccount::parse(name)?;
    let namespace = lateen_model::Namespace::default();
    Ok(Viewer {
        role,
        name: name.into(),
        identity: Identity::new(lateen_model::TrustDomain::default(), namespace, account),
        labels: [("app", name)].into_iter().collect(),
        node: lateen_model::NodeName::default(),
        network: lateen_model::NetworkId::default(),
    })
}

const SERVICE: &str = "---
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: default}
spec:
  selector: {app: backend}
  ports: [{name: http, port: 80, targetPort: 8080}]
";

const GATEWAY_AND_ROUTE: &str = "---
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: default}
spec:
  selector: {app: backend}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: bench, namespace: default}
spec:
  selector: {app: gateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: template, namespace: default}
spec:
  hosts: [shop.example.com]
  gateways: [bench]
  http:
  - match: [{uri: {prefix: /template}}]
    timeout: 15s
    route: [{destination: {host: backend}}]
";
