//! The answering end of the broker: what a pod's sidecar cannot reach from its own network is opened here, in
//! the machine's, and handed in.
//!
//! Each sidecar has a pair of its own, so the supervisor knows who asks without being told. A pod may connect
//! to whatever the machine may, except to the machine's own loopback (where control sockets of the user's other
//! programs listen); the bridge's address stands for the machine where a pod wants just that.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use ipnet::IpNet;
use lateen_runtime::broker::{Answer, Ask, BrokerSocket, Request};
use nix::errno::Errno;
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};

/// Requests of one pod that are worked on at once; more of them wait.
const MOST_REQUESTS: usize = 256;
/// Ports that the machine refuses are published this much higher.
const UNPRIVILEGED: u16 = 8000;

/// What one pod may ask for.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Whether it is a gateway, which may listen on the machine.
    pub gateway: bool,
    /// Where gateways listen.
    pub publish_at: IpAddr,
    /// Addresses that stand for the machine itself: the bridge's.
    pub host: Vec<IpAddr>,
    /// Networks that exist only inside the sandbox; nothing outside is to be mistaken for them.
    pub inside: Vec<IpNet>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// Where the machine's name servers stand.
    pub resolv_conf: PathBuf,
}

impl Policy {
    /// The rule for a pod whose bridge has these addresses.
    pub fn new(gateway: bool, bridge: &[IpNet], inside: Vec<IpNet>) -> Policy {
        Policy {
            gateway,
            publish_at: Ipv4Addr::LOCALHOST.into(),
            host: bridge.iter().map(IpNet::addr).collect(),
            inside,
            connect_timeout: Duration::from_secs(10),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

/// The broker of one pod. It outlives the pod's sidecars, so that a gateway that is started again is found
/// where it was.
#[derive(Debug)]
pub struct Broker {
    policy: Policy,
    published: Mutex<HashMap<u16, SocketAddr>>,
}

impl Broker {
    /// A broker that grants what `policy` says.
    pub fn new(policy: Policy) -> Arc<Broker> {
        Arc::new(Broker { policy, published: Mutex::default() })
    }

    /// Where each port that the pod asked for was published last.
    pub fn published(&self) -> Vec<(u16, SocketAddr)> {
        let mut all: Vec<_> = self.lock().iter().map(|(port, address)| (*port, *address)).collect();
        all.sort_unstable();
        all
    }

    /// Answers until the sidecar closes its end, which is the other one of the pair that `socket` is of.
    ///
    /// # Errors
    /// When the socket fails; nonsense from the sidecar is only logged.
    pub async fn serve(self: Arc<Self>, socket: OwnedFd) -> io::Result<()> {
        let socket = BrokerSocket::new(socket)?;
        let room = Arc::new(Semaphore::new(MOST_REQUESTS));
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            let permit = Arc::clone(&room).acquire_owned().await.expect("the semaphore is never closed");
            let request = match socket.next().await {
                Ok(Some(request)) => request,
                Ok(None) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::debug!(%error, "a sidecar asked for nonsense");
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error),
            };
            let (broker, socket) = (Arc::clone(&self), socket.clone());
            tasks.spawn(async move {
                broker.answer(&socket, request).await;
                drop(permit);
            });
            while tasks.try_join_next().is_some() {}
        }
    }

    async fn answer(&self, socket: &BrokerSocket, Request { id, ask }: Request) {
        let granted = match ask {
            Ask::Connect(address) => self.connect(address).await.map(|granted| (granted, None)),
            Ask::Listen { port } => self.listen(port).map(|(granted, published)| (granted, Some(published))),
            Ask::Resolver {} => self.resolver().map(|granted| (granted, None)),
        };
        let answered = match &granted {
            Ok((granted, published)) => {
                socket.answer(&Answer::granted(id, *published), Some(granted.as_fd())).await
            }
            Err(error) => socket.answer(&Answer::refused(id, error), None).await,
        };
        if let Err(error) = answered {
            tracing::debug!(%error, "a sidecar left before its answer");
        }
    }

    async fn connect(&self, wanted: SocketAddr) -> io::Result<OwnedFd> {
        let targets = self.targets(wanted)?;
        let attempt = async {
            let mut last = Errno::EHOSTUNREACH.into();
            for target in targets {
                match TcpStream::connect(target).await {
                    Ok(stream) => return stream.into_std().map(OwnedFd::from),
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        timeout(self.policy.connect_timeout, attempt).await.map_err(|_| io::Error::from(Errno::ETIMEDOUT))?
    }

    /// Where a connection to `wanted` goes on the machine.
    fn targets(&self, wanted: SocketAddr) -> io::Result<Vec<SocketAddr>> {
        // An IPv4 address in IPv6 clothes is what it is inside.
        let ip = wanted.ip().to_canonical();
        if self.policy.host.contains(&ip) {
            let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return Ok(both.map(|ip| SocketAddr::new(ip, wanted.port())).to_vec());
        }
        if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() {
            return Err(Errno::EACCES.into());
        }
        if self.policy.inside.iter().any(|network| network.contains(&ip)) {
            return Err(Errno::EHOSTUNREACH.into());
        }
        Ok(vec![SocketAddr::new(ip, wanted.port())])
    }

    fn listen(&self, port: u16) -> io::Result<(OwnedFd, SocketAddr)> {
        if !self.policy.gateway {
            return Err(Errno::EPERM.into());
        }
        let at = |port| SocketAddr::new(self.policy.publish_at, port);
        let before = self.lock().get(&port).copied();
        let raised = port.checked_add(UNPRIVILEGED);
        let candidates = before.into_iter().chain([at(port)]).chain(raised.map(at)).chain([at(0)]);
        let mut last = Errno::EADDRINUSE.into();
        for candidate in candidates {
            match TcpListener::bind(candidate) {
                Ok(listener) => {
                    let published = listener.local_addr()?;
                    if published.port() != port {
                        tracing::info!(port, %published, "published elsewhere");
                    }
                    self.lock().insert(port, published);
                    return Ok((listener.into(), published));
                }
                // Refused as privileged, or taken: the next one.
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EACCES | Errno::EADDRINUSE) => last = error,
                    _ => return Err(error),
                },
            }
        }
        Err(last)
    }

    fn resolver(&self) -> io::Result<OwnedFd> {
        let text = std::fs::read_to_string(&self.policy.resolv_conf).unwrap_or_default();
        let server = SocketAddr::new(first_nameserver(&text), 53);
        let any: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.connect(server)?;
        Ok(socket.into())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u16, SocketAddr>> {
        self.published.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The first name server of a resolv.conf(5); the machine itself where none is named.
fn first_nameserver(text: &str) -> IpAddr {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next()?.parse().ok())?
    });
    servers.into_iter().next().unwrap_or(Ipv4Addr::LOCALHOST.into())
}

#[cfg(test)]
mod tests {
    use lateen_runtime::{broker::Broker as Client, sock::seqpacket_pair};

    use super::*;

    const BRIDGE: &str = "198.18.0.1/16";

    fn policy(gateway: bool) -> Policy {
        let bridge: IpNet = BRIDGE.parse().unwrap();
        Policy::new(gateway, &[bridge], vec![bridge.trunc()])
    }

    fn client(broker: &Arc<Broker>) -> Client {
        let (near, far) = seqpacket_pair().unwrap();
        tokio::spawn(Arc::clone(broker).serve(far));
        Client::start(near).unwrap()
    }

    #[test]
    fn targets_are_what_the_policy_says() {
        let broker = Broker::new(policy(false));
        let targets = |text: &str| broker.targets(text.parse().unwrap());
        assert_eq!(targets("198.18.0.1:80").unwrap()[0].to_string(), "127.0.0.1:80");
        assert_eq!(targets("[::ffff:192.0.2.1]:80").unwrap()[0].to_string(), "192.0.2.1:80");
        for refused in
            ["127.0.0.1:80", "[::1]:80", "[::ffff:127.1.2.3]:80", "0.0.0.0:80", "[::]:1", "224.0.0.1:1"]
        {
            assert_eq!(targets(refused).unwrap_err().raw_os_error(), Some(libc::EACCES), "{refused}");
        }
        assert_eq!(targets("198.18.3.4:80").unwrap_err().raw_os_error(), Some(libc::EHOSTUNREACH));
    }

    #[tokio::test]
    async fn the_bridge_is_the_machine_and_the_loopback_is_not() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = client(&Broker::new(policy(false)));
        let host = client.connect(SocketAddr::from(([198, 18, 0, 1], port))).await.unwrap();
        let (_, from) = listener.accept().await.unwrap();
        assert_eq!(host.local_addr().unwrap(), from);
        let refused = client.connect(SocketAddr::from(([127, 0, 0, 1], port))).await.unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    }

    #[tokio::test]
    async fn only_gateways_listen() {
        let refused = client(&Broker::new(policy(false))).listen(80).await.unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
    }

    #[tokio::test]
    async fn a_taken_port_is_published_elsewhere_and_found_there_again() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let broker = Broker::new(policy(true));
        let (listener, published) = client(&broker).listen(port).await.unwrap();
        assert_ne!(published.port(), port);
        drop(listener);
        assert_eq!(broker.published(), [(port, published)]);
        let (_, again) = client(&broker).listen(port).await.unwrap();
        assert_eq!(again, published);
    }

    #[tokio::test]
    async fn the_resolver_is_the_first_name_server() {
        let directory = tempfile::tempdir().unwrap();
        let resolv_conf = directory.path().join("resolv.conf");
        std::fs::write(&resolv_conf, "# x\nsearch a\nnameserver 127.0.0.53\nnameserver 192.0.2.1\n").unwrap();
        let client = client(&Broker::new(Policy { resolv_conf, ..policy(false) }));
        let socket = client.resolver().await.unwrap();
        assert_eq!(socket.peer_addr().unwrap().to_string(), "127.0.0.53:53");
    }
}
