//! Redirect rules as data: what a pod's traffic meets before it leaves or arrives.
//!
//! The rules follow Istio's in-pod redirection, with one difference: they know our own sockets by the mark
//! 0x539 instead of by a user id, since a rootless pod has only one user.
//!
//! | hook | what | verdict |
//! | --- | --- | --- |
//! | nat output | our own sockets; anything that stays on the loopback (also the pod calling its own address) | accept |
//! | nat output | UDP and TCP to port 53 | redirect to the DNS port |
//! | nat output | excluded ports and networks | accept |
//! | nat output | other TCP | redirect to the outbound port |
//! | nat prerouting | from the loopback; HBONE; excluded ports | accept |
//! | nat prerouting | other TCP | redirect to the inbound port |
//! | filter output | our own sockets, the loopback, TCP, ICMP, what was redirected to us | accept |
//! | filter output | everything else (UDP, SCTP, …) | count, log, refuse as unreachable |
//!
//! What the pod sends is redirected to `127.0.0.1` and `::1`; what arrives, to the pod's own address. The DNS
//! server must therefore answer from sockets bound to the two loopback addresses: from a wildcard socket the
//! kernel would choose another source, and the answer would not be translated back.
//! TCP in excluded ports and networks is not seen by the mesh; UDP there is allowed too.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The mark of our own sockets (`SO_MARK`), as Istio's node proxy uses it.
pub const MARK: u32 = 0x539;

/// How a pod's traffic reaches its sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Where TCP of the application goes.
    pub outbound: u16,
    /// Where TCP for the application goes.
    pub inbound: u16,
    /// The port of tunnels between proxies; never redirected.
    pub hbone: u16,
    /// Where questions to any name server go.
    pub dns: u16,
    /// The mark of sockets that pass untouched.
    pub mark: u32,
    /// Ports of the pod that callers reach directly.
    #[serde(default)]
    pub excluded_inbound: Vec<u16>,
    /// Ports elsewhere that the application reaches directly.
    #[serde(default)]
    pub excluded_outbound: Vec<u16>,
    /// Networks that the application reaches directly.
    #[serde(default)]
    pub excluded_networks: Vec<IpNet>,
    /// The group (`NFLOG`) that hears of refused packets; none: they are counted only.
    #[serde(default)]
    pub refused_group: Option<u16>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            outbound: 15001,
            inbound: 15006,
            hbone: 15008,
            dns: 15053,
            mark: MARK,
            excluded_inbound: Vec::new(),
            excluded_outbound: Vec::new(),
            excluded_networks: Vec::new(),
            refused_group: Some(crate::refused::GROUP),
        }
    }
}

/// Where a chain hangs in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Destinations of what the pod sends.
    NatOutput,
    /// Destinations of what arrives.
    NatPrerouting,
    /// What the pod sends, after redirection.
    FilterOutput,
}

/// One condition on a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// The packet is from a socket with this mark.
    Mark(u32),
    /// The packet leaves through the loopback.
    ToLoopback,
    /// The packet came through the loopback.
    FromLoopback,
    /// The packet is of this transport.
    Protocol(Transport),
    /// The packet goes to this port (of the transport matched before).
    Port(u16),
    /// The packet goes to this network.
    Network(IpNet),
    /// The connection was redirected to a port of ours.
    Redirected,
}

/// Transports that rules tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP for IPv4.
    Icmp,
    /// ICMP for IPv6, which neighbour discovery needs.
    Icmpv6,
}

/// What happens to a packet that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Passes as it is.
    Accept,
    /// Goes to this port of the pod itself.
    Redirect(u16),
    /// Counted, told to the group, and answered with "port unreachable".
    Refuse {
        /// The `NFLOG` group.
        group: Option<u16>,
    },
}

/// Conditions that must all hold, and the verdict then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All of these.
    pub matches: Vec<Match>,
    /// Then this.
    pub verdict: Verdict,
}

/// Rules that are tried in order; a packet that none fits passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Where it hangs.
    pub hook: Hook,
    /// Its rules.
    pub rules: Vec<Rule>,
}

impl Rules {
    /// The chains that do what these rules say.
    pub fn chains(&self) -> Vec<Chain> {
        vec![
            Chain { hook: Hook::NatOutput, rules: self.nat_output() },
            Chain { hook: Hook::NatPrerouting, rules: self.nat_prerouting() },
            Chain { hook: Hook::FilterOutput, rules: self.filter_output() },
        ]
    }

