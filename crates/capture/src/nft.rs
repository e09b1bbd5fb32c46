//! Rules to nftables: one batch of netlink messages that the kernel takes whole or not at all
//! (`include/uapi/linux/netfilter/nf_tables.h`). Everything lies in the table `inet lateen` of the calling
//! thread's network namespace; installing replaces what was there.

mod expression;

use nix::errno::Errno;

use self::expression::Program;
use crate::{
    Error, Rules,
    netlink::{ACK, APPEND, AttributeReader, Attributes, CREATE, Connection, Message},
    rules::{Chain, Hook},
};

const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NEW_OBJECT: u16 = SUBSYSTEM | 18;
const GET_OBJECT: u16 = SUBSYSTEM | 19;

const FAMILY_INET: u8 = 1;
const TABLE: &str = "lateen";
/// The counter of refused packets.
const REFUSED: &str = "refused";
const OBJECT_COUNTER: u32 = 1;

/// Installs `rules`, replacing any table of ours. A kernel that cannot log to a group gets the same rules
/// without the log; the returned value says whether refused packets are told to the group.
pub fn install(rules: &Rules) -> Result<bool, Error> {
    let mut connection = open()?;
    match connection.request(&batch(rules)) {
        Err(error) if rules.refused_group.is_some() && error.is_unsupported() => {
            let quiet = Rules { refused_group: None, ..rules.clone() };
            connection.request(&batch(&quiet)).map(|()| false)
        }
        other => other.map(|()| rules.refused_group.is_some()),
    }
}

/// Takes our table away; that there is none is no error.
pub fn remove() -> Result<(), Error> {
    let delete = message("nft delete table", DELETE_TABLE, ACK, table_name());
    match open()?.request(&enclosed(vec![delete])) {
        Err(error) if error.errno == Errno::ENOENT as i32 => Ok(()),
        other => other,
    }
}

/// How many packets were refused since the rules stand.
pub fn refused_packets() -> Result<u64, Error> {
    const NAME: u16 = 2;
    const TYPE: u16 = 3;
    let which = Attributes::default().text(1, TABLE).text(NAME, REFUSED).network(TYPE, OBJECT_COUNTER);
    let payloads = open()?.exchange(&[message("nft get counter", GET_OBJECT, ACK, which)])?;
    let packets = payloads.iter().find_map(|payload| read_counter(payload.get(4..)?));
    packets.ok_or_else(|| Error::new("nft get counter", Errno::EBADMSG as i32))
}

fn read_counter(attributes: &[u8]) -> Option<u64> {
    const DATA: u16 = 4;
    const PACKETS: u16 = 2;
    let (_, data) = AttributeReader(attributes).find(|(kind, _)| *kind == DATA)?;
    let (_, packets) = AttributeReader(data).find(|(kind, _)| *kind == PACKETS)?;
    Some(u64::from_be_bytes(packets.try_into().ok()?))
}

fn open() -> Result<Connection, Error> {
    Connection::open(Some(rustix::net::netlink::NETFILTER), "NETLINK_NETFILTER")
}

fn batch(rules: &Rules) -> Vec<Message> {
    // Making the table first lets the deletion succeed whether or not there was one.
    let mut messages = vec![
        message("nft add table inet lateen", NEW_TABLE, CREATE, table_name()),
        message("nft delete table inet lateen", DELETE_TABLE, 0, table_name()),
        message("nft add table inet lateen", NEW_TABLE, CREATE, table_name()),
        message("nft add counter refused", NEW_OBJECT, CREATE, counter()),
    ];
    for chain in rules.chains() {
        messages.push(new_chain(&chain));
        for rule in &chain.rules {
            let program = Program::of(rule);
            let attributes = Attributes::default()
                .text(1, TABLE)
                .text(2, chain_name(chain.hook))
                .nested(4, program.into_attributes());
            let what = format!("nft add rule {} {rule}", chain_name(chain.hook));
            messages.push(message(what, NEW_RULE, CREATE | APPEND, attributes));
        }
    }
    let last = messages.last_mut().expect("a batch is never empty");
    last.flags |= ACK;
    enclosed(messages)
}

fn enclosed(messages: Vec<Message>) -> Vec<Message> {
    let mark = |what, kind| Message {
        what: String::from(what),
        kind,
        flags: 0,
        // The batch names its subsystem in network order.
        header: vec![0, 0, 0, 10],
        attributes: Attributes::default(),
    };
    let mut all = vec![mark("nft batch begin", BATCH_BEGIN)];
    all.extend(messages);
    all.push(mark("nft batch end", BATCH_END));
    all
}

fn message(what: impl Into<String>, kind: u16, flags: u16, attributes: Attributes) -> Message {
    Message { what: what.into(), kind, flags, header: vec![FAMILY_INET, 0, 0, 0], attributes }
}

fn table_name() -> Attributes {
    Attributes::default().text(1, TABLE)
}

fn counter() -> Attributes {
    let data = Attributes::default().bytes(1, &0u64.to_be_bytes()).bytes(2, &0u64.to_be_bytes());
    Attributes::default().text(1, TABLE).text(2, REFUSED).network(3, OBJECT_COUNTER).nested(4, data)
}

fn new_chain(chain: &Chain) -> Message {
    const NAT_PRIORITY: i32 = -100;
    let (kind, number, priority) = match chain.hook {
        Hook::NatOutput => ("nat", 3, NAT_PRIORITY),
        Hook::NatPrerouting => ("nat", 0, NAT_PRIORITY),
        Hook::FilterOutput => ("filter", 3, 0),
    };
    let hook = Attributes::default().network(1, number).bytes(2, &priority.to_be_bytes());
    let name = chain_name(chain.hook);
    let attributes = Attributes::default().text(1, TABLE).text(3, name).nested(4, hook).text(7, kind);
    message(format!("nft add chain {name} type {kind}"), NEW_CHAIN, CREATE, attributes)
}

fn chain_name(hook: Hook) -> &'static str {
    match hook {
        Hook::NatOutput => "nat-output",
        Hook::NatPrerouting => "nat-prerouting",
        Hook::FilterOutput => "filter-output",
    }
}
