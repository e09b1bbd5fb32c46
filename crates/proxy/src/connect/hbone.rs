//! HBONE out: CONNECT streams inside shared TLS connections to other proxies.
//!
//! A tunnel is known by its address and by who may answer there; what we show is the same for the whole process, and
//! tunnels made with an older certificate end by themselves when they are idle.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use h2::client::SendRequest;
use hashbrown::HashMap;
use http::uri::Authority;
use lateen_engine::Accept;
use lateen_model::TcpKeepalive;
use lateen_runtime::clock::{self, Instant};
use lateen_runtime::stream::Stream;
use tokio::sync::Mutex;

use super::terms::Terms;
use super::{dial, tls};
use crate::fault::{Fault, Reason};
use crate::http::h2::tunnel::TunnelStream;
use crate::worker::Worker;

/// What one stream may hold unread.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;
/// What all streams of a tunnel may hold: as much as all of them together, so that slow ones never stop the others.
pub(crate) const TUNNEL_WINDOW: u32 = 64 * 1024 * 1024;
/// TCP keep-alive of tunnels (ztunnel's values).
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    time: Some(std::time::Duration::from_secs(180)),
    interval: Some(std::time::Duration::from_secs(180)),
    probes: Some(9),
};
/// The header in which a proxy tells another why a tunnel or a request failed before its application saw it.
pub(crate) const FAULT_HEADER: &str = "x-lateen-fault";

/// The tunnels of one worker.
#[derive(Default)]
pub(crate) struct Tunnels(RefCell<HashMap<Key, Rc<Ends>, RandomState>>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    address: SocketAddr,
    accept: Accept,
}

/// The connections to one other proxy.
#[derive(Default)]
struct Ends {
    open: RefCell<Vec<Tunnel>>,
    /// Held while a connection is made, so that many requests at once make one, not many.
    making: Mutex<()>,
}

#[derive(Clone)]
struct Tunnel {
    requests: SendRequest<Bytes>,
    /// One for the table, one for each stream; an `Arc` since kinds of streams may cross threads.
    users: Arc<()>,
    used: Instant,
}

impl Tunnels {
    fn ends(&self, address: SocketAddr, accept: &Accept) -> Rc<Ends> {
        let key = Key { address, accept: accept.clone() };
        Rc::clone(self.0.borrow_mut().entry(key).or_default())
    }

    /// Forgets tunnels that carry nothing and were not used for a while; forgetting the last handle closes them.
    pub(crate) fn tidy(&self) {
        const UNUSED: std::time::Duration = std::time::Duration::from_secs(300);
        self.0.borrow_mut().retain(|_, ends| {
            ends.open
                .borrow_mut()
                .retain(|tunnel| Arc::strong_count(&tunnel.users) > 1 || tunnel.used.elapsed() < UNUSED);
            Rc::strong_count(ends) > 1 || !ends.open.borrow().is_empty()
        });
    }
}

/// Opens a stream to `authority` through the proxy at `address`.
///
/// # Errors
/// No tunnel; or the other proxy refused: by policy, or since it could not reach its application.
pub(crate) async fn open(
    worker: &Rc<Worker>,
    address: SocketAddr,
    authority: SocketAddr,
    accept: &Accept,
    terms: &Terms,
) -> Result<Stream, Fault> {
    let terms = &Terms { keepalive: Some(KEEPALIVE), ..*terms };
    let ends = worker.tunnels.ends(address, accept);
    let tunnel = match find(&ends, worker.settings().streams_per_connection).await {
        Some(tunnel) => tunnel,
        None => {
            let _making = ends.making.lock().await;
            // Somebody else may have made one while we waited.
            match find(&ends, worker.settings().streams_per_connection).await {
                Some(tunnel) => tunnel,
                None => make(worker, &ends, address, accept, terms).await?,
            }
        }
    };
    let asking = ask(tunnel, authority);
    match worker.deadlines().within(terms.connect, asking).await {
        Ok(outcome) => outcome.map_err(|fault| Fault {
            message: format!("tunnel through {address} to {authority}: {fault}").into(),
            ..fault
        }),
        Err(_) => Err(Fault::connect(
            Reason::ConnectTimeout,
            format!("tunnel through {address} to {authority}: no answer in time"),
        )),
    }
}

