//! The field names that the proxy acts on, recognised once, when a head is read.

/// A field name that something in the proxy asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Known {
    /// Any other name.
    #[default]
    Other,
    /// `authorization`
    Authorization,
    /// `connection`
    Connection,
    /// `content-length`
    ContentLength,
    /// `content-type`
    ContentType,
    /// `cookie`
    Cookie,
    /// `expect`
    Expect,
    /// `grpc-status`
    GrpcStatus,
    /// `grpc-timeout`
    GrpcTimeout,
    /// `host`
    Host,
    /// `http2-settings`
    Http2Settings,
    /// `keep-alive`
    KeepAlive,
    /// Any name that begins with `x-lateen-`: spoken between our proxies only.
    Mesh,
    /// `proxy-connection`
    ProxyConnection,
    /// `te`
    Te,
    /// `trailer`
    Trailer,
    /// `transfer-encoding`
    TransferEncoding,
    /// `upgrade`
    Upgrade,
    /// `user-agent`
    UserAgent,
    /// `x-envoy-upstream-rq-timeout-ms` and its kin: a caller may not set the timeouts and retries of the mesh.
    Envoy,
    /// `x-forwarded-client-cert`
    ForwardedClientCert,
    /// `x-forwarded-for`
    ForwardedFor,
    /// `x-forwarded-proto`
    ForwardedProto,
    /// `x-request-id`
    RequestId,
}

impl Known {
    /// Recognises a name in any case.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => Known::Te,
            4 if is("host") => Known::Host,
            6 if is("expect") => Known::Expect,
            6 if is("cookie") => Known::Cookie,
            7 if is("upgrade") => Known::Upgrade,
            7 if is("trailer") => Known::Trailer,
            10 if is("connection") => Known::Connection,
            10 if is("user-agent") => Known::UserAgent,
            10 if is("keep-alive") => Known::KeepAlive,
            11 if is("grpc-status") => Known::GrpcStatus,
            12 if is("content-type") => Known::ContentType,
            12 if is("x-request-id") => Known::RequestId,
            12 if is("grpc-timeout") => Known::GrpcTimeout,
            13 if is("authorization") => Known::Authorization,
            14 if is("content-length") => Known::ContentLength,
            14 if is("http2-settings") => Known::Http2Settings,
            15 if is("x-forwarded-for") => Known::ForwardedFor,
            16 if is("proxy-connection") => Known::ProxyConnection,
            17 if is("transfer-encoding") => Known::TransferEncoding,
            17 if is("x-forwarded-proto") => Known::ForwardedProto,
            23 if is("x-forwarded-client-cert") => Known::ForwardedClientCert,
            _ if begins_with(name, "x-lateen-") => Known::Mesh,
            _ if begins_with(name, "x-envoy-") => Known::Envoy,
            _ => Known::Other,
        }
    }

    /// Fields of one connection only, which no proxy may send on (RFC 9110 section 7.6.1).
    #[must_use]
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Known::Connection
                | Known::KeepAlive
                | Known::ProxyConnection
                | Known::Te
                | Known::TransferEncoding
                | Known::Upgrade
                | Known::Http2Settings
        )
    }

    /// Fields that a `connection` field may not name away: dropping them would change what the message means.
    #[must_use]
    pub fn is_end_to_end(self) -> bool {
        matches!(
            self,
            Known::Authorization
                | Known::ContentLength
                | Known::ContentType
                | Known::Cookie
                | Known::Expect
                | Known::GrpcStatus
                | Known::Host
                | Known::Mesh
                | Known::ForwardedClientCert
                | Known::ForwardedFor
                | Known::ForwardedProto
                | Known::RequestId
        )
    }
}

fn begins_with(name: &[u8], prefix: &str) -> bool {
    name.len() >= prefix.len() && name[..prefix.len()].eq_ignore_ascii_case(prefix.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        for (name, expected) in [
            ("Content-Length", Known::ContentLength),
            ("TRANSFER-ENCODING", Known::TransferEncoding),
            ("X-Lateen-Peer", Known::Mesh),
            ("x-envoy-max-retries", Known::Envoy),
            ("hos", Known::Other),
            ("", Known::Other),
        ] {
            assert_eq!(Known::of(name.as_bytes()), expected, "{name}");
        }
    }
}
