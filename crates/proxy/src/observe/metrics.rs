//! The Istio metric names and labels, counted in cells of one worker.
//!
//! A request finds its cells by a hash over what its labels are made of; only the first request of a label
//! set makes text of them.

use super::access::{Http, Record, What};
use hashbrown::HashTable;
use lateen_engine::Direction;
use lateen_model::{Identity, ServiceId, Str, Workload};
use lateen_runtime::metrics::{
    Counter, CounterFamily, Histogram, HistogramFamily, Labels, Registry, WorkerMetrics,
};
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// Envoy's buckets, for milliseconds and bytes alike.
const BUCKETS: &[f64] = &[
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Label sets one worker remembers; past them it starts anew, which costs a look-up each and loses nothing.
const REMEMBERED: usize = 20_000;

/// The families, declared once in the registry.
#[derive(Clone, Copy)]
struct Families {
    requests: CounterFamily,
    duration: HistogramFamily,
    request_bytes: HistogramFamily,
    response_bytes: HistogramFamily,
    tcp_opened: CounterFamily,
    tcp_closed: CounterFamily,
    tcp_sent: CounterFamily,
    tcp_received: CounterFamily,
}

impl Families {
    fn declare(registry: &Registry) -> Self {
        Self {
            requests: registry
                .counter("istio_requests_total", "requests, by who called whom and how it ended"),
            duration: registry.histogram(
                "istio_request_duration_milliseconds",
                "from the first byte of a request to the last of its answer",
                BUCKETS,
            ),
            request_bytes: registry.histogram("istio_request_bytes", "body bytes of requests", BUCKETS),
            response_bytes: registry.histogram("istio_response_bytes", "body bytes of answers", BUCKETS),
            tcp_opened: registry.counter("istio_tcp_connections_opened_total", "TCP connections opened"),
            tcp_closed: registry.counter("istio_tcp_connections_closed_total", "TCP connections closed"),
            tcp_sent: registry
                .counter("istio_tcp_sent_bytes_total", "bytes sent to the caller over TCP connections"),
            tcp_received: registry.counter(
                "istio_tcp_received_bytes_total",
                "bytes received from the caller over TCP connections",
            ),
        }
    }
}

/// What a proxy knows of itself and of callers, as labels tell it.
pub trait Directory {
    /// The workload this proxy stands beside, once the snapshot has it.
    fn own(&self) -> Option<Arc<Workload>>;
    /// The workload with this address.
    fn at(&self, ip: std::net::IpAddr) -> Option<Arc<Workload>>;
}

/// Everything that labels of a record are made of, borrowed.
#[derive(PartialEq, Eq, Hash, Clone, Copy)]
struct Facts<'a> {
    outbound: bool,
    http: Option<(u16, Option<u16>, bool)>,
    flags: &'a str,
    peer: Option<&'a Identity>,
    mutual_tls: bool,
    client: Option<std::net::IpAddr>,
    service: Option<&'a ServiceId>,
    workload: Option<&'a Str>,
}

/// The same, owned, beside the cells.
struct Series {
    outbound: bool,
    http: Option<(u16, Option<u16>, bool)>,
    flags: String,
    peer: Option<Identity>,
    mutual_tls: bool,
    client: Option<std::net::IpAddr>,
    service: Option<ServiceId>,
    workload: Option<Str>,
    cells: Cells,
}

impl Series {
    fn facts(&self) -> Facts<'_> {
        Facts {
            outbound: self.outbound,
            http: self.http,
            flags: &self.flags,
            peer: self.peer.as_ref(),
            mutual_tls: self.mutual_tls,
            client: self.client,
            service: self.service.as_ref(),
            workload: self.workload.as_ref(),
        }
    }
}

enum Cells {
    Http { requests: Counter, duration: Histogram, request_bytes: Histogram, response_bytes: Histogram },
    Tcp { opened: Counter, closed: Counter, sent: Counter, received: Counter },
}

/// One worker's standard metrics.
pub struct StandardMetrics {
    families: Families,
    cells: WorkerMetrics,
    hasher: foldhash::fast::RandomState,
    series: HashTable<Series>,
}

