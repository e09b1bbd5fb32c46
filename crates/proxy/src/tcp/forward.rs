//! A connection whose bytes are moved as they are: pick, connect, relay, record.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use lateen_engine::{Denial, Effective, Excluded, Forward, Hop, Picked, Preference, hash_of_client, pick};
use lateen_runtime::clock::{self, Instant};
use lateen_runtime::deadline::Deadline;
use lateen_runtime::random;
use lateen_runtime::stream::Stream;

use super::relay::{self, End, Moved, Side};
use crate::connect;
use crate::connect::breaker::Group;
use crate::connect::pool::{Ticket, Upstream};
use crate::connect::terms::Terms;
use crate::fault::{Fault, Reason};
use crate::health::Active;
use crate::health::outliers::Outcome;
use crate::http::exchange::Entry;
use crate::observe::access::{Record, What};
use crate::watch;
use crate::worker::Worker;

/// Endpoints that are tried for one connection.
const MOST_TRIES: u32 = 3;

/// A connection to an endpoint.
pub(crate) struct Reached {
    stream: Stream,
    read_before: BytesMut,
    picked: Picked,
    active: Active,
    group: Option<Rc<Group>>,
    ticket: Option<Rc<Ticket>>,
    attempts: u32,
    began: Instant,
}

/// Why none was made.
pub(crate) enum Unreached {
    Denied(Denial),
    Failed { fault: Fault, picked: Box<Picked>, attempts: u32, began: Instant },
}

impl Reached {
    /// The connection.
    pub(crate) fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Where bytes go that were read of the connection before the relay.
    pub(crate) fn read_before(&mut self) -> &mut BytesMut {
        &mut self.read_before
    }

    /// Lets requests use the connection, on which nothing was said.
    pub(crate) fn leave_to_requests(self, worker: &Worker) {
        if self.read_before.is_empty() {
            let upstream = Upstream { hop: &self.picked.hop, group: self.group.as_ref() };
            worker.pool.put_stream(worker, upstream, self.stream, self.ticket);
        }
    }
}

/// Connects to an endpoint of `forward`; to another one if the first cannot be reached.
pub(crate) async fn reach(
    worker: &Rc<Worker>,
    client: IpAddr,
    forward: &Forward,
) -> Result<Reached, Unreached> {
    let (snapshot, began) = (worker.snapshot(), clock::now());
    let balance = forward.effective.traffic.balance.as_ref();
    let hash = balance.and_then(|balance| hash_of_client(client, balance.hash.as_ref()?));
    let preference = Preference { hash, ..Preference::default() };
    let group = worker.group(&forward.effective);
    let terms = Terms::of(worker.settings(), group.as_ref());
    let (mut excluded, mut attempts) = (Excluded::default(), 0);
    let mut failed: Option<Unreached> = None;
    loop {
        let picked =
            match pick(&snapshot, &forward.to, &preference, &excluded, &worker.load, random::next_u64()) {
                Ok(picked) => picked,
                // That all were tried is less than why the last one failed.
                Err(denial) => return Err(failed.unwrap_or(Unreached::Denied(denial))),
            };
        attempts += 1;
        let active = worker.load.begin(picked.endpoint);
        // Nobody waits for a place among forwarded connections, as in Envoy: they may last for ever.
        let place = group.as_ref().map(|group| Ticket::take_now(worker, group)).transpose();
        let opened = match place {
            Ok(ticket) => connect::open(worker, &picked.hop, &terms).await.map(|stream| (stream, ticket)),
            Err(overflow) => Err(overflow),
        };
        worker.watch(&snapshot, &forward.to, &forward.effective, picked.endpoint, || match &opened {
            Ok(_) => Some(Outcome::Status(200)),
            Err(fault) => fault.blames_endpoint().then_some(Outcome::NoAnswer),
        });
        match opened {
            Ok((stream, ticket)) => {
                let ticket = ticket.map(Rc::new);
                let read_before = BytesMut::new();
                return Ok(Reached { stream, read_before, picked, active, group, ticket, attempts, began });
            }
            Err(fault) => {
                tracing::debug!(endpoint = %picked.endpoint, %fault, "endpoint not reached");
                excluded.add(picked.endpoint);
                let overflow = fault.reason == Reason::Overload;
                let unreached = Unreached::Failed { fault, picked: Box::new(picked), attempts, began };
                if attempts == MOST_TRIES || overflow {
                    return Err(unreached);
                }
                failed = Some(unreached);
            }
        }
    }
}

impl Unreached {
    /// Records it and says it in a sentence.
    pub(crate) fn record(&self, worker: &Worker, entry: &Entry, forward: &Forward) -> String {
        let effective = Some(&*forward.effective);
        match self {
            Unreached::Denied(denial) => {
                record(worker, entry, &Told { effective, denial: Some(denial), ..Told::default() });
                denial.to_string()
            }
            Unreached::Failed { fault, picked, attempts, began } => {
                let (picked, duration) = (Some(&**picked), began.elapsed());
                let told = Told {
                    effective,
                    picked,
                    fault: Some(fault),
                    attempts: *attempts,
                    duration,
                    ..Told::default()
                };
                record(worker, entry, &told);
                fault.to_string()
            }
        }
    }
}