    fn nat_output(&self) -> Vec<Rule> {
        let mut rules = self.own();
        for transport in [Transport::Udp, Transport::Tcp] {
            let matches = vec![Match::Protocol(transport), Match::Port(53)];
            rules.push(Rule { matches, verdict: Verdict::Redirect(self.dns) });
        }
        rules.extend(self.excluded());
        let matches = vec![Match::Protocol(Transport::Tcp)];
        rules.push(Rule { matches, verdict: Verdict::Redirect(self.outbound) });
        rules
    }

    fn nat_prerouting(&self) -> Vec<Rule> {
        let mut rules = vec![accept(vec![Match::FromLoopback])];
        for port in std::iter::once(&self.hbone).chain(&self.excluded_inbound) {
            rules.push(accept(vec![Match::Protocol(Transport::Tcp), Match::Port(*port)]));
        }
        let matches = vec![Match::Protocol(Transport::Tcp)];
        rules.push(Rule { matches, verdict: Verdict::Redirect(self.inbound) });
        rules
    }

    fn filter_output(&self) -> Vec<Rule> {
        let mut rules = self.own();
        for transport in [Transport::Tcp, Transport::Icmp, Transport::Icmpv6] {
            rules.push(accept(vec![Match::Protocol(transport)]));
        }
        rules.push(accept(vec![Match::Redirected]));
        rules.extend(self.excluded());
        rules.push(Rule { matches: vec![], verdict: Verdict::Refuse { group: self.refused_group } });
        rules
    }

    fn own(&self) -> Vec<Rule> {
        vec![accept(vec![Match::Mark(self.mark)]), accept(vec![Match::ToLoopback])]
    }

    fn excluded(&self) -> impl Iterator<Item = Rule> {
        let ports = self.excluded_outbound.iter().flat_map(|port| {
            [Transport::Tcp, Transport::Udp]
                .map(|transport| accept(vec![Match::Protocol(transport), Match::Port(*port)]))
        });
        let networks = self.excluded_networks.iter().map(|network| accept(vec![Match::Network(*network)]));
        ports.chain(networks)
    }
}

fn accept(matches: Vec<Match>) -> Rule {
    Rule { matches, verdict: Verdict::Accept }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for condition in &self.matches {
            match condition {
                Match::Mark(mark) => write!(f, "mark {mark:#x} ")?,
                Match::ToLoopback => write!(f, "oif lo ")?,
                Match::FromLoopback => write!(f, "iif lo ")?,
                Match::Protocol(transport) => write!(f, "{transport:?} ")?,
                Match::Port(port) => write!(f, "dport {port} ")?,
                Match::Network(network) => write!(f, "daddr {network} ")?,
                Match::Redirected => write!(f, "ct status dnat ")?,
            }
        }
        match self.verdict {
            Verdict::Accept => write!(f, "accept"),
            Verdict::Redirect(port) => write!(f, "redirect to :{port}"),
            Verdict::Refuse { group: Some(group) } => write!(f, "counter log group {group} reject"),
            Verdict::Refuse { group: None } => write!(f, "counter reject"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(hook: Hook, rules: &Rules) -> Vec<String> {
        let chains = rules.chains();
        let chain = chains.iter().find(|chain| chain.hook == hook).unwrap();
        chain.rules.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn own_sockets_and_the_loopback_pass_before_any_redirect() {
        let rules = Rules { excluded_outbound: vec![9999], ..Rules::default() };
        assert_eq!(
            shown(Hook::NatOutput, &rules),
            [
                "mark 0x539 accept",
                "oif lo accept",
                "Udp dport 53 redirect to :15053",
                "Tcp dport 53 redirect to :15053",
                "Tcp dport 9999 accept",
                "Udp dport 9999 accept",
                "Tcp redirect to :15001",
            ]
        );
    }

    #[test]
    fn tunnels_arrive_as_they_are() {
        assert_eq!(
            shown(Hook::NatPrerouting, &Rules::default()),
            ["iif lo accept", "Tcp dport 15008 accept", "Tcp redirect to :15006"]
        );
    }

    #[test]
    fn what_is_not_named_is_refused() {
        let shown = shown(Hook::FilterOutput, &Rules::default());
        assert_eq!(shown.last().unwrap(), "counter log group 1337 reject");
    }
}
