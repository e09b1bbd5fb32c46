//! Add, set, remove; and the headers by which proxies speak of a request: who sent it, which one it is.

use std::net::IpAddr;

use lateen_engine::{ConnectionFacts, Direction};
use lateen_model::HeaderEdit;
use lateen_runtime::random;
use smallvec::SmallVec;

use crate::http::head::{Fields, Known, RequestHead, is_value};

/// Values that were filled in for one request, in the order in which they are used.
#[derive(Debug, Default)]
pub struct Filled {
    text: Vec<u8>,
    ends: SmallVec<[usize; 8]>,
}

impl Filled {
    /// Adds the value that is appended to what is given.
    pub fn push(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        fill(&mut self.text);
        self.ends.push(self.text.len());
    }

    fn values(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.text[start..*end])
    }
}

/// Applies an edit as Envoy was seen to: what is removed comes first, so that the same name can be given anew, then what
/// is set, then what is added; an empty value changes nothing. `filled` has the values that are no plain text. Fields
/// that frame messages and the authority are left alone, and no value can split a head.
pub fn edit(edit: &HeaderEdit, filled: &Filled, fields: &mut Fields) {
    let allowed = |name: &str| {
        let known = Known::of(name.as_bytes());
        !known.is_hop_by_hop() && !matches!(known, Known::ContentLength | Known::Mesh | Known::Host)
    };
    for name in edit.remove.iter().filter(|name| allowed(name)) {
        fields.remove(name.as_bytes());
    }
    let mut filled = filled.values();
    let puts = edit.set.iter().map(|put| (true, put)).chain(edit.add.iter().map(|put| (false, put)));
    for (overwrites, (name, format)) in puts {
        let value = match format.text() {
            Some(text) => text.as_bytes(),
            None => filled.next().unwrap_or_default(),
        };
        if value.is_empty() || !is_value(value) || !allowed(name) {
            continue;
        }
        if overwrites {
            fields.set(name.as_bytes(), value);
        } else {
            fields.add(name.as_bytes(), value);
        }
    }
}

/// Strips what a caller may not say of itself, and says what is known: who it is, by which protocol it came, and which
/// request this is. `client_certificate` is the value for the verified peer.
pub fn sanitize(head: &mut RequestHead, facts: &ConnectionFacts, client_certificate: Option<&str>) {
    let gateway = facts.direction == Direction::Gateway;
    let (mut strip, mut has_id, mut has_proto) = (false, false, false);
    for (known, ..) in head.fields.iter_known() {
        match known {
            Known::Mesh | Known::ForwardedClientCert => strip = true,
            Known::Envoy => strip |= gateway,
            Known::RequestId => has_id = !gateway,
            Known::ForwardedProto => has_proto = !gateway,
            _ => {}
        }
    }
    if strip {
        head.fields.remove_known(|known| match known {
            Known::Mesh | Known::ForwardedClientCert => true,
            Known::Envoy => gateway,
            _ => false,
        });
    }
    if let Some(value) = client_certificate {
        head.fields.add(b"x-forwarded-client-cert", value.as_bytes());
    }
    if !has_proto {
        let proto: &[u8] = if facts.tls { b"https" } else { b"http" };
        head.fields.set_known(Known::ForwardedProto, b"x-forwarded-proto", proto);
    }
    if !has_id {
        head.fields.set_known(Known::RequestId, b"x-request-id", &request_id());
    }
    if gateway {
        append_forwarded_for(head, facts);
    }
}

/// The addresses that a request came through, ours being the last to know one; and the last that we believe, by
/// itself, as Istio's gateways tell it.
fn append_forwarded_for(head: &mut RequestHead, facts: &ConnectionFacts) {
    let mut client = SmallVec::<[u8; 48]>::new();
    push_address(&mut client, facts.client.ip());
    let mut value = SmallVec::<[u8; 128]>::new();
    let said =
        head.fields.iter_known().filter(|(known, _, said)| *known == Known::ForwardedFor && !said.is_empty());
    for (.., said) in said {
        value.extend_from_slice(said);
        value.push(b',');
    }
    value.extend_from_slice(&client);
    head.fields.set_known(Known::ForwardedFor, b"x-forwarded-for", &value);
    // Whatever a caller said under this name was taken away with all of its kind.
    head.fields.set_known(Known::Envoy, b"x-envoy-external-address", &client);
}

