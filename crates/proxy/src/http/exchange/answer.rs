//! Answers of our own, and what becomes of the connection after an answer.

use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use lateen_engine::{Denial, Direction};

use super::{Exchange, Heads, Next, limit};
use crate::connect::hbone::FAULT_HEADER;
use crate::fault::{Fault, Reason, Retry};
use crate::http::h1::connection::Step;
use crate::http::head::MethodKind;
use crate::http::reply;
use crate::http::session::Session;

impl Exchange<'_> {
    pub(super) async fn deny(&mut self, denial: Denial) -> Next {
        let answer = reply::Reply::denial(&denial);
        self.trip.denial = Some(denial);
        Box::pin(self.answer(answer, None)).await
    }

    /// Answers what went wrong, if anybody is left to hear it.
    pub(super) async fn answer_fault(&mut self, fault: Fault) -> Next {
        if fault.reason == Reason::Gone {
            self.down.reset(h2::Reason::CANCEL);
            self.trip.fail(fault);
            return Next::Close;
        }
        let answer = reply::Reply::fault(&fault);
        let next = Box::pin(self.answer(answer, Some(&fault))).await;
        self.trip.fail(fault);
        next
    }

    pub(super) async fn answer_refusal(&mut self, status: u16, body: &'static str, fault: Fault) -> Next {
        let next = Box::pin(self.answer(reply::Reply { status, body, grpc_status: None }, None)).await;
        self.trip.fail(fault);
        next
    }

    /// Sends an answer of our own.
    pub(super) async fn answer(&mut self, answer: reply::Reply<'_>, fault: Option<&Fault>) -> Next {
        let explained = self.explained(answer.body, fault);
        let answer = reply::Reply { body: explained.as_deref().unwrap_or(answer.body), ..answer };
        let Heads { request, response } = &mut *self.heads;
        let has_body = reply::head(answer, request, response);
        if fault.is_some_and(|fault| fault.reason == Reason::Overload) {
            response.fields.add(b"x-envoy-overloaded", b"true");
        }
        // The other proxy may try elsewhere: our application has not seen the request.
        if let Some(fault) = fault.filter(|fault| fault.retry == Retry::Safe)
            && self.entry.facts.direction == Direction::Inbound
            && self.entry.facts.peer.is_some()
        {
            let told: Vec<u8> = fault.message.bytes().filter(|byte| (b' '..=b'~').contains(byte)).collect();
            response.fields.add(FAULT_HEADER.as_bytes(), &told);
        }
        self.edit_own_answer(fault);
        let body = if has_body { answer.body.as_bytes() } else { &[] };
        self.send_answer(body).await
    }

    /// Sends the head that is in `response`, and this body unless only the head was asked for.
    pub(super) async fn send_answer(&mut self, body: &[u8]) -> Next {
        let Heads { request, response } = &mut *self.heads;
        if let Some(standing) = &self.trip.rate {
            limit::tell(standing, &mut response.fields);
        }
        self.trip.answered(response);
        let down = &mut self.down;
        let read = discard_what_came(down);
        let persistent = request.persistent && read && !self.worker.is_draining();
        if down.write_response(response, request, persistent).is_err() {
            return Next::Close;
        }
        let mut body = if request.kind == MethodKind::Head { &[] } else { body };
        self.trip.sent(body.len());
        let stream_idle = self.worker.settings().stream_idle;
        let sending = poll_fn(|context| {
            while !body.is_empty() {
                match down.poll_write_body(context, body) {
                    Poll::Ready(Ok(sent)) => body = &body[sent..],
                    other => return other.map_ok(drop),
                }
            }
            Poll::Ready(down.finish(None))
        });
        let sent = self.worker.deadlines().within(stream_idle, sending).await;
        let flushed = poll_fn(|context| self.down.poll_flush(context));
        let flushed = self.worker.deadlines().within(stream_idle, flushed).await;
        match (sent, flushed) {
            (Ok(Ok(())), Ok(Ok(()))) => self.after(persistent, read),
            _ => Next::Close,
        }
    }

    /// What becomes of the connection once the answer is sent.
    pub(super) fn after(&self, persistent: bool, request_read: bool) -> Next {
        // An HTTP/2 caller is told by dropping the stream that the rest of the body is not wanted: `h2` sends the
        // answer first and then a reset without blame.
        if persistent && request_read { Next::KeepAlive } else { Next::Linger }
    }
}

/// Throws away the part of a body that is there already; true if that was all of it.
fn discard_what_came(down: &mut Session) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..16 {
        match down.poll_body(&mut context) {
            Poll::Ready(Ok(Step::Data)) => down.consume(down.data().len()),
            Poll::Ready(Ok(Step::End)) => return true,
            _ => return false,
        }
    }
    false
}
