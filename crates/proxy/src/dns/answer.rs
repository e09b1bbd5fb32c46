//! One question to one answer, without I/O.

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use std::net::IpAddr;

/// How long an answer may be kept, in seconds (Istio's).
const TTL: u32 = 30;

/// The most addresses one answer names: more would not fit a datagram, and nobody tries them all.
const MOST_ADDRESSES: usize = 16;

/// The largest answer over UDP to a client that does not say more (RFC 1035 4.2.1).
const UDP_BYTES: usize = 512;

/// Who knows the names of the mesh.
pub trait Names {
    /// The addresses of a name without trailing dot, in lower case; `None` where the mesh does not know it.
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>>;
}

/// What is to be done with a question.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Send this.
    Send(Vec<u8>),
    /// Not ours: ask the machine's resolver; when there is none, send this refusal.
    PassOn {
        /// What to send when nobody can be asked.
        otherwise: Vec<u8>,
    },
    /// It is no question at all: say nothing.
    Ignore,
}

/// Answers one message. `datagram` asks for the limits of UDP.
pub fn answer(packet: &[u8], datagram: bool, names: &dyn Names) -> Reply {
    let Ok(question) = Message::from_vec(packet) else { return Reply::Ignore };
    if question.message_type() != MessageType::Query {
        return Reply::Ignore;
    }
    let refusal = |code| response(&question, code, Vec::new(), datagram);
    let [query] = question.queries() else { return send(refusal(ResponseCode::FormErr)) };
    if question.op_code() != OpCode::Query || query.query_class() != DNSClass::IN {
        return send(refusal(ResponseCode::NotImp));
    }
    let name = query.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
    let Some(addresses) = names.addresses(&name) else {
        // A name within the mesh's own domain is known here or nowhere.
        let code =
            if name.ends_with(".svc.cluster.local") { ResponseCode::NXDomain } else { ResponseCode::Refused };
        let otherwise = refusal(code).unwrap_or_default();
        return if code == ResponseCode::NXDomain {
            Reply::Send(otherwise)
        } else {
            Reply::PassOn { otherwise }
        };
    };
    let records = addresses
        .into_iter()
        .filter_map(|address| match (query.query_type(), address) {
            (RecordType::A | RecordType::ANY, IpAddr::V4(ip)) => Some(RData::A(A(ip))),
            (RecordType::AAAA | RecordType::ANY, IpAddr::V6(ip)) => Some(RData::AAAA(AAAA(ip))),
            _ => None,
        })
        .take(MOST_ADDRESSES)
        .map(|data| Record::from_rdata(query.name().clone(), TTL, data))
        .collect();
    send(response(&question, ResponseCode::NoError, records, datagram))
}

fn send(bytes: Option<Vec<u8>>) -> Reply {
    bytes.map_or(Reply::Ignore, Reply::Send)
}

fn response(question: &Message, code: ResponseCode, records: Vec<Record>, datagram: bool) -> Option<Vec<u8>> {
    let limit = question
        .extensions()
        .as_ref()
        .map_or(UDP_BYTES, |edns| usize::from(edns.max_payload()).max(UDP_BYTES));
    let mut message = Message::new();
    message
        .set_id(question.id())
        .set_message_type(MessageType::Response)
        .set_op_code(question.op_code())
        .set_recursion_desired(question.recursion_desired())
        .set_recursion_available(true)
        .set_response_code(code);
    message.add_queries(question.queries().iter().take(1).cloned());
    message.add_answers(records);
    let bytes = message.to_vec().ok()?;
    if !datagram || bytes.len() <= limit {
        return Some(bytes);
    }
    message.take_answers();
    message.set_truncated(true);
    message.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use hickory_proto::rr::Name;
    use proptest::prelude::*;

    struct Table(Vec<(&'static str, Vec<IpAddr>)>);

    impl Names for Table {
        fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
            self.0.iter().find(|(known, _)| *known == name).map(|(_, addresses)| addresses.clone())
        }
    }

    fn ask(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::new();
        message
            .set_id(7)
            .set_recursion_desired(true)
            .add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    fn table() -> Table {
        Table(vec![
            ("reviews", vec!["10.1.2.3".parse().unwrap(), "fd00::3".parse().unwrap()]),
            ("many", (0..100).map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n])).collect()),
        ])
    }

    fn sent(packet: &[u8]) -> Message {
        match answer(packet, true, &table()) {
            Reply::Send(bytes) => Message::from_vec(&bytes).unwrap(),
            other => panic!("expected an answer, got {other:?}"),
        }
    }

    #[test]
    fn names_of_the_mesh_are_answered_by_family() {
        let v4 = sent(&ask("Reviews.", RecordType::A));
        assert_eq!((v4.id(), v4.answers().len(), v4.response_code()), (7, 1, ResponseCode::NoError));
        assert_eq!(v4.answers()[0].data().ip_addr(), Some("10.1.2.3".parse().unwrap()));
        let v6 = sent(&ask("reviews", RecordType::AAAA));
        assert_eq!(v6.answers()[0].data().ip_addr(), Some("fd00::3".parse().unwrap()));
        let other = sent(&ask("reviews", RecordType::MX));
        assert_eq!((other.answers().len(), other.response_code()), (0, ResponseCode::NoError));
    }

    #[test]
    fn an_answer_that_is_too_long_is_truncated() {
        let many = sent(&ask("many", RecordType::AAAA));
        assert!(many.answers().len() <= MOST_ADDRESSES);
        assert!(many.truncated() == many.answers().is_empty());
    }

    #[test]
    fn other_names_are_passed_on() {
        assert!(matches!(answer(&ask("example.com", RecordType::A), true, &table()), Reply::PassOn { .. }));
        let unknown = sent(&ask("nobody.default.svc.cluster.local", RecordType::A));
        assert_eq!(unknown.response_code(), ResponseCode::NXDomain);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_or_ignored(packet in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = answer(&packet, true, &table());
        }

        #[test]
        fn a_broken_question_is_answered_or_ignored(at in 0_usize..25, byte in any::<u8>()) {
            let mut packet = ask("reviews", RecordType::A);
            let at = at % packet.len();
            packet[at] = byte;
            if let Reply::Send(bytes) = answer(&packet, true, &table()) {
                prop_assert!(Message::from_vec(&bytes).is_ok());
            }
        }
    }
}
