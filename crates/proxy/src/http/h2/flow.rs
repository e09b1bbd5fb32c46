//! One stream of an HTTP/2 connection as the body machine that relays use, with flow control end to end: what is
//! not consumed is not acknowledged to the sender, what the receiver did not allow is not taken.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};

use super::heads;
use crate::http::h1::connection::Step;
use crate::http::head::Fields;

/// The largest piece taken at once.
const MOST_AT_ONCE: usize = 32 * 1024;

/// One request and its response.
pub struct Flow {
    incoming: Option<RecvStream>,
    outgoing: Outgoing,
    response: Option<ResponseFuture>,
    data: Bytes,
    trailers: Option<Box<Fields>>,
    ended: bool,
}

enum Outgoing {
    /// We are the server and have not answered.
    Respond(SendResponse<Bytes>),
    /// A body may be sent.
    Body(SendStream<Bytes>),
    /// The last byte was sent, but the stream can still be reset.
    Finished(Option<SendStream<Bytes>>),
}

impl Flow {
    /// A request that came to us.
    #[must_use]
    pub fn server(incoming: RecvStream, respond: SendResponse<Bytes>) -> Self {
        Self {
            incoming: Some(incoming),
            outgoing: Outgoing::Respond(respond),
            response: None,
            data: Bytes::new(),
            trailers: None,
            ended: false,
        }
    }

    /// A request that we sent; `ends` if it has no body.
    #[must_use]
    pub fn client(response: ResponseFuture, body: SendStream<Bytes>, ends: bool) -> Self {
        let outgoing = if ends { Outgoing::Finished(Some(body)) } else { Outgoing::Body(body) };
        Self {
            incoming: None,
            outgoing,
            response: Some(response),
            data: Bytes::new(),
            trailers: None,
            ended: false,
        }
    }

    /// Waits for the head of the response; an interim one is told as such and another follows.
    ///
    /// # Errors
    /// The stream or the connection failed.
    pub fn poll_response(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<(http::response::Parts, bool), h2::Error>> {
        let Some(response) = &mut self.response else { return Poll::Pending };
        if let Poll::Ready(Some(interim)) = response.poll_informational(context) {
            return Poll::Ready(interim.map(|interim| (interim.into_parts().0, false)));
        }
        let (parts, body) = ready!(Pin::new(response).poll(context))?.into_parts();
        let ends = body.is_end_stream();
        self.incoming = Some(body);
        self.response = None;
        Poll::Ready(Ok((parts, ends)))
    }

    /// Sends `100 Continue` or another interim response.
    ///
    /// # Errors
    /// The stream is gone.
    pub fn send_interim(&mut self, response: http::Response<()>) -> Result<(), h2::Error> {
        match &mut self.outgoing {
            Outgoing::Respond(respond) => respond.send_informational(response),
            _ => Ok(()),
        }
    }

    /// Sends the head of the response.
    ///
    /// # Errors
    /// The stream is gone.
    pub fn send_response(&mut self, response: http::Response<()>, ends: bool) -> Result<(), h2::Error> {
        let Outgoing::Respond(respond) = &mut self.outgoing else { return Ok(()) };
        let body = respond.send_response(response, ends)?;
        self.outgoing = if ends { Outgoing::Finished(Some(body)) } else { Outgoing::Body(body) };
        Ok(())
    }

    /// Waits for bytes of the incoming body.
    ///
    /// # Errors
    /// The stream was reset or the connection failed.
    pub fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<Step, h2::Error>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(Ok(Step::End)) };
        while self.data.is_empty() {
            if self.ended {
                return Poll::Ready(Ok(Step::End));
            }
            match ready!(incoming.poll_data(context)) {
                Some(data) => self.data = data?,
                None => {
                    if let Some(map) = ready!(incoming.poll_trailers(context))? {
                        let mut trailers = Box::<Fields>::default();
                        heads::read_trailers(&map, &mut trailers);
                        self.trailers = Some(trailers);
                    }
                    self.ended = true;
                }
            }
        }
        Poll::Ready(Ok(Step::Data))
    }

    /// Bytes of the body that are there now.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Says that so many bytes were used, which lets the sender send as many more.
    pub fn consume(&mut self, bytes: usize) {
        self.data.advance(bytes);
        if let Some(incoming) = &mut self.incoming {
            // Fails only if the stream is gone, which the next poll says.
            let _ = incoming.flow_control().release_capacity(bytes);
        }
    }

    /// The trailers of a body that has ended.
    pub fn take_trailers(&mut self) -> Option<Box<Fields>> {
        self.trailers.take()
    }

    /// Whether the incoming message is read to its end.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.data.is_empty() && (self.ended || self.incoming.as_ref().is_none_or(RecvStream::is_end_stream))
    }

    /// Takes bytes of a body; waits for the receiver's window.
    ///
    /// # Errors
    /// The stream was reset or the connection failed.
    pub fn poll_write_body(
        &mut self,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize, h2::Error>> {
        let Outgoing::Body(body) = &mut self.outgoing else { return Poll::Ready(Ok(data.len())) };
        let capacity = ready!(poll_window(body, context, data.len().min(MOST_AT_ONCE)))?;
        let taken = capacity.min(data.len());
        body.send_data(Bytes::copy_from_slice(&data[..taken]), false)?;
        Poll::Ready(Ok(taken))
    }

    /// Ends the body.
    ///
    /// # Errors
    /// The stream is gone.
    pub fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), h2::Error> {
        let outgoing = std::mem::replace(&mut self.outgoing, Outgoing::Finished(None));
        let Outgoing::Body(mut body) = outgoing else {
            self.outgoing = outgoing;
            return Ok(());
        };
        match trailers {
            Some(trailers) => body.send_trailers(heads::write_trailers(trailers))?,
            None => body.send_data(Bytes::new(), true)?,
        }
        self.outgoing = Outgoing::Finished(Some(body));
        Ok(())
    }

    /// Waits until the peer has given the stream up.
    pub fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.outgoing {
            Outgoing::Respond(respond) => respond.poll_reset(context).map(drop),
            Outgoing::Body(body) | Outgoing::Finished(Some(body)) => body.poll_reset(context).map(drop),
            Outgoing::Finished(None) => Poll::Pending,
        }
    }

    /// Gives the stream up.
    pub fn reset(&mut self, reason: Reason) {
        match &mut self.outgoing {
            Outgoing::Respond(respond) => respond.send_reset(reason),
            Outgoing::Body(body) | Outgoing::Finished(Some(body)) => body.send_reset(reason),
            Outgoing::Finished(None) => {}
        }
    }
}

/// Waits until at least one byte may be sent; asks for `wanted`.
pub(super) fn poll_window(
    body: &mut SendStream<Bytes>,
    context: &mut Context<'_>,
    wanted: usize,
) -> Poll<Result<usize, h2::Error>> {
    body.reserve_capacity(wanted);
    loop {
        let capacity = body.capacity();
        if capacity > 0 {
            return Poll::Ready(Ok(capacity));
        }
        match ready!(body.poll_capacity(context)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => return Poll::Ready(Err(Reason::CANCEL.into())),
        }
    }
}
