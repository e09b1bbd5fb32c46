//! An explicit HTTP proxy for the application: each request, or each CONNECT, names where it goes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use lateen_engine::{ConnectionFacts, Decision, decide_connection, host_of};
use tokio::io::AsyncWriteExt;

use crate::connect::resolve;
use crate::http::exchange::Entry;
use crate::http::h1::connection::Connection;
use crate::http::head::RequestHead;
use crate::http::reply::Reply;
use crate::tcp::forward;
use crate::worker::Worker;

/// What a request says of its destination, as facts of a connection of its own. None if it names no place.
pub(crate) fn entry_of(connection: &Entry, request: &RequestHead) -> Option<Entry> {
    let authority = request.authority();
    let host = host_of(authority);
    let port = authority[authority.rfind(host)? + host.len()..].trim_start_matches(']').strip_prefix(':');
    let port = port.map_or(Some(80), |port| port.parse().ok())?;
    if host.is_empty() {
        return None;
    }
    let (address, name) = match host.parse::<IpAddr>() {
        Ok(address) => (address, None),
        // Asked for only when the mesh does not know the name.
        Err(_) => (Ipv4Addr::UNSPECIFIED.into(), Some(host.into())),
    };
    let facts = ConnectionFacts {
        destination: SocketAddr::new(address, port),
        destination_host: name,
        ..connection.facts.clone()
    };
    Some(Entry { explicit: true, ..Entry::new(facts) })
}

/// Serves a CONNECT: decided as a connection, answered once there is one.
pub(crate) async fn connect(worker: Rc<Worker>, connection: Connection, entry: Entry) {
    let (mut stream, read_before, _) = connection.into_parts();
    let mut decision = decide_connection(&worker.snapshot(), &entry.facts);
    let host = entry.facts.destination_host.as_deref();
    let settled = resolve::settle_decision(&worker, host, &mut decision).await;
    let refusal = match (settled, decision) {
        (Err(fault), _) => {
            forward::failed(&worker, &entry, &fault);
            Reply::fault(&fault)
        }
        (Ok(()), Decision::Deny(denial)) => {
            forward::denied(&worker, &entry, &denial);
            Reply::denial(&denial)
        }
        (Ok(()), Decision::Forward(to)) => {
            match forward::reach(&worker, entry.facts.client.ip(), &to).await {
                Ok(reached) => {
                    if accept(&mut stream).await {
                        forward::relay(worker, stream, read_before, entry, to, reached).await;
                    }
                    return;
                }
                Err(unreached) => {
                    unreached.record(&worker, &entry, &to);
                    Reply { status: 503, body: "the destination cannot be reached", grpc_status: None }
                }
            }
        }
        (Ok(()), decision) => {
            if accept(&mut stream).await {
                let entry = Entry { explicit: false, ..entry };
                super::act(worker, stream, read_before, entry, decision).await;
            }
            return;
        }
    };
    let Reply { status, body, .. } = refusal;
    let length = body.len();
    let answer =
        format!("HTTP/1.1 {status} Refused\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    // Whoever has gone needs no answer.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn accept(stream: &mut lateen_runtime::stream::Stream) -> bool {
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_ok()
}
