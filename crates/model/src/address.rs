//! Addresses, ports and what is spoken on them.

use crate::NetworkId;
use std::fmt;
use std::net::IpAddr;

/// An address and the network in which it means something.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MeshAddr {
    /// The network.
    pub network: NetworkId,
    /// The address in it.
    pub ip: IpAddr,
}

/// What is spoken on a port, from `appProtocol` or the name of the port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum AppProtocol {
    /// Not declared: the proxy looks at the first bytes, without delaying a server that speaks first.
    #[default]
    Detect,
    /// HTTP/1.x.
    Http1,
    /// HTTP/2, cleartext by prior knowledge.
    Http2,
    /// gRPC.
    Grpc,
    /// Bytes.
    Tcp,
    /// TLS that the application speaks itself.
    Tls,
    /// UDP: known so that it can be named when it is refused.
    Udp,
}

impl AppProtocol {
    /// Whether requests are looked at one by one.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http1 | Self::Http2 | Self::Grpc)
    }
}

impl fmt::Display for AppProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Detect => "detect",
            Self::Http1 => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Udp => "udp",
        })
    }
}

/// A range of addresses: `10.0.0.0/8` or a single address.
pub type Cidr = ipnet::IpNet;
