//! Variables in header values, filled in as Envoy fills them: what is not known is empty (a port or a count that is not
//! known is none at all), flags are `-` where there are none, and a status that has not come is 0.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use lateen_engine::{ConnectionFacts, Direction, Effective};
use lateen_model::{Format, Piece, Variable, Viewer};
use lateen_runtime::clock::Clock;

use crate::http::head::{Fields, RequestHead, ResponseHead};
use crate::observe::line::rfc3339;

/// What variables are filled from, at one moment of an exchange.
pub struct Scene<'a> {
    /// Whose proxy this is.
    pub viewer: &'a Viewer,
    /// The caller's connection.
    pub facts: &'a ConnectionFacts,
    /// What its TLS is, if it is any.
    pub tls_version: &'static str,
    /// The request as it is now.
    pub request: &'a RequestHead,
    /// The answer, once it has come.
    pub response: Option<&'a ResponseHead>,
    /// How the request is treated.
    pub effective: &'a Effective,
    /// The endpoint that was asked, once one was.
    pub endpoint: Option<SocketAddr>,
    /// How often one was asked.
    pub attempts: u32,
    /// Since the request came.
    pub duration: Duration,
    /// Bytes of its body so far.
    pub received: u64,
    /// Envoy's response flags.
    pub flags: &'static str,
    /// `response_code_details`, once there are any.
    pub details: &'a str,
}

/// Appends the filled format.
pub fn fill(format: &Format, scene: &Scene<'_>, out: &mut Vec<u8>) {
    for piece in format.pieces() {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Variable(variable, longest) => {
                let start = out.len();
                scene.fill(variable, out);
                if let Some(longest) = longest {
                    out.truncate(start.saturating_add(*longest).min(out.len()));
                }
            }
        }
    }
}

impl Scene<'_> {
    fn fill(&self, variable: &Variable, out: &mut Vec<u8>) {
        let facts = self.facts;
        match variable {
            Variable::Request(name, other) => {
                let value = self.of_request(name).or_else(|| self.of_request(other.as_deref()?));
                out.extend_from_slice(value.unwrap_or_default());
            }
            Variable::Response(name, other) => {
                let value = self.of_response(name).or_else(|| self.of_response(other.as_deref()?));
                out.extend_from_slice(value.unwrap_or_default());
            }
            Variable::Protocol => text(out, self.request.version.as_str()),
            Variable::DownstreamRemoteAddress => show(out, facts.client),
            Variable::DownstreamRemoteAddressWithoutPort => show(out, facts.client.ip()),
            Variable::DownstreamRemotePort => show(out, facts.client.port()),
            Variable::DownstreamLocalAddress => show(out, facts.destination),
            Variable::DownstreamLocalAddressWithoutPort => show(out, facts.destination.ip()),
            Variable::DownstreamLocalPort => show(out, facts.destination.port()),
            Variable::DownstreamPeerUriSan => {
                facts.peer.iter().for_each(|peer| show(out, peer));
            }
            Variable::DownstreamLocalUriSan if facts.peer.is_some() => show(out, &self.viewer.identity),
            // Towards this caller the proxy has shown nobody.
            Variable::DownstreamLocalUriSan => {}
            Variable::DownstreamTlsVersion => text(out, self.tls_version),
            Variable::RequestedServerName => text(out, facts.sni.as_deref().unwrap_or_default()),
            Variable::UpstreamHost => self.endpoint.iter().for_each(|endpoint| show(out, endpoint)),
            Variable::UpstreamCluster => self.cluster(out),
            Variable::RouteName => text(out, &self.effective.route_name),
            Variable::Hostname => text(out, &self.viewer.name),
            Variable::StartTime => {
                let mut began = String::new();
                rfc3339(
                    &mut began,
                    Clock::system().wall().checked_sub(self.duration).unwrap_or(std::time::UNIX_EPOCH),
                );
                text(out, &began);
            }
            Variable::Duration => show(out, self.duration.as_millis()),
            Variable::ResponseCode => show(out, self.response.map_or(0, |response| response.status)),
            Variable::ResponseFlags => text(out, self.flags),
            Variable::ResponseCodeDetails => text(out, self.details),
            Variable::BytesReceived => show(out, self.received),
            Variable::AttemptCount => show(out, self.attempts.max(1)),
        }
    }

    fn of_request(&self, name: &str) -> Option<&[u8]> {
        let request = self.request;
        match name {
            ":authority" | "host" => Some(request.authority().as_bytes()),
            ":path" => Some(request.target().as_bytes()),
            ":method" => Some(request.method().as_bytes()),
            ":scheme" => Some(if self.facts.tls { b"https" } else { b"http" }),
            name => named(&request.fields, name),
        }
    }

    fn of_response(&self, name: &str) -> Option<&[u8]> {
        named(&self.response?.fields, name)
    }

    /// As Istio names them.
    fn cluster(&self, out: &mut Vec<u8>) {
        let Effective { port, service, subset, .. } = self.effective;
        match (&self.facts.direction, service) {
            (Direction::Inbound, _) => show(out, format_args!("inbound|{port}||")),
            (_, None) => {}
            (_, Some(service)) => {
                let subset = subset.as_deref().unwrap_or_default();
                show(out, format_args!("outbound|{port}|{subset}|{}", service.hostname));
            }
        }
    }
}

