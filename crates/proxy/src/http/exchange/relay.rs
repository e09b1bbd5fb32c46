//! The head of the answer, and both bodies until the answer is complete.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Buf;
use lateen_engine::Effective;
use lateen_runtime::deadline::Deadline;

use super::{Exchange, Heads, Next, Way, from_caller, from_endpoint, limit};
use crate::connect::pool::{self, Upstream};
use crate::fault::{Fault, Reason};
use crate::http::body::{Failed, Pump};
use crate::http::head::{Fields, Framing};
use crate::http::session::Session;
use crate::http::{grpc, grpc_web, reply, upgrade};

impl Exchange<'_> {
    /// The head of the answer and both bodies.
    pub(super) async fn relay(
        &mut self,
        effective: &Effective,
        way: Way,
        pump: Pump,
        total: Option<Deadline>,
    ) -> Next {
        let (mut way, mut pump, mut total) = (way, pump, total);
        self.trip.head_came();
        if let Some(filters) = &effective.filters {
            self.trip.received = pump.bytes();
            self.edit_response(effective, filters, None);
        }
        let Heads { request, response } = &mut *self.heads;
        let coder = request.grpc_web.and_then(|coding| grpc_web::translate_response(coding, response));
        let upstream_persists = response.persistent;
        // A body that was promised only after 100-continue will not come now.
        let unsent_body = request.expects_continue && !pump.is_done();
        let persistent = request.persistent && !unsent_body && !self.worker.is_draining();
        if let Some(standing) = &self.trip.rate {
            limit::tell(standing, &mut response.fields);
        }
        self.trip.answered(response);
        let framing = match self.down.write_response(response, request, persistent) {
            Ok(framing) => framing,
            Err(broken) => {
                self.trip.fail(from_caller(&broken));
                return Next::Close;
            }
        };
        let bodiless = framing.is_empty() && response.framing.is_empty();
        let most = self.trip.most(|sizes| sizes.response_body);
        let mut back =
            if bodiless { Pump::empty(None) } else { Pump::new(None).through(coder).at_most(most) };
        let mut limits = [total.take(), way.per_try.take()];
        let ended = self.move_bodies(&mut way.lease.session, &mut pump, &mut back, &mut limits).await;
        self.trip.moved(&pump, &back);
        self.send_copies(&pump);
        match ended {
            Ok(()) => {
                if upstream_persists && pump.is_done() {
                    self.give_back(way);
                }
                self.after(persistent && framing != Framing::UntilClose, pump.is_done())
            }
            Err(fault) => {
                way.lease.session.reset(h2::Reason::CANCEL);
                let next = self.end_in_band(&fault, framing, &mut back).await;
                if next == Next::Close {
                    // What came before the end is the caller's to see, as far as it takes it at once.
                    let _ = self.down.poll_flush(&mut Context::from_waker(Waker::noop()));
                    self.down.reset(h2::Reason::INTERNAL_ERROR);
                }
                self.trip.fail(fault);
                next
            }
        }
    }

    /// A caller of gRPC whose deadline is over is told so in the trailers, since its answer has begun; any other sees the
    /// answer cut short.
    async fn end_in_band(&mut self, fault: &Fault, framing: Framing, back: &mut Pump) -> Next {
        let request = &self.heads.request;
        if fault.reason != Reason::Timeout || framing != Framing::Chunked || !reply::is_grpc(request) {
            return Next::Close;
        }
        let mut trailers = Fields::default();
        trailers.add(b"grpc-status", grpc::DEADLINE_EXCEEDED.to_string().as_bytes());
        trailers.add(b"grpc-message", b"the timeout is over");
        self.trip.grpc_ended(grpc::DEADLINE_EXCEEDED);
        let mut in_body = back.cut_with(&trailers);
        let down = &mut self.down;
        let ending = async {
            while let Some(rest) = in_body.as_mut().filter(|rest| !rest.is_empty()) {
                let sent = poll_fn(|context| down.poll_write_body(context, rest)).await?;
                rest.advance(sent);
            }
            down.finish(if in_body.is_some() { None } else { Some(&trailers) })?;
            poll_fn(|context| down.poll_flush(context)).await
        };
        match self.worker.deadlines().within(self.worker.settings().stream_idle, ending).await {
            Ok(Ok(())) => Next::Linger,
            _ => Next::Close,
        }
    }

    /// Both directions until the answer is complete.
    async fn move_bodies(
        &mut self,
        up: &mut Session,
        pump: &mut Pump,
        back: &mut Pump,
        [total, per_try]: &mut [Option<Deadline>; 2],
    ) -> Result<(), Fault> {
        let stream_idle = self.worker.settings().stream_idle;
        let mut idle: Option<Deadline> = None;
        let (worker, down) = (self.worker, &mut self.down);
        let mut request_open = !pump.is_done();
        let mut moved = pump.bytes() + back.bytes();
        poll_fn(|context| {
            if request_open {
                match pump.poll(context, down, up) {
                    Poll::Ready(Err(Failed::From(broken))) => return Poll::Ready(Err(from_caller(&broken))),
                    // It reads no more, but its answer may be complete.
                    Poll::Ready(Err(Failed::To(_)) | Ok(())) => request_open = false,
                    Poll::Pending => {}
                }
            }
            match back.poll(context, up, down) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(Failed::From(broken))) => return Poll::Ready(Err(from_endpoint(&broken))),
                Poll::Ready(Err(Failed::To(broken))) => return Poll::Ready(Err(from_caller(&broken))),
                Poll::Pending => {}
            }
            if pump.is_done() && down.poll_gone(context).is_ready() {
                return Poll::Ready(Err(Fault::downstream(
                    Reason::Gone,
                    "the caller went away during the answer",
                )));
            }
            if total.as_mut().is_some_and(|limit| Pin::new(limit).poll(context).is_ready()) {
                return Poll::Ready(Err(Fault::proxy(Reason::Timeout, "the route's timeout is over")));
            }
            if per_try.as_mut().is_some_and(|limit| Pin::new(limit).poll(context).is_ready()) {
                let fault = Fault::proxy(Reason::PerTryTimeout, "the try took longer than its share");
                return Poll::Ready(Err(fault));
            }
            // Most answers are complete at the first look; only the others need a limit.
            let idle = idle.get_or_insert_with(|| worker.deadlines().after(stream_idle));
            if pump.bytes() + back.bytes() != moved {
                moved = pump.bytes() + back.bytes();
                idle.reset(stream_idle);
            }
            if Pin::new(idle).poll(context).is_ready() {
                return Poll::Ready(Err(Fault::proxy(Reason::IdleTimeout, "nothing moved for too long")));
            }
            Poll::Pending
        })
        .await
    }

    /// Lets the next request use the connection.
    fn give_back(&mut self, way: Way) {
        let ended = self.trip.end();
        let Way { lease, group, .. } = way;
        if let (Session::H1(connection), Some(picked)) = (lease.session, &self.trip.picked) {
            let upstream = Upstream { hop: &picked.hop, group: group.as_ref() };
            let told = pool::told(&self.heads.response);
            self.worker.pool.put(self.worker, upstream, connection, lease.ticket, told, ended);
        }
    }

    /// The connection becomes a tunnel of the other protocol.
    pub(super) async fn switch(&mut self, effective: &Effective, way: Way) -> Next {
        self.trip.head_came();
        if let Some(filters) = &effective.filters {
            self.edit_response(effective, filters, None);
        }
        if let Some(standing) = &self.trip.rate {
            limit::tell(standing, &mut self.heads.response.fields);
        }
        self.trip.answered(&self.heads.response);
        let Heads { request, response } = &mut *self.heads;
        let mut way = way;
        let ended = upgrade::run(self.worker, self.down, &mut way.lease.session, request, response).await;
        self.trip.tunnelled(ended);
        Next::Close
    }
}
