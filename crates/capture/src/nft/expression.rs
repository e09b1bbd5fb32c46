//! One rule as the kernel's small program: expressions that load a field into a register, compare it, and end
//! in a verdict. Register 1 is the only one that rules of ours need.

use std::net::IpAddr;

use super::REFUSED;
use crate::{
    netlink::Attributes,
    rules::{Match, Rule, Transport, Verdict},
};

const REGISTER: u32 = 1;

/// Expressions in order.
#[derive(Default)]
pub(super) struct Program(Attributes);

impl Program {
    pub(super) fn of(rule: &Rule) -> Program {
        let program = rule.matches.iter().fold(Program::default(), Program::matching);
        match rule.verdict {
            Verdict::Accept => program.accept(),
            Verdict::Redirect(port) => program.redirect(port),
            Verdict::Refuse { group } => program.refuse(group),
        }
    }

    pub(super) fn into_attributes(self) -> Attributes {
        self.0
    }

    fn matching(self, condition: &Match) -> Program {
        const META_MARK: u32 = 3;
        const META_INPUT: u32 = 4;
        const META_OUTPUT: u32 = 5;
        const META_TRANSPORT: u32 = 16;
        const LOOPBACK: [u8; 4] = 1u32.to_ne_bytes();
        match condition {
            Match::Mark(mark) => self.meta(META_MARK).equals(&mark.to_ne_bytes()),
            Match::ToLoopback => self.meta(META_OUTPUT).equals(&LOOPBACK),
            Match::FromLoopback => self.meta(META_INPUT).equals(&LOOPBACK),
            Match::Protocol(transport) => self.meta(META_TRANSPORT).equals(&[number(*transport)]),
            Match::Port(port) => self.payload(TRANSPORT_HEADER, 2, 2).equals(&port.to_be_bytes()),
            Match::Network(network) => self.network(*network),
            Match::Redirected => self.redirected(),
        }
    }

    fn network(self, network: ipnet::IpNet) -> Program {
        const META_FAMILY: u32 = 15;
        let (family, offset, address, mask) = match (network.network(), network.netmask()) {
            (IpAddr::V4(address), IpAddr::V4(mask)) => {
                (2, 16, address.octets().to_vec(), mask.octets().to_vec())
            }
            (address, mask) => (10, 24, bytes_of_v6(address), bytes_of_v6(mask)),
        };
        let length = u32::try_from(address.len()).expect("4 or 16");
        self.meta(META_FAMILY)
            .equals(&[family])
            .payload(NETWORK_HEADER, offset, length)
            .masked(&mask)
            .equals(&address)
    }

    /// The connection has its destination changed (`IPS_DST_NAT`), and only rules of ours do that here.
    fn redirected(self) -> Program {
        const KEY_STATUS: u32 = 2;
        const DESTINATION_CHANGED: u32 = 1 << 5;
        self.expression("ct", Attributes::default().network(1, REGISTER).network(2, KEY_STATUS))
            .masked(&DESTINATION_CHANGED.to_ne_bytes())
            .compared(NOT_EQUAL, &[0; 4])
    }

    fn accept(self) -> Program {
        const ACCEPT: u32 = 1;
        let verdict = Attributes::default().network(1, ACCEPT);
        let data = Attributes::default().nested(2, verdict);
        self.expression("immediate", Attributes::default().network(1, 0).nested(2, data))
    }

    fn redirect(self, port: u16) -> Program {
        let value = Attributes::default().bytes(1, &port.to_be_bytes());
        self.expression("immediate", Attributes::default().network(1, REGISTER).nested(2, value))
            .expression("redir", Attributes::default().network(1, REGISTER))
    }

    fn refuse(self, group: Option<u16>) -> Program {
        const TYPE_ANY_FAMILY: u32 = 2;
        const PORT_UNREACHABLE: u8 = 1;
        const HEADERS: u32 = 64;
        let counter = Attributes::default().network(1, super::OBJECT_COUNTER).text(2, REFUSED);
        let mut program = self.expression("objref", counter);
        if let Some(group) = group {
            let log = Attributes::default().bytes(1, &group.to_be_bytes()).network(3, HEADERS);
            program = program.expression("log", log);
        }
        let reject = Attributes::default().network(1, TYPE_ANY_FAMILY).bytes(2, &[PORT_UNREACHABLE]);
        program.expression("reject", reject)
    }

    fn meta(self, key: u32) -> Program {
        self.expression("meta", Attributes::default().network(1, REGISTER).network(2, key))
    }

    fn payload(self, base: u32, offset: u32, length: u32) -> Program {
        let load =
            Attributes::default().network(1, REGISTER).network(2, base).network(3, offset).network(4, length);
        self.expression("payload", load)
    }

    fn masked(self, mask: &[u8]) -> Program {
        let length = u32::try_from(mask.len()).expect("4 or 16");
        let operation = Attributes::default()
            .network(1, REGISTER)
            .network(2, REGISTER)
            .network(3, length)
            .nested(4, Attributes::default().bytes(1, mask))
            .nested(5, Attributes::default().bytes(1, &vec![0; mask.len()]));
        self.expression("bitwise", operation)
    }

    fn equals(self, value: &[u8]) -> Program {
        self.compared(EQUAL, value)
    }

    fn compared(self, operator: u32, value: &[u8]) -> Program {
        let data = Attributes::default().bytes(1, value);
        self.expression(
            "cmp",
            Attributes::default().network(1, REGISTER).network(2, operator).nested(3, data),
        )
    }

    fn expression(self, name: &str, data: Attributes) -> Program {
        let expression = Attributes::default().text(1, name).nested(2, data);
        Program(self.0.nested(1, expression))
    }
}

const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// The protocol number of IANA.
fn number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
        Transport::Icmp => 1,
        Transport::Icmpv6 => 58,
    }
}

fn bytes_of_v6(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