/// The first value, as Envoy takes it.
fn named<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    fields.get(name).filter(|value| !value.is_empty())
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn show(out: &mut Vec<u8>, value: impl fmt::Display) {
    struct Bytes<'a>(&'a mut Vec<u8>);
    impl fmt::Write for Bytes<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }
    // Writing to memory cannot fail.
    let _ = write!(Bytes(out), "{value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_model::{
        AppProtocol, Hostname, Identity, Labels, Namespace, NetworkId, NodeName, ProxyRole, ServiceAccount,
        ServiceId, TrustDomain,
    };

    fn identity(name: &str) -> Identity {
        let account = ServiceAccount::parse(name).expect("a name");
        Identity::new(TrustDomain::default(), Namespace::default(), account)
    }

    fn service() -> ServiceId {
        let hostname = Hostname::parse("web.example").expect("a name");
        ServiceId { namespace: Namespace::default(), hostname }
    }

    /// Every variable, of a request over mTLS that was answered, and of one in plaintext that was not.
    #[test]
    fn variables() {
        let viewer = Viewer {
            role: ProxyRole::Gateway,
            name: "edge-0".into(),
            identity: identity("edge"),
            labels: Labels::default(),
            node: NodeName::default(),
            network: NetworkId::default(),
        };
        let known = ConnectionFacts {
            direction: Direction::Gateway,
            client: "10.0.0.9:1234".parse().expect("an address"),
            destination: "[fd00::1]:443".parse().expect("an address"),
            destination_host: None,
            peer: Some(std::sync::Arc::new(identity("front"))),
            sni: Some("shop.example".into()),
            tls: true,
        };
        let plain = ConnectionFacts { peer: None, sni: None, tls: false, ..known.clone() };
        let mut request = RequestHead::default();
        request.set_authority("shop.example:8443");
        request.set_target("/a?b");
        for value in ["one", "two"] {
            request.fields.add(b"X-Many", value.as_bytes());
        }
        request.fields.add(b"x-empty", b"");
        let mut response = ResponseHead { status: 404, ..ResponseHead::default() };
        response.fields.add(b"Server", b"app");
        let effective = Effective {
            route_name: "shop.r".into(),
            service: Some(service()),
            port: 80,
            subset: Some("v1".into()),
            protocol: AppProtocol::Http1,
            ..Effective::default()
        };
        let answered = Scene {
            viewer: &viewer,
            facts: &known,
            tls_version: "TLSv1.3",
            request: &request,
            response: Some(&response),
            effective: &effective,
            endpoint: Some("10.1.0.1:8080".parse().expect("an address")),
            attempts: 2,
            duration: Duration::from_micros(12_900),
            received: 7,
            flags: "UT",
            details: "via_upstream",
        };
        let asked = Scene {
            facts: &plain,
            tls_version: "",
            response: None,
            endpoint: None,
            attempts: 0,
            duration: Duration::ZERO,
            received: 0,
            flags: "-",
            details: "",
            ..answered
        };
        for (format, when_answered, when_asked) in [
            ("%REQ(x-many)%", "one", "one"),
            ("%REQ(X-None?x-many):2%", "on", "on"),
            ("%REQ(x-empty?x-many)%", "one", "one"),
            (
                "%REQ(:authority)% %REQ(host)%",
                "shop.example:8443 shop.example:8443",
                "shop.example:8443 shop.example:8443",
            ),
            ("%REQ(:path)% %REQ(:scheme)%", "/a?b https", "/a?b http"),
            ("a%REQ(none)%b", "ab", "ab"),
            ("%RESP(server)%", "app", ""),
            ("%RESP(none?server)%", "app", ""),
            ("%PROTOCOL%", "HTTP/1.1", "HTTP/1.1"),
            ("%DOWNSTREAM_REMOTE_ADDRESS%", "10.0.0.9:1234", "10.0.0.9:1234"),
            ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.9", "10.0.0.9"),
            ("%DOWNSTREAM_REMOTE_PORT%", "1234", "1234"),
            ("%DOWNSTREAM_LOCAL_ADDRESS%", "[fd00::1]:443", "[fd00::1]:443"),
            ("%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "fd00::1", "fd00::1"),
            ("%DOWNSTREAM_LOCAL_PORT%", "443", "443"),
            ("%DOWNSTREAM_PEER_URI_SAN%", "spiffe://cluster.local/ns/default/sa/front", ""),
            ("%DOWNSTREAM_LOCAL_URI_SAN%", "spiffe://cluster.local/ns/default/sa/edge", ""),
            ("%DOWNSTREAM_TLS_VERSION%", "TLSv1.3", ""),
            ("%REQUESTED_SERVER_NAME%", "shop.example", ""),
            ("%UPSTREAM_HOST%", "10.1.0.1:8080", ""),
            ("%UPSTREAM_CLUSTER%", "outbound|80|v1|web.example", "outbound|80|v1|web.example"),
            ("%ROUTE_NAME%", "shop.r", "shop.r"),
            ("%HOSTNAME%", "edge-0", "edge-0"),
            ("%DURATION%", "12", "0"),
            ("%RESPONSE_CODE%", "404", "0"),
            ("%RESPONSE_FLAGS%", "UT", "-"),
            ("%RESPONSE_CODE_DETAILS%", "via_upstream", ""),
            ("%BYTES_RECEIVED%", "7", "0"),
            ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "2", "1"),
            ("100%%", "100%", "100%"),
        ] {
            let parsed = Format::parse(format).expect("a format");
            for (scene, expected) in [(&answered, when_answered), (&asked, when_asked)] {
                let mut out = Vec::new();
                fill(&parsed, scene, &mut out);
                assert_eq!(String::from_utf8_lossy(&out), expected, "{format}");
            }
        }
        let mut began = Vec::new();
        fill(&Format::parse("%START_TIME%").expect("a format"), &asked, &mut began);
        let shape = |byte: &u8| if byte.is_ascii_digit() { '0' } else { *byte as char };
        assert_eq!(began.iter().map(shape).collect::<String>(), "0000-00-00T00:00:00.000Z");
    }
}
