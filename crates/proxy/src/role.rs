//! The one table of what roles differ in: where a proxy listens.
//!
//! | role | captured | plain |
//! | --- | --- | --- |
//! | sidecar | 15001 on the two loopback addresses: what the application sends. 15006 on all: what comes in plaintext. 15008 on all: tunnels. 15053 on the two loopback addresses, TCP and UDP: names | tunnels, the workload's ports, an address for each service, an HTTP proxy |
//! | gateway | what the resources say | the same |
//!
//! Redirection on the way out leads to the loopback, so nobody else can reach those listeners. Names are answered from
//! sockets bound to exactly these addresses, or the kernel would not translate the answers back.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use foldhash::fast::RandomState;
use lateen_model::ProxyRole;

use crate::config::{Bootstrap, CapturePorts, InvalidBootstrap, Plain};
use crate::enter::Door;

/// Who accepts from a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Every worker from a socket of its own; the kernel spreads connections.
    EachWorker,
    /// One worker for all, which hands each connection to the one that has fewest.
    FewestOpen,
}

/// One TCP listener.
#[derive(Clone)]
pub struct Listening {
    /// What it is called in logs and pages.
    pub name: &'static str,
    /// Where.
    pub at: SocketAddr,
    /// What for.
    pub door: Door,
    /// Who accepts.
    pub sharing: Sharing,
}

/// Everything that a proxy listens on.
#[derive(Clone, Default)]
pub struct Listeners {
    /// TCP, known from the start.
    pub tcp: Vec<Listening>,
    /// Names, over UDP and TCP.
    pub dns: Vec<SocketAddr>,
    /// Whether more come and go with the resources (a gateway).
    pub by_resources: bool,
    /// Where the application really listens, by the workload's port.
    pub local_ports: HashMap<u16, SocketAddr, RandomState>,
}

/// Loopback and wildcard addresses, IPv4 first.
const LOOPBACKS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
const WILDCARDS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

impl Listeners {
    /// What a proxy with this bootstrap listens on.
    ///
    /// # Errors
    /// A role that does not exist, or that cannot be played yet.
    pub fn of(bootstrap: &Bootstrap) -> Result<Self, InvalidBootstrap> {
        match bootstrap.role()? {
            ProxyRole::Gateway => Ok(Self { by_resources: true, ..Self::default() }),
            ProxyRole::Sidecar => {
                let captured = bootstrap.capture.as_ref().map(captured);
                let plain = bootstrap.plain.as_ref().map(plain);
                captured.or(plain).ok_or(InvalidBootstrap::NoListeners)
            }
            role @ (ProxyRole::Waypoint | ProxyRole::Node) => Err(InvalidBootstrap::NotPlayed(role.as_str())),
        }
    }
}

/// On one port of several addresses.
fn on(
    addresses: [IpAddr; 2],
    port: u16,
    name: &'static str,
    door: &Door,
    sharing: Sharing,
) -> [Listening; 2] {
    addresses.map(|address| Listening {
        name,
        at: SocketAddr::new(address, port),
        door: door.clone(),
        sharing,
    })
}

fn captured(ports: &CapturePorts) -> Listeners {
    let tcp = [
        on(LOOPBACKS, ports.outbound, "outbound", &Door::Outbound, Sharing::EachWorker),
        on(WILDCARDS, ports.inbound, "inbound", &Door::Inbound, Sharing::EachWorker),
        on(WILDCARDS, ports.hbone, "hbone", &Door::Hbone, Sharing::FewestOpen),
    ];
    let dns = LOOPBACKS.map(|address| SocketAddr::new(address, ports.dns));
    Listeners { tcp: tcp.into_iter().flatten().collect(), dns: dns.into(), ..Listeners::default() }
}

fn plain(plain: &Plain) -> Listeners {
    let each = |name, at, door| Listening { name, at, door, sharing: Sharing::EachWorker };
    let mut tcp =
        vec![Listening { name: "hbone", at: plain.hbone, door: Door::Hbone, sharing: Sharing::FewestOpen }];
    for inbound in &plain.inbound {
        tcp.push(each("inbound", inbound.listen, Door::Port { port: inbound.listen.port() }));
    }
    for outbound in &plain.outbound {
        let door = Door::Service { host: outbound.host.to_ascii_lowercase().into(), port: outbound.port };
        tcp.push(each("outbound", outbound.listen, door));
    }
    if let Some(at) = plain.http_proxy {
        tcp.push(each("http-proxy", at, Door::Proxy));
    }
    let local_ports = plain.inbound.iter().map(|inbound| (inbound.listen.port(), inbound.forward)).collect();
    Listeners { tcp, local_ports, ..Listeners::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners(rest: &str) -> Result<String, String> {
        let text = format!(
            r#"{{"name":"cart-0","namespace":"shop","control":{{"from":"files","resources":"r.yaml"}},{rest}}}"#
        );
        let bootstrap = Bootstrap::parse(text.as_bytes()).expect("a bootstrap");
        let listeners = Listeners::of(&bootstrap).map_err(|error| error.to_string())?;
        let tcp = listeners.tcp.iter().map(|listening| format!("{} {}", listening.name, listening.at));
        let dns = listeners.dns.iter().map(|at| format!("dns {at}"));
        let ports = listeners.local_ports.iter().map(|(port, at)| format!("{port} is {at}"));
        let more = listeners.by_resources.then(|| "by resources".to_owned());
        Ok(tcp.chain(dns).chain(ports).chain(more).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn each_role_listens_where_it_must() {
        assert_eq!(
            listeners(r#""role":"sidecar","capture":{}"#).unwrap(),
            "outbound 127.0.0.1:15001, outbound [::1]:15001, inbound 0.0.0.0:15006, inbound [::]:15006, \
             hbone 0.0.0.0:15008, hbone [::]:15008, dns 127.0.0.1:15053, dns [::1]:15053"
        );
        assert_eq!(listeners(r#""role":"gateway""#).unwrap(), "by resources");
        let plain = r#""role":"sidecar","plain":{"hbone":"127.64.4.0:15008","httpProxy":"127.64.4.0:15001",
            "inbound":[{"listen":"127.64.4.0:80","forward":"127.0.0.1:4711"}],
            "outbound":[{"listen":"127.64.4.1:9080","host":"Reviews","port":9080}]}"#;
        assert_eq!(
            listeners(plain).unwrap(),
            "hbone 127.64.4.0:15008, inbound 127.64.4.0:80, outbound 127.64.4.1:9080, \
             http-proxy 127.64.4.0:15001, 80 is 127.0.0.1:4711"
        );
        assert!(listeners(r#""role":"sidecar""#).unwrap_err().contains("capture"));
        assert!(listeners(r#""role":"waypoint""#).unwrap_err().contains("waypoint"));
    }
}
