//! `Worker`: what one thread has to itself: its handle on the snapshot, its connections, its load, its sink.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use ipnet::IpNet;
use lateen_engine::{Effective, Snapshot};
use lateen_runtime::broker::Broker;
use lateen_runtime::deadline::Deadlines;
use lateen_runtime::drain::{Drain, Holder};
use lateen_runtime::live::{Follower, LiveHandle, Pinned};
use lateen_runtime::workers::WorkerContext;
use tokio::task::AbortHandle;

use crate::connect::Breakers;
use crate::connect::breaker::{Group, Groups};
use crate::connect::hbone::Tunnels;
use crate::connect::pool::Pool;
use crate::connect::tls::Credentials;
use crate::health::LoadTable;
use crate::health::outliers::Outliers;
use crate::http::exchange::{Budget, MOST_COPIED};
use crate::http::h1::parse::HeadLimits;
use crate::observe::access::Sink;
use crate::rate::{KnownRates, RateTable};

pub mod accept;

/// Limits and times of the data path.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How large a head may be.
    pub head: HeadLimits,
    /// The time from the first byte of a head to its last, and for a TLS handshake.
    pub head_time: Duration,
    /// How long a connection of a client may wait between requests.
    pub idle: Duration,
    /// How long a request may stand still: nothing moves either way.
    pub stream_idle: Duration,
    /// How long a forwarded connection may stand still.
    pub tcp_idle: Duration,
    /// How long a new connection may take, TLS and tunnel included.
    pub connect: Duration,
    /// How long our own connections are kept for the next request; less than `idle`, so that the other proxy is not
    /// the one who closes.
    pub pool_idle: Duration,
    /// How long first bytes are waited for before a connection is taken for one where the server speaks first.
    pub detect: Duration,
    /// Body bytes that are kept for another try.
    pub replay: usize,
    /// Connections that one worker takes; more are closed at once.
    pub most_connections: usize,
    /// Streams that share one tunnel or HTTP/2 connection.
    pub streams_per_connection: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            head_time: Duration::from_secs(10),
            idle: Duration::from_secs(3600),
            stream_idle: Duration::from_secs(300),
            tcp_idle: Duration::from_secs(3600),
            connect: Duration::from_secs(10),
            pool_idle: Duration::from_secs(60),
            detect: Duration::from_millis(100),
            replay: 64 * 1024,
            most_connections: 20_000,
            streams_per_connection: 100,
        }
    }
}

/// What all workers share; immutable but for what is followed.
pub struct Shared {
    /// Limits and times.
    pub settings: Settings,
    /// The mesh.
    pub snapshots: LiveHandle<Snapshot>,
    /// What we show and whom we believe; none until the first certificate is there.
    pub credentials: LiveHandle<Option<Credentials>>,
    /// When to end.
    pub drain: Drain,
    /// The way out of a pod's network, where there is one.
    pub broker: Option<Broker>,
    /// Networks that are reached without the broker.
    pub local_ranges: Vec<IpNet>,
    /// Where the application really listens, by the workload's port, where that differs (plain mode).
    pub local_ports: HashMap<u16, SocketAddr, RandomState>,
    /// The mark on our own sockets, where traffic is captured.
    pub mark: Option<u32>,
    /// What rate limits count.
    pub rates: RateTable,
    /// Endpoints that fail too often in a row.
    pub outliers: Outliers,
    /// What limits of connections count.
    pub breakers: Breakers,
}

/// One thread's own things. Everything on the path holds an `Rc` of it.
pub struct Worker {
    /// What all workers share.
    pub shared: Arc<Shared>,
    context: WorkerContext,
    snapshots: RefCell<Follower<Snapshot>>,
    credentials: RefCell<Follower<Option<Credentials>>>,
    pub(crate) pool: Pool,
    pub(crate) tunnels: Tunnels,
    pub(crate) groups: Groups,
    pub(crate) load: LoadTable,
    pub(crate) rates: KnownRates,
    /// Bytes that copies of requests may still take up.
    pub(crate) copies: Budget,
    pub(crate) sink: Box<dyn Sink>,
    open: Rc<Open>,
}

impl Worker {
    /// On the thread that `context` is of.
    pub fn new(shared: Arc<Shared>, context: WorkerContext, sink: Box<dyn Sink>) -> Rc<Self> {
        let worker = Rc::new(Self {
            snapshots: RefCell::new(shared.snapshots.follow()),
            credentials: RefCell::new(shared.credentials.follow()),
            pool: Pool::default(),
            tunnels: Tunnels::default(),
            load: LoadTable::new(shared.outliers.clone()),
            groups: Groups::default(),
            rates: KnownRates::default(),
            copies: Budget::new(MOST_COPIED),
            sink,
            open: Rc::default(),
            context,
            shared,
        });
        worker.context.spawn(crate::connect::pool::keep_tidy(Rc::downgrade(&worker)));
        worker
    }

    /// The snapshot of now, for one request.
    pub(crate) fn snapshot(&self) -> Pinned<Snapshot> {
        self.snapshots.borrow_mut().get().clone()
    }

    /// What we show and whom we believe.
    pub(crate) fn credentials(&self) -> Pinned<Option<Credentials>> {
        self.credentials.borrow_mut().get().clone()
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// What is counted of the group of endpoints that a request or connection goes to, if it has limits.
    pub(crate) fn group(&self, effective: &Effective) -> Option<Rc<Group>> {
        let limits = effective.connections.as_ref()?;
        Some(self.groups.of(&self.shared.breakers, limits))
    }

    pub(crate) fn deadlines(&self) -> &Deadlines {
        self.context.deadlines()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.shared.drain.is_draining()
    }

    /// Starts something that belongs to a connection or another task and ends with it.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.context.spawn(future);
    }

    /// Starts the task of one connection: it holds up a drain, is counted, and ends when patience is over. False when
    /// there are too many; then the connection is closed.
    pub fn spawn_connection(&self, future: impl Future<Output = ()> + 'static) -> bool {
        let open = &self.open;
        if open.count() >= self.settings().most_connections {
            return false;
        }
        let id = open.next.replace(open.next.get() + 1);
        let leaves = Leaves { open: Rc::clone(open), id, _holder: self.shared.drain.hold() };
        let task = self.context.spawn(async move {
            let _leaves = leaves;
            future.await;
        });
        open.tasks.borrow_mut().insert(id, task.abort_handle());
        true
    }

    /// Connections that are open now, for who spreads them.
    pub fn connections(&self) -> usize {
        self.open.count()
    }

    /// Ends every connection where it is.
    pub(crate) fn abort_connections(&self) {
        let tasks: Vec<_> = self.open.tasks.borrow().values().cloned().collect();
        for task in tasks {
            task.abort();
        }
    }
}

/// The connections of a worker. One task ends them all when patience is over: a look at the drain by each of them
/// would cost every wake-up of every request.
#[derive(Default)]
struct Open {
    tasks: RefCell<HashMap<u64, AbortHandle, RandomState>>,
    next: Cell<u64>,
}

impl Open {
    fn count(&self) -> usize {
        self.tasks.borrow().len()
    }
}

/// Takes a connection off the list, however it ends, and lets the drain go on.
struct Leaves {
    open: Rc<Open>,
    id: u64,
    _holder: Holder,
}

impl Drop for Leaves {
    fn drop(&mut self) {
        self.open.tasks.borrow_mut().remove(&self.id);
    }
}