async fn find(ends: &Ends, most: usize) -> Option<Tunnel> {
    loop {
        let candidate = {
            let mut open = ends.open.borrow_mut();
            let tunnel = open.iter_mut().find(|tunnel| Arc::strong_count(&tunnel.users) <= most)?;
            tunnel.used = clock::now();
            tunnel.clone()
        };
        let users = candidate.users;
        match candidate.requests.ready().await {
            Ok(requests) => return Some(Tunnel { requests, users, used: candidate.used }),
            // It has ended, or the other side drains.
            Err(_) => ends.open.borrow_mut().retain(|tunnel| !Arc::ptr_eq(&tunnel.users, &users)),
        }
    }
}

async fn make(
    worker: &Rc<Worker>,
    ends: &Ends,
    address: SocketAddr,
    accept: &Accept,
    terms: &Terms,
) -> Result<Tunnel, Fault> {
    let tcp = dial(worker, address, terms).await?;
    let stream = tls::connect(worker, tcp, address, accept, terms.connect).await?;
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(TUNNEL_WINDOW)
        .max_frame_size(64 * 1024)
        .max_header_list_size(16 * 1024)
        .max_send_buffer_size(STREAM_WINDOW as usize)
        .enable_push(false);
    let failed =
        |error: h2::Error| Fault::connect(Reason::ConnectFailure, format!("HTTP/2 with {address}: {error}"));
    let (requests, connection) = match worker
        .deadlines()
        .within(terms.connect, builder.handshake::<_, Bytes>(stream))
        .await
    {
        Ok(made) => made.map_err(failed)?,
        Err(_) => {
            return Err(Fault::connect(Reason::ConnectTimeout, format!("HTTP/2 with {address}: timed out")));
        }
    };
    worker.spawn(async move {
        // How it ends is told to each of its streams.
        let _ = connection.await;
    });
    let tunnel = Tunnel { requests, users: Arc::new(()), used: clock::now() };
    ends.open.borrow_mut().push(tunnel.clone());
    let requests = tunnel.requests.ready().await.map_err(tls_alert_or(address))?;
    Ok(Tunnel { requests, ..tunnel })
}

/// In TLS 1.3 a server that refuses our certificate says so after the handshake is over on our side.
fn tls_alert_or(address: SocketAddr) -> impl Fn(h2::Error) -> Fault {
    move |error| {
        let reason = if error.is_io() { Reason::TlsFailure } else { Reason::ConnectFailure };
        Fault::connect(reason, format!("tunnel with {address}: {error}"))
    }
}

async fn ask(tunnel: Tunnel, authority: SocketAddr) -> Result<Stream, Fault> {
    let Tunnel { mut requests, users, .. } = tunnel;
    let authority = Authority::try_from(authority.to_string()).expect("an address is an authority");
    let uri =
        http::Uri::builder().authority(authority).build().expect("an authority alone is a target of CONNECT");
    let mut request = http::Request::new(());
    *request.method_mut() = http::Method::CONNECT;
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    let failed = |error: h2::Error| {
        // Whatever ends the stream before the answer: the application has seen nothing.
        let reason = if error.is_io() { Reason::TlsFailure } else { Reason::ConnectFailure };
        Fault::connect(reason, error.to_string())
    };
    let (response, outgoing) = requests.send_request(request, false).map_err(failed)?;
    let (parts, incoming) = response.await.map_err(failed)?.into_parts();
    match parts.status.as_u16() {
        200 => Ok(TunnelStream::new(incoming, outgoing, Some(users)).boxed()),
        status => {
            let told = parts.headers.get(FAULT_HEADER).and_then(|value| value.to_str().ok());
            let told = told.map_or_else(|| format!("the other proxy answered {status}"), str::to_owned);
            let reason = if status == 401 { Reason::TunnelDenied } else { Reason::ConnectFailure };
            Err(Fault::connect(reason, told))
        }
    }
}