impl StandardMetrics {
    /// The cells of one more worker; made on the worker's own thread.
    pub fn new(registry: &Registry) -> Self {
        Self {
            families: Families::declare(registry),
            cells: registry.worker(),
            hasher: foldhash::fast::RandomState::default(),
            series: HashTable::new(),
        }
    }

    /// A forwarded connection begins.
    pub fn opened(&mut self, record: &Record<'_>, directory: &dyn Directory) {
        if let Cells::Tcp { opened, .. } = &self.find(record, directory).cells {
            opened.increment();
        }
    }

    /// A request or connection ended.
    pub fn ended(&mut self, record: &Record<'_>, directory: &dyn Directory) {
        match &self.find(record, directory).cells {
            Cells::Http { requests, duration, request_bytes, response_bytes } => {
                requests.increment();
                duration.observe(record.duration.as_secs_f64() * 1_000.0);
                request_bytes.observe(bytes(record.bytes_received));
                response_bytes.observe(bytes(record.bytes_sent));
            }
            Cells::Tcp { closed, .. } => {
                closed.increment();
                self.moved(record, directory);
            }
        }
    }

    /// Bytes of a forwarded connection, those that were not counted yet.
    pub fn moved(&mut self, record: &Record<'_>, directory: &dyn Directory) {
        if let Cells::Tcp { sent, received, .. } = &self.find(record, directory).cells {
            sent.add(record.bytes_sent - record.counted.sent);
            received.add(record.bytes_received - record.counted.received);
        }
    }

    fn find(&mut self, record: &Record<'_>, directory: &dyn Directory) -> &Series {
        let facts = facts(record);
        let hash = self.hasher.hash_one(facts);
        if self.series.find(hash, |series| series.facts() == facts).is_none() {
            if self.series.len() >= REMEMBERED {
                self.series.clear();
            }
            let series = self.make(&facts, record, directory);
            let hasher = &self.hasher;
            self.series.insert_unique(hash, series, |series| hasher.hash_one(series.facts()));
        }
        self.series
            .find(hash, |series| series.facts() == facts)
            .expect("it was there or was put there just now")
    }

    fn make(&mut self, facts: &Facts<'_>, record: &Record<'_>, directory: &dyn Directory) -> Series {
        let labels = labels(facts, record, directory);
        let (families, cells) = (self.families, &mut self.cells);
        let cells = if facts.http.is_some() {
            Cells::Http {
                requests: cells.counter(families.requests, &labels),
                duration: cells.histogram(families.duration, &labels),
                request_bytes: cells.histogram(families.request_bytes, &labels),
                response_bytes: cells.histogram(families.response_bytes, &labels),
            }
        } else {
            Cells::Tcp {
                opened: cells.counter(families.tcp_opened, &labels),
                closed: cells.counter(families.tcp_closed, &labels),
                sent: cells.counter(families.tcp_sent, &labels),
                received: cells.counter(families.tcp_received, &labels),
            }
        };
        Series {
            outbound: facts.outbound,
            http: facts.http,
            flags: facts.flags.to_owned(),
            peer: facts.peer.cloned(),
            mutual_tls: facts.mutual_tls,
            client: facts.client,
            service: facts.service.cloned(),
            workload: facts.workload.cloned(),
            cells,
        }
    }
}

fn facts<'a>(record: &Record<'a>) -> Facts<'a> {
    let outbound = *record.direction != Direction::Inbound;
    let http = match record.what {
        What::Http(Http { status, grpc_status, grpc, .. }) => Some((status, grpc_status, grpc)),
        What::Tcp => None,
    };
    Facts {
        outbound,
        http,
        // A connection's flags are known only at its end, and its beginning must count into the same series.
        flags: if http.is_some() { record.flags } else { "-" },
        peer: if outbound { record.upstream_identity } else { record.peer },
        mutual_tls: record.mutual_tls,
        // A caller without a certificate is told by its address; outside callers share one label set.
        client: (!outbound).then(|| record.client.ip()),
        service: record.effective.and_then(|effective| effective.service.as_ref()),
        workload: record.workload.filter(|_| http.is_some() || outbound).map(|workload| &workload.uid),
    }
}

