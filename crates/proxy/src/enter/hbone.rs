//! HBONE in: TLS with a verified peer, HTTP/2, and one CONNECT for each connection that the other proxy carries.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use http::{Response, StatusCode};
use lateen_engine::{ConnectionFacts, Decision, Direction, Forward, decide_connection};
use lateen_model::Identity;
use lateen_runtime::stream::Stream;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::detect;
use crate::connect::hbone::{FAULT_HEADER, STREAM_WINDOW, TUNNEL_WINDOW};
use crate::fault::{Fault, Reason};
use crate::http::exchange::Entry;
use crate::http::h2::server::drive;
use crate::http::h2::tunnel::TunnelStream;
use crate::tcp::forward;
use crate::worker::Worker;

/// Streams that another proxy may have open on one tunnel.
const MOST_STREAMS: u32 = 200;
/// Ports of ours: a tunnel that leads to one of them would come in again.
const OWN_PORTS: [u16; 3] = [15001, 15006, 15008];

/// What all streams of a tunnel have in common.
struct Tunnel {
    client: SocketAddr,
    peer: Arc<Identity>,
    client_certificate: Box<str>,
}

/// Serves one connection of another proxy.
pub(crate) async fn serve(worker: Rc<Worker>, tcp: TcpStream, client: SocketAddr, local: SocketAddr) {
    let credentials = worker.credentials();
    let Some(credentials) = &*credentials else {
        return tracing::debug!(%client, "tunnel refused: there is no certificate yet");
    };
    let handshake = TlsAcceptor::from(Arc::clone(credentials.server())).accept(Stream::from(tcp));
    let tls = match worker.deadlines().within(worker.settings().head_time, handshake).await {
        Ok(Ok(tls)) => Stream::from(tls),
        Ok(Err(error)) => {
            let fault = Fault::downstream(Reason::TlsFailure, format!("TLS from {client}: {error}"));
            return forward::failed(&worker, &plaintext(client, local), &fault);
        }
        Err(_) => return tracing::debug!(%client, "TLS handshake took too long"),
    };
    // The handshake has verified the chain; this reads the name.
    let Some(peer) = tls.peer_certificates().and_then(lateen_pki::peer_identity).map(Arc::new) else {
        let fault =
            Fault::downstream(Reason::TlsFailure, format!("TLS from {client}: the peer has no identity"));
        return forward::failed(&worker, &plaintext(client, local), &fault);
    };
    let client_certificate = client_certificate(credentials.identity(), &peer, &tls);
    let tunnel = Rc::new(Tunnel { client, peer, client_certificate });
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(TUNNEL_WINDOW)
        .max_frame_size(64 * 1024)
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(64 * 1024)
        .max_send_buffer_size(STREAM_WINDOW as usize);
    let connection =
        match worker.deadlines().within(worker.settings().head_time, builder.handshake(tls)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return tracing::debug!(%client, %error, "no HTTP/2 in the tunnel"),
            Err(_) => return tracing::debug!(%client, "no HTTP/2 in the tunnel in time"),
        };
    let task_worker = Rc::clone(&worker);
    drive(&worker, connection, move |parts, body, respond| {
        task_worker.spawn(stream(Rc::clone(&task_worker), Rc::clone(&tunnel), parts, body, respond));
        ControlFlow::Continue(())
    })
    .await;
}

/// The facts of a connection that did not get so far as to have any.
fn plaintext(client: SocketAddr, local: SocketAddr) -> Entry {
    let facts = ConnectionFacts {
        direction: Direction::Inbound,
        client,
        destination: local,
        destination_host: None,
        peer: None,
        sni: None,
        tls: false,
    };
    Entry::new(facts)
}

/// `x-forwarded-client-cert` as Envoy writes it.
fn client_certificate(own: &Identity, peer: &Identity, tls: &Stream) -> Box<str> {
    let hash = tls.peer_certificates().and_then(<[_]>::first).map(|certificate| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    });
    format!("By={own};Hash={};Subject=\"\";URI={peer}", hash.unwrap_or_default()).into()
}

