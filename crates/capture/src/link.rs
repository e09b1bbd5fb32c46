//! Links of a pod: a bridge, veth pairs whose one end lies in another namespace, addresses and routes
//! (rtnetlink, `include/uapi/linux/{if_link,if_addr,rtnetlink}.h`). Acts on the namespace of the thread that
//! opened the [`Links`].

use std::{
    net::IpAddr,
    os::fd::{AsFd, AsRawFd},
};

use ipnet::IpNet;
use nix::{errno::Errno, net::if_::if_nametoindex};

use crate::{
    During, Error,
    netlink::{ACK, Attributes, CREATE, Connection, EXCLUSIVE, Message},
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;

const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_BR_MCAST_SNOOPING: u16 = 23;
const VETH_INFO_PEER: u16 = 1;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;

const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;

/// The number of a link inside one namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkIndex(u32);

impl LinkIndex {
    /// The number itself.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// The loopback has number 1 in every namespace (`LOOPBACK_IFINDEX`).
pub const LOOPBACK: LinkIndex = LinkIndex(1);

/// A connection to the kernel about the links of one namespace.
pub struct Links(Connection);

impl Links {
    /// Opens the connection in the calling thread's namespace.
    pub fn open() -> Result<Links, Error> {
        // rtnetlink is protocol 0, which is also "none named".
        Connection::open(None, "NETLINK_ROUTE").map(Links)
    }

    /// The number of the link called `name`, in the calling thread's namespace.
    pub fn index(&self, name: &str) -> Result<LinkIndex, Error> {
        if_nametoindex(name).map(LinkIndex).during(format!("if_nametoindex({name})"))
    }

    /// Makes a bridge, up at once. It floods multicast, so that neighbour discovery needs no querier.
    pub fn add_bridge(&mut self, name: &str) -> Result<LinkIndex, Error> {
        let data = Attributes::default().bytes(IFLA_BR_MCAST_SNOOPING, &[0]);
        let information = Attributes::default().text(IFLA_INFO_KIND, "bridge").nested(IFLA_INFO_DATA, data);
        let attributes = Attributes::default().text(IFLA_IFNAME, name).nested(IFLA_LINKINFO, information);
        self.new_link(format!("link add {name} type bridge"), CREATE | EXCLUSIVE, 0, true, attributes)?;
        self.index(name)
    }

    /// Makes a veth pair: `name` here, as a port of `bridge` and up; `peer` in the namespace `netns`, down.
    pub fn add_veth(
        &mut self,
        name: &str,
        bridge: LinkIndex,
        peer: &str,
        netns: impl AsFd,
    ) -> Result<(), Error> {
        let descriptor =
            u32::try_from(netns.as_fd().as_raw_fd()).expect("an open descriptor is not negative");
        let far = Attributes::default().text(IFLA_IFNAME, peer).native(IFLA_NET_NS_FD, descriptor);
        let far = [&link_header(0, false)[..], far.as_slice()].concat();
        let data = Attributes::default().bytes(VETH_INFO_PEER | 0x8000, &far);
        let information = Attributes::default().text(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_DATA, data);
        let attributes = Attributes::default()
            .text(IFLA_IFNAME, name)
            .native(IFLA_MASTER, bridge.0)
            .nested(IFLA_LINKINFO, information);
        self.new_link(
            format!("link add {name} type veth peer {peer}"),
            CREATE | EXCLUSIVE,
            0,
            true,
            attributes,
        )
    }

    /// Takes a link away; a veth pair goes with either of its ends. One that is gone already is no error.
    pub fn remove(&mut self, name: &str) -> Result<(), Error> {
        let attributes = Attributes::default().text(IFLA_IFNAME, name);
        let what = format!("link del {name}");
        let header = link_header(0, false);
        match self.0.request(&[Message { what, kind: RTM_DELLINK, flags: ACK, header, attributes }]) {
            Err(error) if error.errno == Errno::ENODEV as i32 => Ok(()),
            other => other,
        }
    }

    /// Brings a link up.
    pub fn set_up(&mut self, link: LinkIndex) -> Result<(), Error> {
        self.new_link(format!("link set #{} up", link.0), 0, link.0, true, Attributes::default())
    }

    /// Gives `link` an address with the length of its network; usable at once, without duplicate detection.
    pub fn add_address(&mut self, link: LinkIndex, address: IpNet) -> Result<(), Error> {
        let bytes = address_bytes(address.addr());
        let flags = if address.addr().is_ipv6() { IFA_F_NODAD } else { 0 };
        let attributes = Attributes::default()
            .bytes(IFA_LOCAL, &bytes)
            .bytes(IFA_ADDRESS, &bytes)
            .native(IFA_FLAGS, flags);
        let mut header = vec![family(address.addr()), address.prefix_len(), flags as u8, 0];
        header.extend_from_slice(&link.0.to_ne_bytes());
        let what = format!("addr add {address} dev #{}", link.0);
        let flags = ACK | CREATE | EXCLUSIVE;
        self.0.request(&[Message { what, kind: RTM_NEWADDR, flags, header, attributes }])
    }

    /// Sends everything that no nearer route takes over `link` to `gateway`.
    pub fn add_default_route(&mut self, link: LinkIndex, gateway: IpAddr) -> Result<(), Error> {
        let attributes =
            Attributes::default().bytes(RTA_GATEWAY, &address_bytes(gateway)).native(RTA_OIF, link.0);
        let header = vec![family(gateway), 0, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST, 0, 0, 0, 0];
        let what = format!("route add default via {gateway} dev #{}", link.0);
        let flags = ACK | CREATE | EXCLUSIVE;
        self.0.request(&[Message { what, kind: RTM_NEWROUTE, flags, header, attributes }])
    }

    fn new_link(
        &mut self,
        what: String,
        flags: u16,
        index: u32,
        up: bool,
        attributes: Attributes,
    ) -> Result<(), Error> {
        let header = link_header(index, up);
        self.0.request(&[Message { what, kind: RTM_NEWLINK, flags: flags | ACK, header, attributes }])
    }
}

/// `struct ifinfomsg`: family, type, index, flags, and which of the flags to change.
fn link_header(index: u32, up: bool) -> Vec<u8> {
    const IFF_UP: u32 = 1;
    let flags = if up { IFF_UP } else { 0 };
    let mut header = vec![0; 4];
    header.extend_from_slice(&index.to_ne_bytes());
    header.extend_from_slice(&flags.to_ne_bytes());
    header.extend_from_slice(&flags.to_ne_bytes());
    header
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc_family::INET } else { libc_family::INET6 }
}

/// The two address families as the kernel numbers them.
mod libc_family {
    pub(super) const INET: u8 = 2;
    pub(super) const INET6: u8 = 10;
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