/// The whole life of a forwarded connection.
pub(crate) async fn run(
    worker: Rc<Worker>,
    stream: Stream,
    read_before: BytesMut,
    entry: Entry,
    forward: Forward,
) {
    match reach(&worker, entry.facts.client.ip(), &forward).await {
        Ok(reached) => Box::pin(relay(worker, stream, read_before, entry, forward, reached)).await,
        Err(unreached) => {
            unreached.record(&worker, &entry, &forward);
        }
    }
}

/// Moves bytes until the end.
pub(crate) async fn relay(
    worker: Rc<Worker>,
    stream: Stream,
    read_before: BytesMut,
    entry: Entry,
    forward: Forward,
    reached: Reached,
) {
    let Reached { stream: up, read_before: answered_before, picked, active, group, ticket, attempts, began } =
        reached;
    let told = Told {
        effective: Some(&forward.effective),
        picked: Some(&picked),
        attempts,
        connected: Some(began.elapsed()),
        ..Told::default()
    };
    with_record(&entry, &told, |record| worker.sink.opened(record));
    let mut down = Side { stream, read_before };
    let mut up = Side { stream: up, read_before: answered_before };
    let moved = Cell::new(Moved::default());
    let longest = Terms::of(worker.settings(), group.as_ref()).tcp_idle;
    let pool = group.as_ref().map(|group| &group.limits.pool);
    let mut age = pool.and_then(|pool| pool.max_connection_duration).map(|age| worker.deadlines().after(age));
    let counted = Cell::new(Moved::default());
    let tell = || {
        let now = Told { moved: moved.get(), counted: counted.replace(moved.get()), ..told };
        with_record(&entry, &now, |record| worker.sink.moved(record));
    };
    let relaying = relay::relay(&mut down, &mut up, longest, worker.deadlines(), &moved, tell);
    let (fault, denial) = tokio::select! {
        biased;
        end = relaying => (fault_of(end), None),
        denial = watch::denied(&worker, &entry.facts) => (None, Some(denial)),
        () = over(&mut age) => (Some(Fault::proxy(Reason::Expired, "it lasted as long as it may")), None),
    };
    drop((down, up, active, ticket));
    let told = Told { moved: moved.get(), counted: counted.get(), duration: began.elapsed(), ..told };
    record(&worker, &entry, &Told { fault: fault.as_ref(), denial: denial.as_ref(), ..told });
}

/// Ends with the limit, if there is one.
async fn over(limit: &mut Option<Deadline>) {
    match limit {
        Some(limit) => limit.await,
        None => std::future::pending().await,
    }
}

fn fault_of(end: End) -> Option<Fault> {
    match end {
        End::Closed => None,
        End::Downstream(error) => Some(Fault::downstream(Reason::Gone, error.to_string())),
        End::Upstream(error) => Some(Fault::upstream(Reason::Reset, error.to_string())),
        End::Idle => Some(Fault::proxy(Reason::IdleTimeout, "nothing moved for too long")),
    }
}

/// Records a connection that was refused.
pub(crate) fn denied(worker: &Worker, entry: &Entry, denial: &Denial) {
    record(worker, entry, &Told { denial: Some(denial), ..Told::default() });
}

/// Records a connection that failed before anything could be decided.
pub(crate) fn failed(worker: &Worker, entry: &Entry, fault: &Fault) {
    record(worker, entry, &Told { fault: Some(fault), ..Told::default() });
}

/// What differs from record to record.
#[derive(Clone, Copy, Default)]
struct Told<'a> {
    effective: Option<&'a Effective>,
    picked: Option<&'a Picked>,
    denial: Option<&'a Denial>,
    fault: Option<&'a Fault>,
    attempts: u32,
    connected: Option<Duration>,
    duration: Duration,
    moved: Moved,
    counted: Moved,
}

fn record(worker: &Worker, entry: &Entry, told: &Told<'_>) {
    with_record(entry, told, |record| worker.sink.record(record));
}

fn with_record(entry: &Entry, told: &Told<'_>, take: impl FnOnce(&Record<'_>)) {
    let facts = &entry.facts;
    let denial_details = told.denial.map(ToString::to_string);
    let (flags, details) = match (told.denial, told.fault) {
        (Some(denial), _) => (denial.flag(), denial_details.as_deref().unwrap_or_default()),
        (_, Some(fault)) => (fault.flag(), fault.details()),
        _ => ("-", "-"),
    };
    let accept = told.picked.and_then(|picked| match &picked.hop {
        Hop::Hbone { accept, .. } => accept.0.first(),
        _ => None,
    });
    take(&Record {
        direction: &facts.direction,
        what: What::Tcp,
        duration: told.duration,
        upstream_time: told.connected,
        bytes_received: told.moved.received,
        bytes_sent: told.moved.sent,
        counted: told.counted,
        client: facts.client,
        destination: facts.destination,
        peer: facts.peer.as_deref(),
        mutual_tls: facts.peer.is_some(),
        server_name: facts.sni.as_deref(),
        effective: told.effective,
        endpoint: told.picked.map(|picked| picked.endpoint),
        workload: told.picked.and_then(|picked| picked.workload.as_deref()),
        upstream_identity: accept,
        attempts: told.attempts,
        denial: told.denial,
        fault: told.fault,
        flags,
        details,
    });
}
