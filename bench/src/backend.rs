//! The applications behind the proxies: as cheap as a server can be, and they count what reaches them.

mod http1;
mod http2;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Two servers, one for each protocol, on threads of their own.
pub(crate) struct Backend {
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    state: Arc<State>,
}

/// What the servers share with the bench.
#[derive(Default)]
struct State {
    requests: AtomicU64,
    /// The bytes of every answer's body.
    body: AtomicUsize,
}

impl Backend {
    /// Answers at free ports of the loopback, for as long as the process lives.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let state = Arc::new(State::default());
        state.body.store(1024, Ordering::Relaxed);
        let http1 = http1::start(Arc::clone(&state))?;
        let http2 = http2::start(Arc::clone(&state))?;
        Ok(Backend { http1, http2, state })
    }

    /// How many requests came so far.
    pub(crate) fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// Sets what every request but `/head` is answered with from now on.
    pub(crate) fn answer_with(&self, bytes: usize) {
        self.state.body.store(bytes, Ordering::Relaxed);
    }
}