/// One stream: check, decide, connect, and only then say yes.
async fn stream(
    worker: Rc<Worker>,
    tunnel: Rc<Tunnel>,
    parts: http::request::Parts,
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
) {
    let authority = parts.uri.authority().and_then(|authority| authority.as_str().parse::<SocketAddr>().ok());
    let destination = match authority {
        Some(destination) if parts.method == http::Method::CONNECT => destination,
        _ => return answer(&mut respond, StatusCode::BAD_REQUEST, "expected CONNECT to an address and port"),
    };
    if OWN_PORTS.contains(&destination.port()) {
        let told = "the port belongs to the proxy itself";
        return answer(&mut respond, StatusCode::SERVICE_UNAVAILABLE, told);
    }
    let facts = ConnectionFacts {
        direction: Direction::Inbound,
        client: tunnel.client,
        destination,
        destination_host: None,
        peer: Some(Arc::clone(&tunnel.peer)),
        sni: None,
        tls: false,
    };
    let decision = decide_connection(&worker.snapshot(), &facts);
    let client_certificate = Some(tunnel.client_certificate.clone());
    let tls = Some(rustls::ProtocolVersion::TLSv1_3);
    let entry = Entry { client_certificate, tls, ..Entry::new(facts) };
    match decision {
        Decision::Deny(denial) => {
            forward::denied(&worker, &entry, &denial);
            answer(&mut respond, StatusCode::UNAUTHORIZED, "denied by policy");
        }
        Decision::Forward(forward) => carry(worker, entry, forward, false, body, respond).await,
        Decision::Detect(otherwise) => match *otherwise {
            // The application is reached first: that it cannot be must be told before the yes.
            Decision::Forward(forward) => carry(worker, entry, forward, true, body, respond).await,
            otherwise => {
                let Some(stream) = accept(&mut respond, body) else { return };
                let detect = Decision::Detect(Box::new(otherwise));
                super::act(worker, stream, BytesMut::new(), entry, detect).await;
            }
        },
        serve @ Decision::Serve(_) => {
            let Some(stream) = accept(&mut respond, body) else { return };
            super::act(worker, stream, BytesMut::new(), entry, serve).await;
        }
    }
}

/// Reaches the application, says yes, and moves bytes; or looks at them first, when `detect` says so.
async fn carry(
    worker: Rc<Worker>,
    entry: Entry,
    forward: Forward,
    detect: bool,
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
) {
    let reached = match forward::reach(&worker, entry.facts.client.ip(), &forward).await {
        Ok(reached) => reached,
        Err(refused) => {
            let told = refused.record(&worker, &entry, &forward);
            return answer(&mut respond, StatusCode::SERVICE_UNAVAILABLE, &told);
        }
    };
    let Some(stream) = accept(&mut respond, body) else { return };
    if detect {
        let otherwise = Decision::Forward(forward);
        detect::run(worker, stream, BytesMut::new(), entry, otherwise, Some(reached)).await;
    } else {
        forward::relay(worker, stream, BytesMut::new(), entry, forward, reached).await;
    }
}

fn accept(respond: &mut SendResponse<Bytes>, body: RecvStream) -> Option<Stream> {
    let outgoing = respond.send_response(Response::new(()), false).ok()?;
    Some(TunnelStream::new(body, outgoing, None).boxed())
}

/// Refuses a stream and says why.
fn answer(respond: &mut SendResponse<Bytes>, status: StatusCode, told: &str) {
    let mut response = Response::new(());
    *response.status_mut() = status;
    let told: String = told.chars().filter(|char| (' '..='~').contains(char)).collect();
    if let Ok(value) = http::HeaderValue::try_from(told) {
        response.headers_mut().insert(FAULT_HEADER, value);
    }
    // If the other proxy has gone already, nobody needs the answer.
    let _ = respond.send_response(response, true);
}
