//! After 101: both connections become tunnels of the new protocol (WebSocket), until each direction has ended.
//!
//! A caller of HTTP/2 asks by extended CONNECT (RFC 8441), without the key by which the handshake of WebSocket proves
//! that a server of HTTP/1.1 speaks it: the key is ours then.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lateen_runtime::random;

use super::body::{Failed, Pump};
use super::head::{Known, RequestHead, ResponseHead, Version};
use super::session::Session;
use crate::fault::{Fault, Reason};
use crate::worker::Worker;

/// Makes a request for a tunnel that came by HTTP/2 complete for HTTP/1.1.
pub(crate) fn prepare(request: &mut RequestHead) {
    let websocket =
        request.fields.known(Known::Upgrade).is_some_and(|v| v.eq_ignore_ascii_case(b"websocket"));
    if request.version == Version::Http2 && websocket {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&random::next_u64().to_ne_bytes());
        key[8..].copy_from_slice(&random::next_u64().to_ne_bytes());
        request.fields.set(b"sec-websocket-key", BASE64.encode(key).as_bytes());
    }
}

/// Sends the 101 and moves bytes until the end; gives how many went each way, and what went wrong.
pub(crate) async fn run(
    worker: &Worker,
    down: &mut Session,
    up: &mut Session,
    request: &RequestHead,
    response: &ResponseHead,
) -> ((u64, u64), Option<Fault>) {
    if let Err(broken) = down.write_response(response, request, true) {
        return ((0, 0), Some(Fault::downstream(Reason::Gone, broken.to_string())));
    }
    for session in [&mut *down, &mut *up] {
        if let Some(connection) = session.as_h1() {
            connection.become_tunnel();
        }
    }
    let (mut forth, mut back) = (Pump::tunnel(), Pump::tunnel());
    let longest = worker.settings().tcp_idle;
    let mut idle = worker.deadlines().after(longest);
    let mut moved = 0;
    let fault = poll_fn(|context| {
        let forth_ended = forth.poll(context, down, up);
        let back_ended = back.poll(context, up, down);
        match (forth_ended, back_ended) {
            (Poll::Ready(Err(Failed::From(broken))), _) | (_, Poll::Ready(Err(Failed::To(broken)))) => {
                return Poll::Ready(Some(Fault::downstream(Reason::Gone, broken.to_string())));
            }
            (Poll::Ready(Err(Failed::To(broken))), _) | (_, Poll::Ready(Err(Failed::From(broken)))) => {
                return Poll::Ready(Some(Fault::upstream(Reason::Reset, broken.to_string())));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(None),
            _ => {}
        }
        if forth.bytes() + back.bytes() != moved {
            moved = forth.bytes() + back.bytes();
            idle.reset(longest);
        }
        Pin::new(&mut idle)
            .poll(context)
            .map(|()| Some(Fault::proxy(Reason::IdleTimeout, "nothing moved for too long")))
    })
    .await;
    if fault.is_some() {
        down.reset(h2::Reason::CONNECT_ERROR);
        up.reset(h2::Reason::CANCEL);
    }
    ((forth.bytes(), back.bytes()), fault)
}
