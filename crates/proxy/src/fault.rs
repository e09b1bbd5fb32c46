//! `Fault`: what went wrong on the path, said once, at the place that knows.
//!
//! Who is at fault decides the answer, the flag in logs and metrics, and whether another endpoint may be asked.

use std::borrow::Cow;
use std::fmt;

/// Whose doing it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The one who sent us the request or opened the connection.
    Downstream,
    /// The one we sent it to, or the way there.
    Upstream,
    /// A limit or a decision of our own.
    Proxy,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No connection was made: refused, unreachable, or the far proxy could not reach its application.
    ConnectFailure,
    /// No connection was made in time.
    ConnectTimeout,
    /// TLS failed, or the peer is not who must answer.
    TlsFailure,
    /// The far proxy refused the tunnel by policy (HBONE 401).
    TunnelDenied,
    /// We have no certificate to show.
    NoCertificate,
    /// The connection ended or was reset before a complete response.
    Reset,
    /// HTTP/2 said that the request was not processed.
    RefusedStream,
    /// What came is no valid message.
    Protocol,
    /// The request took longer than its route allows.
    Timeout,
    /// One try took longer than its share.
    PerTryTimeout,
    /// Nothing moved for too long.
    IdleTimeout,
    /// The head or the body of the request came too slowly.
    SlowRequest,
    /// The caller went away.
    Gone,
    /// A limit on connections or requests.
    Overload,
    /// A body is longer than a policy allows.
    TooLarge,
    /// The route aborts on purpose.
    Injected,
    /// A connection is as old as it may become.
    Expired,
    /// The process is ending.
    Draining,
}

/// Whether the request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Retry {
    /// No.
    Never,
    /// Only if sending it twice means the same as sending it once.
    IfIdempotent,
    /// Yes: no application has seen a byte of it.
    Safe,
}

/// What went wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Whose doing.
    pub origin: Origin,
    /// What.
    pub reason: Reason,
    /// May it be tried again.
    pub retry: Retry,
    /// For humans: the failing step, the address, the cause, a hint.
    pub message: Cow<'static, str>,
}

impl Fault {
    /// Towards the endpoint, before the application saw anything.
    pub fn connect(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { origin: Origin::Upstream, reason, retry: Retry::Safe, message: message.into() }
    }

    /// From the endpoint, after the request was sent.
    pub fn upstream(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { origin: Origin::Upstream, reason, retry: Retry::IfIdempotent, message: message.into() }
    }

    /// From the caller.
    pub fn downstream(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { origin: Origin::Downstream, reason, retry: Retry::Never, message: message.into() }
    }

    /// By a limit of ours.
    pub fn proxy(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self { origin: Origin::Proxy, reason, retry: Retry::Never, message: message.into() }
    }

    /// The same, with another answer to whether it may be tried again.
    #[must_use]
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// Whether it speaks against the endpoint that was tried: it gave no answer, or no valid one, or not in time.
    #[must_use]
    pub fn blames_endpoint(&self) -> bool {
        match self.reason {
            Reason::Timeout | Reason::PerTryTimeout => true,
            Reason::IdleTimeout => self.origin != Origin::Downstream,
            Reason::ConnectFailure
            | Reason::ConnectTimeout
            | Reason::TlsFailure
            | Reason::Reset
            | Reason::RefusedStream
            | Reason::Protocol => self.origin == Origin::Upstream,
            _ => false,
        }
    }

    /// Envoy's response flag.
    #[must_use]
    pub fn flag(&self) -> &'static str {
        match (self.origin, self.reason) {
            (Origin::Downstream, Reason::Protocol) => "DPE",
            (_, Reason::TooLarge) => "-",
            (_, Reason::Injected) => "FI",
            (Origin::Downstream, Reason::SlowRequest | Reason::IdleTimeout) => "SI",
            (Origin::Downstream, _) => "DC",
            (
                _,
                Reason::ConnectFailure | Reason::ConnectTimeout | Reason::TlsFailure | Reason::NoCertificate,
            ) => "UF",
            (_, Reason::TunnelDenied) => "UAEX",
            (_, Reason::Reset) => "UC",
            (_, Reason::RefusedStream) => "UR",
            (_, Reason::Protocol) => "UPE",
            (_, Reason::Timeout | Reason::PerTryTimeout) => "UT",
            (_, Reason::IdleTimeout | Reason::SlowRequest) => "SI",
            (_, Reason::Overload) => "UO",
            (_, Reason::Expired) => "DT",
            (_, Reason::Gone) => "DC",
            (_, Reason::Draining) => "DR",
        }
    }

    /// `response_code_details`: a stable name.
    #[must_use]
    pub fn details(&self) -> &'static str {
        match (self.origin, self.reason) {
            (Origin::Downstream, Reason::Protocol) => "http.invalid_request",
            (Origin::Downstream, Reason::TooLarge) => "request_payload_too_large",
            (_, Reason::TooLarge) => "response_payload_too_large",
            (_, Reason::Injected) => "fault_filter_abort",
            (Origin::Downstream, Reason::SlowRequest) => "request_timeout",
            (Origin::Downstream, Reason::IdleTimeout) => "downstream_idle_timeout",
            (Origin::Downstream, _) => "downstream_remote_disconnect",
            (_, Reason::ConnectFailure) => "upstream_reset_before_response_started{connection_failure}",
            (_, Reason::ConnectTimeout) => "upstream_reset_before_response_started{connection_timeout}",
            (_, Reason::TlsFailure) => "upstream_reset_before_response_started{tls_failure}",
            (_, Reason::NoCertificate) => "no_workload_certificate",
            (_, Reason::TunnelDenied) => "tunnel_denied_by_destination",
            (_, Reason::Reset) => "upstream_reset_before_response_started{connection_termination}",
            (_, Reason::RefusedStream) => "upstream_reset_before_response_started{refused_stream}",
            (_, Reason::Protocol) => "upstream_protocol_error",
            (_, Reason::Timeout) => "response_timeout",
            (_, Reason::PerTryTimeout) => "upstream_per_try_timeout",
            (_, Reason::IdleTimeout) => "stream_idle_timeout",
            (_, Reason::SlowRequest) => "request_timeout",
            (_, Reason::Overload) => "upstream_reset_before_response_started{overflow}",
            (_, Reason::Expired) => "max_duration_timeout",
            (_, Reason::Gone) => "downstream_remote_disconnect",
            (_, Reason::Draining) => "draining",
        }
    }

    /// The status that answers a request that ended so.
    #[must_use]
    pub fn status(&self) -> u16 {
        match (self.origin, self.reason) {
            (Origin::Downstream, Reason::SlowRequest | Reason::IdleTimeout) => 408,
            (Origin::Downstream, Reason::TooLarge) => 413,
            (Origin::Downstream, _) => 400,
            (_, Reason::TooLarge) => 502,
            (_, Reason::Timeout | Reason::PerTryTimeout | Reason::IdleTimeout) => 504,
            (_, Reason::Protocol) => 502,
            (_, Reason::TunnelDenied) => 403,
            _ => 503,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}
