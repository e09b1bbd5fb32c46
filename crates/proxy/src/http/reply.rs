//! Answers that are made here: denials, faults, refused heads; for gRPC as a status in the trailers' place.

use lateen_engine::Denial;

use super::grpc_web::{self, Coding};
use super::head::{Framing, Known, RequestHead, ResponseHead};
use crate::fault::{Fault, Reason};

/// What the answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The status; for gRPC what it corresponds to.
    pub status: u16,
    /// Text for the caller.
    pub body: &'a str,
    /// What a caller of gRPC is told, where the status does not say it.
    pub grpc_status: Option<u16>,
}

impl Reply<'static> {
    /// To a request that was denied. The reason is in our log; the caller learns no more than it must.
    #[must_use]
    pub fn denial(denial: &Denial) -> Self {
        let body = match denial.status() {
            403 => "RBAC: access denied",
            404 => "no route matches",
            413 => "payload too large",
            429 => "rate limited",
            431 => "request header fields too large",
            421 => "misdirected request",
            502 => "destination is not declared in the mesh",
            503 => "no healthy upstream",
            _ => "the backend of the route does not exist",
        };
        Self { status: denial.status(), body, grpc_status: None }
    }

    /// To a request that went wrong.
    #[must_use]
    pub fn fault(fault: &Fault) -> Self {
        let status = fault.status();
        let body = match status {
            400 => "bad request",
            403 => "RBAC: access denied",
            408 => "request timeout",
            413 => "payload too large",
            502 => "upstream protocol error",
            504 => "upstream request timeout",
            _ if fault.reason == Reason::Overload => {
                "upstream connect error or disconnect/reset before headers. reset reason: overflow"
            }
            _ => "upstream connect error or disconnect/reset before headers",
        };
        Self { status, body, grpc_status: None }
    }
}

/// Fills `response` with the head; the second value is whether `reply.body` is its body.
pub fn head(reply: Reply<'_>, request: &RequestHead, response: &mut ResponseHead) -> bool {
    response.clear();
    response.persistent = true;
    if is_grpc(request) {
        response.status = 200;
        let content_type = request.fields.known(Known::ContentType).unwrap_or_default();
        match request.grpc_web.or_else(|| grpc_web::content_type(content_type).map(|(coding, _)| coding)) {
            None => response.fields.add(b"content-type", b"application/grpc"),
            Some(Coding::Binary) => response.fields.add(b"content-type", b"application/grpc-web+proto"),
            Some(Coding::Text) => response.fields.add(b"content-type", b"application/grpc-web-text+proto"),
        }
        response.fields.add(
            b"grpc-status",
            reply.grpc_status.unwrap_or_else(|| grpc_status(reply.status)).to_string().as_bytes(),
        );
        response.fields.add(b"grpc-message", &grpc_message(reply.body));
        response.framing = Framing::None;
        return false;
    }
    response.status = reply.status;
    response.fields.add(b"content-type", b"text/plain");
    response.framing = Framing::Length(reply.body.len() as u64);
    true
}

/// A message as `grpc-message` carries it: printable ASCII, the rest and the percent sign escaped (PROTOCOL-HTTP2.md).
fn grpc_message(text: &str) -> Vec<u8> {
    let mut message = Vec::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => message.push(byte),
            _ => message.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    message
}

/// Whether a request is gRPC or gRPC-Web, by its content type.
#[must_use]
pub fn is_grpc(request: &RequestHead) -> bool {
    request.fields.known(Known::ContentType).is_some_and(|value| {
        let rest = value.strip_prefix(b"application/grpc".as_slice());
        let native = rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')));
        native || rest.is_some() && grpc_web::content_type(value).is_some()
    })
}

/// The gRPC status that an HTTP status stands for (grpc/doc/http-grpc-status-mapping.md).
#[must_use]
pub fn grpc_status(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 => 14,
        504 => 4,
        _ => 2,
    }
}

/// The HTTP status that a gRPC status is told by to a caller that speaks no gRPC (google/rpc/code.proto).
#[must_use]
pub fn http_status(grpc: u16) -> u16 {
    match grpc {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_message_never_ends_a_header() {
        assert_eq!(grpc_message("50 % \r\nx: y \u{e9}"), b"50 %25 %0D%0Ax: y %C3%A9");
    }
}