/// An address as text. Nearly all are of IPv4, which needs no formatter.
fn push_address(text: &mut SmallVec<[u8; 48]>, address: IpAddr) {
    let IpAddr::V4(address) = address else {
        text.extend_from_slice(address.to_string().as_bytes());
        return;
    };
    for (index, number) in address.octets().into_iter().enumerate() {
        if index > 0 {
            text.push(b'.');
        }
        for (unit, least) in [(100, 100), (10, 10), (1, 0)] {
            if number >= least {
                text.push(b'0' + number / unit % 10);
            }
        }
    }
}

/// A random UUID (version 4).
fn request_id() -> [u8; 36] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random::next_u64().to_be_bytes());
    bytes[8..].copy_from_slice(&random::next_u64().to_be_bytes());
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = b"0123456789abcdef"[usize::from(byte >> 4)];
        text[at + 1] = b"0123456789abcdef"[usize::from(byte & 15)];
        at += 2;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_model::{Format, Str};

    fn facts(direction: Direction) -> ConnectionFacts {
        ConnectionFacts {
            direction,
            client: "10.0.0.9:1".parse().expect("an address"),
            destination: "10.0.0.1:80".parse().expect("an address"),
            destination_host: None,
            peer: None,
            sni: None,
            tls: false,
        }
    }

    fn head(fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        for (name, value) in fields {
            head.fields.add(name.as_bytes(), value.as_bytes());
        }
        head
    }

    fn shown(head: &RequestHead) -> Vec<String> {
        head.fields.iter().map(|(n, v)| format!("{}: {}", n.escape_ascii(), v.escape_ascii())).collect()
    }

    #[test]
    fn callers_cannot_claim_an_identity() {
        let forged = [
            ("X-Forwarded-Client-Cert", "URI=spiffe://forged"),
            ("x-lateen-fault", "x"),
            ("x-request-id", "kept"),
            ("x-forwarded-proto", "https"),
            ("x-envoy-max-retries", "9"),
        ];
        let mut inside = head(&forged);
        sanitize(&mut inside, &facts(Direction::Inbound), Some("URI=spiffe://true"));
        assert_eq!(
            shown(&inside),
            [
                "x-request-id: kept",
                "x-forwarded-proto: https",
                "x-envoy-max-retries: 9",
                "x-forwarded-client-cert: URI=spiffe://true"
            ]
        );
        let mut outside = head(&forged);
        sanitize(&mut outside, &facts(Direction::Gateway), None);
        let id = outside.fields.get("x-request-id").expect("an id").to_vec();
        assert!(id != b"kept" && id.len() == 36, "{}", id.escape_ascii());
        assert_eq!(outside.fields.get("x-forwarded-for"), Some(b"10.0.0.9".as_slice()));
        assert_eq!(outside.fields.get("x-forwarded-proto"), Some(b"http".as_slice()));
        assert_eq!(outside.fields.get("x-envoy-max-retries"), None);
    }

    #[test]
    fn no_address_of_the_way_is_lost() {
        let mut outside = head(&[
            ("x-forwarded-for", "10.1.1.1, 10.1.1.2"),
            ("X-Forwarded-For", "10.1.1.3"),
            ("x-envoy-external-address", "forged"),
        ]);
        sanitize(&mut outside, &facts(Direction::Gateway), None);
        let all = |name: &str| -> Vec<String> {
            let named =
                outside.fields.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()));
            named.map(|(_, value)| value.escape_ascii().to_string()).collect()
        };
        assert_eq!(all("x-forwarded-for"), ["10.1.1.1, 10.1.1.2,10.1.1.3,10.0.0.9"]);
        assert_eq!(all("x-envoy-external-address"), ["10.0.0.9"]);
    }

    #[test]
    fn addresses_are_written_as_everybody_writes_them() {
        for address in ["0.0.0.0", "10.20.3.255", "127.0.0.1", "100.101.9.90", "fd00::1", "::ffff:1.2.3.4"] {
            let mut text = SmallVec::new();
            push_address(&mut text, address.parse().expect("an address"));
            assert_eq!(text.as_slice(), address.as_bytes());
        }
    }

    #[test]
    fn edits_cannot_break_framing_or_split_a_head() {
        let mut request = head(&[("host", "a"), ("content-length", "5"), ("x", "1")]);
        let text = |text: &str| Str::from(text);
        let edits = HeaderEdit {
            set: vec![
                (text("host"), Format::literal("b")),
                (text("x"), Format::literal("2")),
                (text("y"), Format::literal("a\r\nb: c")),
            ],
            add: vec![
                (text("x"), Format::literal("3")),
                (text("transfer-encoding"), Format::literal("chunked")),
            ],
            remove: vec![text("content-length"), text("host")],
        };
        edit(&edits, &Filled::default(), &mut request.fields);
        assert_eq!(shown(&request), ["host: a", "content-length: 5", "x: 2", "x: 3"]);
    }
}
