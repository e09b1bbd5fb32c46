//! `Format`: the text of a header value, with variables that are filled in for each request.

use crate::Str;
use std::fmt;

/// A header value as written: text, and variables in Envoy's notation (`%REQ(x-user)%`, `%%` for a percent sign).
/// Parsed once; a value without variables is one piece of text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Format {
    source: Str,
    /// Whether the source is text as it is, in which a percent sign means itself (Gateway API).
    literal: bool,
    pieces: Box<[Piece]>,
}

/// A part of a format.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    /// Text as it is.
    Text(Str),
    /// Filled in for each request; the text is cut to so many characters.
    Variable(Variable, Option<usize>),
}

/// What can be filled in (Envoy's command operators that say something of a request, its caller and its endpoint).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Variable {
    /// `%REQ(name?other)%`: a request header or pseudo-header, else the other.
    Request(Str, Option<Str>),
    /// `%RESP(name?other)%`: a response header, else the other.
    Response(Str, Option<Str>),
    /// `%PROTOCOL%`: `HTTP/1.1` or `HTTP/2`.
    Protocol,
    /// `%DOWNSTREAM_REMOTE_ADDRESS%`, `%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%`: the caller's address with its port.
    DownstreamRemoteAddress,
    /// The same without the port.
    DownstreamRemoteAddressWithoutPort,
    /// `%DOWNSTREAM_REMOTE_PORT%`.
    DownstreamRemotePort,
    /// `%DOWNSTREAM_LOCAL_ADDRESS%`: where the caller meant to go.
    DownstreamLocalAddress,
    /// The same without the port.
    DownstreamLocalAddressWithoutPort,
    /// `%DOWNSTREAM_LOCAL_PORT%`.
    DownstreamLocalPort,
    /// `%DOWNSTREAM_PEER_URI_SAN%`: the caller's SPIFFE id.
    DownstreamPeerUriSan,
    /// `%DOWNSTREAM_LOCAL_URI_SAN%`: the proxy's own SPIFFE id.
    DownstreamLocalUriSan,
    /// `%DOWNSTREAM_TLS_VERSION%`: `TLSv1.3`, `-` for plaintext.
    DownstreamTlsVersion,
    /// `%REQUESTED_SERVER_NAME%`: the SNI.
    RequestedServerName,
    /// `%UPSTREAM_HOST%`: the endpoint's address with its port.
    UpstreamHost,
    /// `%UPSTREAM_CLUSTER%`: `outbound|port|subset|host`.
    UpstreamCluster,
    /// `%ROUTE_NAME%`.
    RouteName,
    /// `%HOSTNAME%`: the name of the proxy's own workload.
    Hostname,
    /// `%START_TIME%`: when the request came, RFC 3339 with milliseconds.
    StartTime,
    /// `%DURATION%`: milliseconds since then.
    Duration,
    /// `%RESPONSE_CODE%`.
    ResponseCode,
    /// `%RESPONSE_FLAGS%`.
    ResponseFlags,
    /// `%RESPONSE_CODE_DETAILS%`.
    ResponseCodeDetails,
    /// `%BYTES_RECEIVED%`: body bytes of the request so far.
    BytesReceived,
    /// `%UPSTREAM_REQUEST_ATTEMPT_COUNT%`.
    AttemptCount,
}

/// A format that cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFormat {
    /// A percent sign that begins nothing.
    #[error("a `%` begins a variable; write `%%` for a percent sign")]
    Percent,
    /// A variable that is not known.
    #[error("the variable %{0}% is not known")]
    Unknown(String),
    /// A variable with wrong arguments.
    #[error("the variable %{0}% is not complete")]
    Arguments(String),
}

/// Variables without arguments, by their names; the first name of a variable is the one written.
const PLAIN: &[(&str, Variable)] = &[
    ("PROTOCOL", Variable::Protocol),
    ("DOWNSTREAM_REMOTE_ADDRESS", Variable::DownstreamRemoteAddress),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Variable::DownstreamRemoteAddress),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Variable::DownstreamRemoteAddressWithoutPort),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", Variable::DownstreamRemoteAddressWithoutPort),
    ("DOWNSTREAM_REMOTE_PORT", Variable::DownstreamRemotePort),
    ("DOWNSTREAM_DIRECT_REMOTE_PORT", Variable::DownstreamRemotePort),
    ("DOWNSTREAM_LOCAL_ADDRESS", Variable::DownstreamLocalAddress),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Variable::DownstreamLocalAddressWithoutPort),
    ("DOWNSTREAM_LOCAL_PORT", Variable::DownstreamLocalPort),
    ("DOWNSTREAM_PEER_URI_SAN", Variable::DownstreamPeerUriSan),
    ("DOWNSTREAM_LOCAL_URI_SAN", Variable::DownstreamLocalUriSan),
    ("DOWNSTREAM_TLS_VERSION", Variable::DownstreamTlsVersion),
    ("REQUESTED_SERVER_NAME", Variable::RequestedServerName),
    ("UPSTREAM_HOST", Variable::UpstreamHost),
    ("UPSTREAM_REMOTE_ADDRESS", Variable::UpstreamHost),
    ("UPSTREAM_CLUSTER", Variable::UpstreamCluster),
    ("ROUTE_NAME", Variable::RouteName),
    ("HOSTNAME", Variable::Hostname),
    ("START_TIME", Variable::StartTime),
    ("DURATION", Variable::Duration),
    ("RESPONSE_CODE", Variable::ResponseCode),
    ("RESPONSE_FLAGS", Variable::ResponseFlags),
    ("RESPONSE_CODE_DETAILS", Variable::ResponseCodeDetails),
    ("BYTES_RECEIVED", Variable::BytesReceived),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Variable::AttemptCount),
];

