//! The built-in test service: it answers with what it received, who it is and who called.
//!
//! One listener serves HTTP/1.1, HTTP/2 (prior knowledge) and gRPC, told apart by the first bytes and
//! the content type; another kind serves lines over TCP. A service may [`call`](call::Call) others for
//! each request and puts their answers into its own, so that one request shows the whole tree of a
//! mesh. Stopped, it finishes what is under way and tells its callers to connect elsewhere.

pub mod answer;
pub mod call;
mod config;
mod grpc;
mod http;
mod listen;
mod tcp;
pub mod xfcc;

pub use config::{Config, Ports};

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::call::Client;

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
#[error("listen on {address}: {source}")]
pub struct Error {
    address: SocketAddr,
    source: std::io::Error,
}

/// The service with its sockets open, not yet answering.
pub struct Echo {
    service: Arc<Service>,
    drain: Duration,
    http: Vec<TcpListener>,
    grpc: Vec<TcpListener>,
    tcp: Vec<TcpListener>,
}

/// What every connection shares.
struct Service {
    config: Config,
    client: Client,
    /// Counts requests, so that failures are spread by chance but the same in every run.
    requests: AtomicU64,
}

impl Echo {
    /// Opens every socket; port 0 takes a free one.
    pub fn bind(config: Config, ports: &Ports) -> Result<Self, Error> {
        let open = |wanted: &[u16]| -> Result<Vec<_>, Error> {
            wanted.iter().map(|port| listen::open(ports.address, *port)).collect()
        };
        Ok(Echo {
            http: open(&ports.http)?,
            grpc: open(&ports.grpc)?,
            tcp: open(&ports.tcp)?,
            drain: config.drain,
            service: Arc::new(Service { config, client: Client::from_env(), requests: AtomicU64::new(0) }),
        })
    }

    /// Every open socket with the protocol it is for, in the order of the ports.
    pub fn addresses(&self) -> Vec<(&'static str, SocketAddr)> {
        let named = |name, listeners: &[TcpListener]| -> Vec<_> {
            listeners.iter().filter_map(|listener| Some((name, listener.local_addr().ok()?))).collect()
        };
        [named("http", &self.http), named("grpc", &self.grpc), named("tcp", &self.tcp)].concat()
    }

    /// Answers until `stop`, then finishes what is under way, for at most the drain time.
    pub async fn run(self, stop: CancellationToken) {
        let mut listeners = JoinSet::new();
        for listener in self.http.into_iter().chain(self.grpc) {
            listeners.spawn(http::serve(listener, Arc::clone(&self.service), stop.clone(), self.drain));
        }
        for listener in self.tcp {
            listeners.spawn(tcp::serve(listener, Arc::clone(&self.service), stop.clone(), self.drain));
        }
        listeners.join_all().await;
    }
}

impl Service {
    /// Whether this request is one of those that shall fail.
    fn is_unlucky(&self) -> bool {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        // splitmix64: spreads consecutive numbers evenly without a generator to seed.
        let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        share * 100.0 < self.config.fail_percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_come_by_the_share_that_was_asked() {
        let service = Service {
            config: Config { fail_percent: 20.0, ..Config::default() },
            client: Client::from_env(),
            requests: AtomicU64::new(0),
        };
        let failed = (0..10_000).filter(|_| service.is_unlucky()).count();
        assert!((1900..2100).contains(&failed), "{failed} of 10000");
    }
}