fn bytes(count: u64) -> f64 {
    // Above 2^53 bytes a histogram may be off by one.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let count = count as f64;
    count
}

/// The standard labels; what is not known is `unknown`.
fn labels(facts: &Facts<'_>, record: &Record<'_>, directory: &dyn Directory) -> Labels {
    let own = directory.own();
    // Over mTLS both sides are proved: we to the peer, and the peer to us.
    let own_principal = own.as_ref().filter(|_| facts.peer.is_some()).map(|own| own.identity().to_string());
    let (source, destination) = if facts.outbound {
        (own, record.workload.cloned().map(Arc::new))
    } else {
        (facts.client.and_then(|ip| directory.at(ip)), own)
    };
    let mut labels = Vec::with_capacity(28);
    labels.push(("reporter", if facts.outbound { "source" } else { "destination" }.to_owned()));
    let peer = facts.peer.map(ToString::to_string);
    let (source_principal, destination_principal) =
        if facts.outbound { (own_principal, peer) } else { (peer, own_principal) };
    side(&mut labels, &SOURCE, source.as_deref(), source_principal);
    side(&mut labels, &DESTINATION, destination.as_deref(), destination_principal);
    service(&mut labels, facts.service);
    match facts.http {
        Some((status, grpc_status, grpc)) => {
            labels.push(("request_protocol", if grpc { "grpc" } else { "http" }.to_owned()));
            labels.push(("response_code", status.to_string()));
            labels
                .push(("grpc_response_status", grpc_status.map(|code| code.to_string()).unwrap_or_default()));
        }
        None => labels.push(("request_protocol", "tcp".to_owned())),
    }
    labels.push(("response_flags", facts.flags.to_owned()));
    // Istio's clients never say; its servers do.
    let security = match (facts.outbound, facts.mutual_tls) {
        (true, _) => "unknown",
        (false, true) => "mutual_tls",
        (false, false) => "none",
    };
    labels.push(("connection_security_policy", security.to_owned()));
    Labels::new(labels)
}

