//! How long changes take in a mesh of some size: `cargo run --release -p lateen-world --example scale [services] [workloads]`.
#![expect(clippy::print_stdout, reason = "it prints a table")]

use lateen_model::{Instance, Namespace, NodeName, ProcessPort, ServiceAccount, Tunnel};
use lateen_world::{Change, Settings, World};
use std::time::{Duration, Instant};

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let (services, workloads) = (numbers.next().unwrap_or(1000), numbers.next().unwrap_or(10_000));
    for namespaces in [50, 1] {
        println!("{services} services, {workloads} workloads, {namespaces} namespaces");
        run(services, workloads, namespaces);
    }
}

fn run(services: usize, workloads: usize, namespaces: usize) {
    let mut world = World::new(Settings::default());
    let files: Vec<_> = (0..services).map(|index| set(index, index % namespaces, 1)).collect();
    let bytes: usize =
        files.iter().map(|file| if let Change::SetFile { text, .. } = file { text.len() } else { 0 }).sum();
    let start = Instant::now();
    world.apply(files);
    println!("  read {services} files ({} KiB): {:?}", bytes >> 10, start.elapsed());
    let start = Instant::now();
    world.apply(
        (0..workloads)
            .map(|index| instance(index, index % services, index % services % namespaces, true))
            .collect(),
    );
    println!("  join {workloads} instances: {:?}", start.elapsed());
    report("one instance", 200, |round| {
        let changed = world.apply(vec![instance(
            round,
            round % services,
            round % services % namespaces,
            round % 2 == 1,
        )]);
        changed.delta.set.len()
    });
    report(
        "one file (Service, DestinationRule, VirtualService, AuthorizationPolicy), weights",
        100,
        |round| {
            let index = round % services;
            world.apply(vec![set(index, index % namespaces, round + 2)]).delta.set.len()
        },
    );
    report("one file, selector of the service", 100, |round| {
        let index = round % services;
        let Change::SetFile { path, text } = set(index, index % namespaces, round + 2) else {
            unreachable!()
        };
        let text = text.replace("selector: {app:", "selector: {half: a, app:");
        world.apply(vec![Change::SetFile { path, text }]).delta.set.len()
    });
    println!("  problems: {}", world.problems().len());
}

fn report(what: &str, rounds: usize, mut step: impl FnMut(usize) -> usize) {
    let mut times: Vec<Duration> = Vec::new();
    let mut rows = 0;
    for round in 0..rounds {
        let start = Instant::now();
        rows += step(round);
        times.push(start.elapsed());
    }
    times.sort();
    println!(
        "  {what}: median {:?}, p99 {:?}, {} rows in {rounds} rounds",
        times[rounds / 2],
        times[rounds * 99 / 100],
        rows
    );
}

fn set(index: usize, namespace: usize, weight: usize) -> Change {
    let text = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: s{index}, namespace: n{namespace}}}
spec:
  selector: {{app: s{index}}}
  ports: [{{name: http, port: 80, targetPort: web}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: s{index}, namespace: n{namespace}}}
spec: {{host: s{index}, subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: s{index}, namespace: n{namespace}}}
spec:
  hosts: [s{index}]
  http:
  - route:
    - destination: {{host: s{index}, subset: v1}}
      weight: {weight}
    - destination: {{host: s{index}, subset: v2}}
      weight: 10
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: s{index}, namespace: n{namespace}}}
spec: {{selector: {{matchLabels: {{app: s{index}}}}}, rules: [{{from: [{{source: {{namespaces: [n{namespace}]}}}}]}}]}}
"
    );
    Change::SetFile { path: format!("s{index}.yaml").into(), text }
}

fn instance(index: usize, service: usize, namespace: usize, ready: bool) -> Change {
    Change::SetInstance(Instance {
        name: format!("s{service}-{index}").into(),
        namespace: Namespace::parse(&format!("n{namespace}")).expect("a namespace"),
        process: format!("s{service}").into(),
        labels: [("app", format!("s{service}")), ("version", "v1".to_owned()), ("half", "a".to_owned())]
            .into_iter()
            .collect(),
        service_account: ServiceAccount::default(),
        addresses: vec!["10.0.0.1".parse().expect("an address")],
        ports: vec![ProcessPort { name: "web".into(), port: 9080 }],
        tunnel: Tunnel::Hbone,
        ready,
        node: NodeName::default(),
    })
}
