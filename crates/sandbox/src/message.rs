//! What the supervisor and the holder say to each other: one JSON object per datagram of a `SOCK_SEQPACKET`
//! pair, descriptors beside it (`SCM_RIGHTS`). The supervisor asks with a number, the holder answers with the
//! same number; events come in between.

use std::{net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use lateen_capture::{Error, Rules, refused::Refused};
use serde::{Deserialize, Serialize};

/// A pod to make.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PodSpec {
    /// The pod's name, unique in this sandbox; by convention `name.namespace`.
    pub name: String,
    /// The name that programs in it see as the machine's own; not changed when empty.
    #[serde(default)]
    pub hostname: String,
    /// The pod's addresses, each with the length of the pod network.
    pub addresses: Vec<IpNet>,
    /// How its traffic is redirected; `None` for a pod that has no application (a gateway).
    #[serde(default)]
    pub rules: Option<Rules>,
    /// What its `/etc/resolv.conf` says.
    #[serde(default)]
    pub resolver: Option<Resolver>,
    /// Directories that applications see empty: whoever reaches the mesh's own sockets and keys is whoever it likes.
    /// Nothing is hidden where a pod has no namespaces.
    #[serde(default)]
    pub hidden: Vec<PathBuf>,
}

/// The content of a `resolv.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Where questions go. The redirect catches any address that is not on the loopback.
    pub nameservers: Vec<IpAddr>,
    /// Domains tried behind a short name.
    pub search: Vec<String>,
    /// Names with fewer dots than this are tried with the search domains first.
    pub ndots: u8,
}

impl Resolver {
    /// The Kubernetes rule for a pod of `namespace`: `ndots:5` and three search domains under `cluster_domain`.
    pub fn kubernetes(nameservers: Vec<IpAddr>, namespace: &str, cluster_domain: &str) -> Resolver {
        let search = vec![
            format!("{namespace}.svc.{cluster_domain}"),
            format!("svc.{cluster_domain}"),
            String::from(cluster_domain),
        ];
        Resolver { nameservers, search, ndots: 5 }
    }

    pub(crate) fn to_text(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        for server in &self.nameservers {
            let _ = writeln!(text, "nameserver {server}");
        }
        if !self.search.is_empty() {
            let _ = writeln!(text, "search {}", self.search.join(" "));
        }
        let _ = writeln!(text, "options ndots:{}", self.ndots);
        text
    }
}

/// Whether a process is ours or the user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A proxy of ours: keeps `CAP_NET_ADMIN`, to mark its sockets.
    Proxy,
    /// The user's: no capabilities at all.
    Application,
}

/// A process to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// The program (a path, or a name looked for in `PATH` of `env`) and its arguments.
    pub argv: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub env: Vec<(String, String)>,
    /// The working directory; `/` when absent.
    #[serde(default)]
    pub cwd: Option<PathBuf>,
    /// Which privileges it keeps.
    pub kind: Kind,
}

/// Numbers that the supervisor gives to what it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProcessId(pub u64);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// Whether it ended as programs do that have nothing to complain about.
    pub fn is_success(self) -> bool {
        self == Exit::Code(0)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(f, "{signal}"),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

/// A socket to open inside a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SocketKind {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// Raw frames of the pod's link, for looking at what is on the wire.
    Frames,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) ask: Ask,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Ask {
    /// Makes the bridge's addresses; the first request.
    SetUp {
        addresses: Vec<IpNet>,
    },
    MakePod(PodSpec),
    RemovePod {
        pod: String,
    },
    /// Descriptor `i` beside the request becomes number `descriptors[i]` in the process.
    Spawn {
        process: ProcessId,
        pod: String,
        spec: ProcessSpec,
        descriptors: Vec<i32>,
    },
    /// Sends to the process, or to its whole group.
    Signal {
        process: ProcessId,
        signal: i32,
        group: bool,
    },
    /// With `marked`, the socket carries the mark of our own.
    OpenSocket {
        pod: String,
        socket: SocketKind,
        marked: bool,
    },
    RefusedPackets {
        pod: String,
    },
    Shutdown,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Said {
    /// The namespaces stand; requests may come.
    Ready {
        warnings: Vec<String>,
    },
    /// They do not, and this is why; the holder ends.
    Broken(Error),
    Done {
        id: u64,
        answer: Answer,
    },
    Failed {
        id: u64,
        error: Error,
    },
    Exited {
        process: ProcessId,
        exit: Exit,
    },
    Refused {
        pod: String,
        packets: Vec<Refused>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    Nothing,
    /// What the pod has to do without.
    Pod {
        warnings: Vec<String>,
    },
    /// The process's number as the machine sees it.
    Started {
        pid: i32,
    },
    Socket,
    Packets(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_reads_like_kubernetes() {
        let resolver = Resolver::kubernetes(vec!["198.18.0.1".parse().unwrap()], "shop", "cluster.local");
        assert_eq!(
            resolver.to_text(),
            "nameserver 198.18.0.1\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\n\
             options ndots:5\n"
        );
    }

    #[test]
    fn an_exit_is_told_by_name() {
        assert_eq!(Exit::Signal(9).to_string(), "SIGKILL");
        assert_eq!(Exit::Code(3).to_string(), "exit code 3");
    }
}