/// The names of the labels of one side, in the order of `side`.
type SideLabels = [&'static str; 8];

const SOURCE: SideLabels = [
    "source_workload",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "source_canonical_service",
    "source_canonical_revision",
];

const DESTINATION: SideLabels = [
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
    "destination_canonical_service",
    "destination_canonical_revision",
];

fn side(
    labels: &mut Vec<(&'static str, String)>,
    names: &SideLabels,
    workload: Option<&Workload>,
    principal: Option<String>,
) {
    let unknown = || "unknown".to_owned();
    let known = |value: &dyn Fn(&Workload) -> String| workload.map_or_else(unknown, value);
    let label =
        |workload: &Workload, key: &str| workload.labels.get(key).map_or_else(unknown, ToString::to_string);
    let values = [
        known(&|workload| workload.workload_name.to_string()),
        known(&|workload| workload.namespace.to_string()),
        principal.unwrap_or_else(unknown),
        known(&|workload| label(workload, "app")),
        known(&|workload| label(workload, "version")),
        known(&|workload| workload.cluster.to_string()),
        known(&|workload| workload.canonical_name.to_string()),
        known(&|workload| workload.canonical_revision.to_string()),
    ];
    labels.extend(names.iter().copied().zip(values));
}

fn service(labels: &mut Vec<(&'static str, String)>, service: Option<&ServiceId>) {
    let (host, name, namespace) = match service {
        Some(id) => {
            let host = id.hostname.to_string();
            let name = host.split('.').next().unwrap_or_default().to_owned();
            // Only names of the mesh carry their namespace; a foreign host is its own name.
            let name = if host.contains(".svc.") { name } else { host.clone() };
            (host, name, id.namespace.to_string())
        }
        None => ("unknown".to_owned(), "unknown".to_owned(), "unknown".to_owned()),
    };
    labels.push(("destination_service", host));
    labels.push(("destination_service_name", name));
    labels.push(("destination_service_namespace", namespace));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::relay::Moved;
    use lateen_engine::Effective;
    use lateen_runtime::metrics::Format;
    use std::net::IpAddr;
    use std::time::Duration;

    struct Nobody;

    impl Directory for Nobody {
        fn own(&self) -> Option<Arc<Workload>> {
            None
        }
        fn at(&self, _: IpAddr) -> Option<Arc<Workload>> {
            None
        }
    }

    fn record<'a>(status: u16, effective: &'a Effective, peer: &'a Identity) -> Record<'a> {
        Record {
            direction: &Direction::Inbound,
            what: What::Http(Http {
                protocol: "HTTP/1.1",
                method: "GET",
                path: "/",
                authority: "reviews",
                user_agent: None,
                request_id: None,
                forwarded_for: None,
                status,
                grpc_status: None,
                grpc: false,
            }),
            duration: Duration::from_millis(7),
            upstream_time: None,
            bytes_received: 0,
            bytes_sent: 1024,
            counted: Moved::default(),
            client: "10.0.0.1:999".parse().unwrap(),
            destination: "10.0.0.2:9080".parse().unwrap(),
            peer: Some(peer),
            mutual_tls: true,
            server_name: None,
            effective: Some(effective),
            endpoint: None,
            workload: None,
            upstream_identity: None,
            attempts: 1,
            denial: None,
            fault: None,
            flags: "-",
            details: "via_upstream",
        }
    }

    #[test]
    fn requests_are_counted_by_istios_labels() {
        let registry = Registry::new();
        let mut metrics = StandardMetrics::new(&registry);
        let service = ServiceId::parse("default/reviews.default.svc.cluster.local");
        let effective = Effective { service, ..Effective::default() };
        let peer = Identity::parse("spiffe://cluster.local/ns/default/sa/page").unwrap();
        for status in [200, 200, 503] {
            metrics.ended(&record(status, &effective, &peer), &Nobody);
        }
        let text = registry.render(Format::Prometheus);
        let line = |wanted: &[&str]| {
            text.lines()
                .find(|line| {
                    line.starts_with("istio_requests_total{") && wanted.iter().all(|part| line.contains(part))
                })
                .unwrap_or_else(|| panic!("no line with {wanted:?} in\n{text}"))
                .to_owned()
        };
        let common = [
            "reporter=\"destination\"",
            "source_principal=\"spiffe://cluster.local/ns/default/sa/page\"",
            "destination_service_name=\"reviews\"",
            "destination_service_namespace=\"default\"",
            "connection_security_policy=\"mutual_tls\"",
            "source_workload=\"unknown\"",
        ];
        assert!(line(&[&common[..], &["response_code=\"200\""]].concat()).ends_with(" 2"));
        assert!(line(&[&common[..], &["response_code=\"503\""]].concat()).ends_with(" 1"));
        assert!(text.contains("istio_request_duration_milliseconds_bucket"));
        assert!(text.contains("istio_response_bytes_sum"));
    }

    #[test]
    fn bytes_of_a_connection_are_counted_while_it_lives_and_once() {
        let registry = Registry::new();
        let mut metrics = StandardMetrics::new(&registry);
        let effective = Effective::default();
        let peer = Identity::parse("spiffe://cluster.local/ns/default/sa/page").unwrap();
        let at = |received, counted| Record {
            what: What::Tcp,
            bytes_received: received,
            bytes_sent: 0,
            counted: Moved { received: counted, sent: 0 },
            ..record(0, &effective, &peer)
        };
        let mut seen = |record: Option<Record<'_>>, ended: bool| {
            match record {
                Some(record) if ended => metrics.ended(&record, &Nobody),
                Some(record) => metrics.moved(&record, &Nobody),
                None => {}
            }
            let text = registry.render(Format::Prometheus);
            let family = |name: &str| text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
            let value = |name: &str| family(name).and_then(|line| Some(line.rsplit_once(' ')?.1.to_owned()));
            (value("istio_tcp_received_bytes_total{"), value("istio_tcp_connections_closed_total{"))
        };
        let is = |received: &str, closed: &str| (Some(received.to_owned()), Some(closed.to_owned()));
        assert_eq!(seen(Some(at(5, 0)), false), is("5", "0"));
        assert_eq!(seen(Some(at(12, 5)), false), is("12", "0"));
        assert_eq!(seen(Some(at(20, 12)), true), is("20", "1"));
    }
}
