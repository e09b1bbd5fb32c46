//! Accepting: each worker from sockets of its own that share a port, or one of them for all.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lateen_runtime::clock;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::Worker;
use crate::enter::{self, Door};

/// How long accepting rests when the process has no descriptors left.
const REST: std::time::Duration = std::time::Duration::from_millis(50);

/// Accepts until the drain begins; then empties the queue, since the kernel would reset what waits in it.
///
/// # Errors
/// When the event loop cannot watch the listener.
pub async fn accept(worker: Rc<Worker>, listener: std::net::TcpListener, door: Door) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    each(listener, worker.shared.drain.begun(), |tcp| take(&worker, tcp, door.clone())).await
}

/// As [`accept`], with a door that may change while it is used: none closes it.
///
/// # Errors
/// As [`accept`].
pub async fn accept_while(
    worker: Rc<Worker>,
    listener: std::net::TcpListener,
    doors: watch::Receiver<Option<Door>>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut closing = doors.clone();
    let closed = async {
        tokio::select! {
            () = worker.shared.drain.begun() => {}
            // An error is a door that nobody holds any more.
            _ = closing.wait_for(Option::is_none) => {}
        }
    };
    let mut last = doors.borrow().clone();
    each(listener, closed, |tcp| {
        // Who waited when the door was closed still comes in by the last one.
        last = doors.borrow().clone().or(last.take());
        if let Some(door) = &last {
            take(&worker, tcp, door.clone());
        }
    })
    .await
}

/// Serves one connection in a task of its own.
fn take(worker: &Rc<Worker>, tcp: TcpStream, door: Door) {
    if !worker.spawn_connection(enter::serve(Rc::clone(worker), tcp, door)) {
        tracing::debug!("connection closed: too many are open");
    }
}

async fn each(
    listener: TcpListener,
    ended: impl Future<Output = ()>,
    mut take: impl FnMut(TcpStream),
) -> io::Result<()> {
    let mut ended = std::pin::pin!(ended);
    loop {
        tokio::select! {
            biased;
            () = &mut ended => break,
            accepted = listener.accept() => match accepted {
                Ok((tcp, _)) => take(tcp),
                Err(error) => rest_after(&error).await,
            },
        }
    }
    // The kernel itself is asked, not what the event loop remembers of it.
    let listener = listener.into_std()?;
    while let Ok((tcp, _)) = listener.accept() {
        tcp.set_nonblocking(true)?;
        take(TcpStream::from_std(tcp)?);
    }
    Ok(())
}

/// A connection that broke while it waited is nothing; a full table of descriptors needs a moment.
async fn rest_after(error: &io::Error) {
    let transient =
        [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset, io::ErrorKind::Interrupted];
    if !transient.contains(&error.kind()) {
        tracing::warn!(%error, "accepting connections failed");
        clock::sleep(REST).await;
    }
}

/// One acceptor's way to all workers: few long tunnels must not meet on one of them by chance.
#[derive(Clone)]
pub struct Spread(Arc<[Lane]>);

struct Lane {
    sockets: mpsc::UnboundedSender<std::net::TcpStream>,
    open: Arc<AtomicUsize>,
}

/// The end of one lane, for its worker.
pub struct LaneEnd {
    sockets: mpsc::UnboundedReceiver<std::net::TcpStream>,
    open: Arc<AtomicUsize>,
}

/// Lanes for so many workers.
#[must_use]
pub fn spread(workers: usize) -> (Spread, Vec<LaneEnd>) {
    let (lanes, ends) = (0..workers)
        .map(|_| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let open = Arc::new(AtomicUsize::new(0));
            (Lane { sockets: sender, open: Arc::clone(&open) }, LaneEnd { sockets: receiver, open })
        })
        .unzip::<_, _, Vec<_>, Vec<_>>();
    (Spread(lanes.into()), ends)
}

/// Accepts tunnels and gives each to the worker that has the fewest.
///
/// # Errors
/// When the event loop cannot watch the listener.
pub async fn accept_spread(
    worker: Rc<Worker>,
    listener: std::net::TcpListener,
    spread: Spread,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    each(listener, worker.shared.drain.begun(), |tcp| spread.hand(tcp)).await
}

impl Spread {
    /// Gives a connection to the lane that has the fewest.
    fn hand(&self, tcp: TcpStream) {
        let lane = self.0.iter().min_by_key(|lane| lane.open.load(Ordering::Relaxed));
        let (Some(lane), Ok(tcp)) = (lane, tcp.into_std()) else { return };
        lane.open.fetch_add(1, Ordering::Relaxed);
        // The worker is gone only when the process ends.
        let _ = lane.sockets.send(tcp);
    }
}

/// Serves what comes by `lane` until the acceptor has ended.
pub async fn serve_lane(worker: Rc<Worker>, mut lane: LaneEnd, door: Door) {
    while let Some(tcp) = lane.sockets.recv().await {
        let left = Leaves(Arc::clone(&lane.open));
        let Ok(tcp) = TcpStream::from_std(tcp) else { continue };
        let (served, door) = (Rc::clone(&worker), door.clone());
        let open = worker.spawn_connection(async move {
            let _left = left;
            enter::serve(served, tcp, door).await;
        });
        if !open {
            tracing::debug!("tunnel closed: too many connections are open");
        }
    }
}

/// One tunnel less on a lane.
struct Leaves(Arc<AtomicUsize>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener as StdListener, TcpStream as StdStream};

    /// A listener, and so many callers who wait in its queue.
    fn queue(length: usize) -> (TcpListener, Vec<StdStream>) {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let at = listener.local_addr().expect("an address");
        let callers = (0..length).map(|_| StdStream::connect(at).expect("connect")).collect();
        listener.set_nonblocking(true).expect("set");
        (TcpListener::from_std(listener).expect("watched"), callers)
    }

    #[tokio::test]
    async fn who_waits_when_the_drain_begins_still_comes_in() {
        let (listener, callers) = queue(20);
        let mut taken = Vec::new();
        each(listener, std::future::ready(()), |tcp| taken.push(tcp)).await.expect("serves");
        assert_eq!(taken.len(), callers.len());
        // None of them was reset with the listener.
        for caller in &callers {
            caller.set_nonblocking(true).expect("set");
            let waits = caller.peek(&mut [0]).expect_err("nothing was said yet");
            assert_eq!(waits.kind(), io::ErrorKind::WouldBlock);
        }
    }

    #[tokio::test]
    async fn tunnels_go_to_the_worker_that_has_the_fewest() {
        let (spread, mut ends) = spread(3);
        let (listener, _callers) = queue(7);
        let hand = async || spread.hand(listener.accept().await.expect("waits").0);
        for _ in 0..6 {
            hand().await;
        }
        let open = |ends: &[LaneEnd]| -> Vec<usize> {
            ends.iter().map(|end| end.open.load(Ordering::Relaxed)).collect()
        };
        assert_eq!(open(&ends), [2, 2, 2]);
        ends[1].sockets.try_recv().expect("was handed over");
        drop(Leaves(Arc::clone(&ends[1].open)));
        hand().await;
        assert_eq!(open(&ends), [2, 2, 2]);
        assert_eq!(ends[1].sockets.len(), 2, "the one that had become free");
    }
}