impl Format {
    /// Text as it is, in which a percent sign means itself.
    pub fn literal(text: impl Into<Str>) -> Self {
        let source: Str = text.into();
        Self { pieces: [Piece::Text(source.clone())].into(), literal: true, source }
    }

    /// Reads Envoy's notation.
    ///
    /// # Errors
    /// When a percent sign begins nothing that is known.
    pub fn parse(text: &str) -> Result<Self, InvalidFormat> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                plain.push('%');
                rest = after;
                continue;
            }
            let (inside, after) = split_variable(after).ok_or(InvalidFormat::Percent)?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
            }
            pieces.push(variable(inside)?);
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(Self { source: text.into(), literal: false, pieces: pieces.into() })
    }

    /// The names that stand between percent signs, for those who misspelt one.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PLAIN.iter().map(|(name, _)| *name).chain(["REQ", "RESP"])
    }

    /// As it was written.
    pub fn source(&self) -> &Str {
        &self.source
    }

    /// Whether the source is text as it is.
    pub fn is_literal(&self) -> bool {
        self.literal
    }

    /// The parts, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The whole text, when nothing has to be filled in.
    pub fn text(&self) -> Option<&Str> {
        match &*self.pieces {
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// What stands before the closing percent sign; one inside parentheses does not close.
fn split_variable(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0u32;
    let end = text.bytes().position(|byte| {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        byte == b'%' && depth == 0
    })?;
    Some((&text[..end], &text[end + 1..]))
}

fn variable(inside: &str) -> Result<Piece, InvalidFormat> {
    let incomplete = || InvalidFormat::Arguments(inside.chars().take(64).collect());
    let Some((name, arguments)) = inside.split_once('(') else {
        let found = PLAIN.iter().find(|(name, _)| *name == inside);
        let (_, variable) = found.ok_or_else(|| InvalidFormat::Unknown(inside.chars().take(64).collect()))?;
        return Ok(Piece::Variable(variable.clone(), None));
    };
    let (argument, longest) = arguments.split_once(')').ok_or_else(incomplete)?;
    let longest = match longest {
        "" => None,
        text => Some(text.strip_prefix(':').and_then(|text| text.parse().ok()).ok_or_else(incomplete)?),
    };
    let (first, other) =
        argument.split_once('?').map_or((argument, None), |(first, other)| (first, Some(other)));
    let lower = |name: &str| Str::from(name.trim().to_ascii_lowercase());
    if first.trim().is_empty() || other.is_some_and(|other| other.trim().is_empty()) {
        return Err(incomplete());
    }
    let variable = match name {
        "REQ" => Variable::Request(lower(first), other.map(lower)),
        "RESP" => Variable::Response(lower(first), other.map(lower)),
        _ => return Err(InvalidFormat::Unknown(name.chars().take(64).collect())),
    };
    Ok(Piece::Variable(variable, longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_variables() {
        let text = |text: &str| Piece::Text(text.into());
        let request = |name: &str, other: Option<&str>, longest| {
            Piece::Variable(Variable::Request(name.into(), other.map(Str::from)), longest)
        };
        for (source, pieces) in [
            ("plain", vec![text("plain")]),
            ("", vec![text("")]),
            ("100%%", vec![text("100%")]),
            ("%PROTOCOL%", vec![Piece::Variable(Variable::Protocol, None)]),
            ("a%REQ(X-User)%b", vec![text("a"), request("x-user", None, None), text("b")]),
            ("%REQ(:authority?host):3%", vec![request(":authority", Some("host"), Some(3))]),
        ] {
            assert_eq!(Format::parse(source).unwrap().pieces(), pieces, "{source}");
        }
        for (source, error) in [
            ("50%", InvalidFormat::Percent),
            ("%NO_SUCH%", InvalidFormat::Unknown("NO_SUCH".into())),
            ("%NO(x)%", InvalidFormat::Unknown("NO".into())),
            ("%REQ()%", InvalidFormat::Arguments("REQ()".into())),
            ("%REQ(x):y%", InvalidFormat::Arguments("REQ(x):y".into())),
        ] {
            assert_eq!(Format::parse(source), Err(error), "{source}");
        }
        assert_eq!(Format::literal("50%").text().map(Str::as_str), Some("50%"));
    }
}
