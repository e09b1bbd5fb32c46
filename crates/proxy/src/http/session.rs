//! `Session`: one request's way in or out, whatever the protocol: a closed enum over HTTP/1.1 connections and HTTP/2
//! streams. Heads and bodies are the same values on both, so translation is nothing but having two kinds of sessions.

use std::task::{Context, Poll, ready};

use super::h1::connection::{Broken, Connection, Step};
use super::h1::parse::{BodyOf, HeadLimits};
use super::h1::write::ResponseShape;
use super::h2::flow::Flow;
use super::h2::heads;
use super::head::{Fields, Framing, MethodKind, RequestHead, ResponseHead, Version};

/// A way in (requests are read, responses written) or out (the other way round).
pub enum Session {
    /// A whole connection, one request at a time.
    H1(Box<Connection>),
    /// One stream of a connection that others share.
    H2(Box<Flow>),
}

impl Session {
    /// Waits for the head of the response; interim heads come one by one before it.
    ///
    /// # Errors
    /// Whatever is wrong with the head or the connection.
    pub fn poll_response(
        &mut self,
        context: &mut Context<'_>,
        limits: HeadLimits,
        request: MethodKind,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), Broken>> {
        match self {
            Session::H1(connection) => {
                connection.poll_response(context, limits, BodyOf::method(request), head)
            }
            Session::H2(flow) => {
                let (parts, ends) = ready!(flow.poll_response(context))?;
                let bodiless = request == MethodKind::Head;
                heads::read_response(&parts, bodiless, ends, limits.fields, head)?;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Sends the head of a response, interim or final, and says how its body goes on.
    ///
    /// # Errors
    /// The stream is gone.
    pub fn write_response(
        &mut self,
        head: &ResponseHead,
        request: &RequestHead,
        persistent: bool,
    ) -> Result<Framing, Broken> {
        let bodiless = request.kind == MethodKind::Head || matches!(head.status, 100..200 | 204 | 304);
        let framing = match (head.framing, request.version) {
            _ if bodiless => Framing::None,
            (Framing::None, _) => Framing::Length(0),
            (Framing::Length(length), _) => Framing::Length(length),
            (_, Version::Http10) => Framing::UntilClose,
            _ => Framing::Chunked,
        };
        let describes_body = request.kind == MethodKind::Head || head.status == 304;
        match self {
            Session::H1(connection) => {
                let persistent = persistent && framing != Framing::UntilClose;
                let shape = ResponseShape { framing, persistent, version: request.version, describes_body };
                connection.write_response(head, shape);
            }
            Session::H2(flow) => {
                let response = heads::write_response(head, framing, describes_body);
                if head.is_interim() {
                    flow.send_interim(response)?;
                } else {
                    flow.send_response(response, framing.is_empty() && head.status != 101)?;
                }
            }
        }
        Ok(framing)
    }

    /// Waits for bytes of the incoming body.
    ///
    /// # Errors
    /// A body that is cut short or framed wrongly.
    pub fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<Step, Broken>> {
        match self {
            Session::H1(connection) => connection.poll_body(context),
            Session::H2(flow) => flow.poll_body(context).map_err(Broken::from),
        }
    }

    /// Bytes of the body that are there now.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match self {
            Session::H1(connection) => connection.data(),
            Session::H2(flow) => flow.data(),
        }
    }

    /// Says that so many bytes of `data` were used.
    pub fn consume(&mut self, bytes: usize) {
        match self {
            Session::H1(connection) => connection.consume(bytes),
            Session::H2(flow) => flow.consume(bytes),
        }
    }

    /// The trailers of a body that has ended.
    pub fn take_trailers(&mut self) -> Option<Box<Fields>> {
        match self {
            Session::H1(connection) => connection.take_trailers(),
            Session::H2(flow) => flow.take_trailers(),
        }
    }

    /// Whether the incoming message is read to its end.
    #[must_use]
    pub fn is_read(&self) -> bool {
        match self {
            Session::H1(connection) => connection.is_read(),
            Session::H2(flow) => flow.is_read(),
        }
    }

    /// Takes bytes of the outgoing body; waits while the peer does not read.
    ///
    /// # Errors
    /// A broken stream.
    pub fn poll_write_body(&mut self, context: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Broken>> {
        match self {
            Session::H1(connection) => connection.poll_write_body(context, data).map_err(Broken::from),
            Session::H2(flow) => flow.poll_write_body(context, data).map_err(Broken::from),
        }
    }

    /// Ends the outgoing body.
    ///
    /// # Errors
    /// A broken stream.
    pub fn finish(&mut self, trailers: Option<&Fields>) -> Result<(), Broken> {
        match self {
            Session::H1(connection) => {
                connection.finish(trailers);
                Ok(())
            }
            Session::H2(flow) => Ok(flow.finish(trailers)?),
        }
    }

    /// Sends on what waits.
    ///
    /// # Errors
    /// A broken stream.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match self {
            Session::H1(connection) => connection.poll_flush(context).map_err(Broken::from),
            Session::H2(_) => Poll::Ready(Ok(())),
        }
    }

    /// Waits until the peer has gone away or given up.
    pub fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Session::H1(connection) => connection.poll_gone(context),
            Session::H2(flow) => flow.poll_gone(context),
        }
    }

    /// Gives a stream up where that is possible without hurting others; an HTTP/1.1 connection is closed by dropping.
    pub fn reset(&mut self, reason: h2::Reason) {
        if let Session::H2(flow) = self {
            flow.reset(reason);
        }
    }

    /// The whole connection, if this is one.
    pub fn as_h1(&mut self) -> Option<&mut Connection> {
        match self {
            Session::H1(connection) => Some(connection),
            Session::H2(_) => None,
        }
    }
}
