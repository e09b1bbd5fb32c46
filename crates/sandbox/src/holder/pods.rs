//! The pods of a holder: a network namespace each, joined to the bridge, and the files that only it sees.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use lateen_capture::{
    During, Error, MARK, Netns,
    link::{LOOPBACK, LinkIndex, Links},
    nft,
    refused::{Listener, Refused},
};
use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt},
};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};

use crate::{
    message::{PodSpec, SocketKind},
    namespace::{self, MountNamespace, overlay, raw},
};

const BRIDGE: &str = "lateen0";
const LINK: &str = "eth0";
/// After news of refused packets, the next is at least this far away.
const QUIET: Duration = Duration::from_millis(500);

pub(crate) struct Pods {
    /// Absent without namespaces.
    bridge: Option<(Links, LinkIndex)>,
    gateways: Vec<IpNet>,
    pods: BTreeMap<String, Pod>,
    made: u64,
}

pub(crate) struct Pod {
    pub(crate) hostname: String,
    /// What its applications must not see.
    pub(crate) hidden: Vec<PathBuf>,
    /// Absent without namespaces.
    pub(crate) rooms: Option<Rooms>,
    link: String,
    listener: Option<Listener>,
    quiet_until: Option<Instant>,
}

/// The namespaces of one pod.
pub(crate) struct Rooms {
    pub(crate) network: Netns,
    pub(crate) mounts: MountNamespace,
}

impl Pods {
    pub(crate) fn new(namespaces: bool) -> Result<Pods, Error> {
        let mut bridge = None;
        if namespaces {
            // Off where the module is absent; harmless where it cannot be written, only slower.
            let _ = namespace::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
            let _ = namespace::write("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0");
            allow_ipv6();
            let mut links = Links::open()?;
            links.set_up(LOOPBACK)?;
            let index = links.add_bridge(BRIDGE)?;
            bridge = Some((links, index));
        }
        Ok(Pods { bridge, gateways: Vec::new(), pods: BTreeMap::new(), made: 0 })
    }

    /// Gives the bridge its addresses, which are the pods' gateways.
    pub(crate) fn set_up(&mut self, addresses: &[IpNet]) -> Result<(), Error> {
        let Some((links, bridge)) = &mut self.bridge else { return Ok(()) };
        for address in addresses {
            if add_if_possible(links, *bridge, *address)?.is_none() {
                self.gateways.push(*address);
            }
        }
        Ok(())
    }

    pub(crate) fn make(&mut self, spec: PodSpec) -> Result<Vec<String>, Error> {
        if self.pods.contains_key(&spec.name) {
            return Err(Error::new(format!("make pod {}", spec.name), Errno::EEXIST as i32));
        }
        self.made += 1;
        let link = format!("pod{}", self.made);
        let mut pod = Pod {
            hostname: spec.hostname.clone(),
            hidden: spec.hidden.clone(),
            rooms: None,
            link,
            listener: None,
            quiet_until: None,
        };
        let mut warnings = Vec::new();
        if let Some((links, bridge)) = &mut self.bridge {
            let network = Netns::create()?;
            links.add_veth(&pod.link, *bridge, LINK, &network)?;
            let gateways = &self.gateways;
            pod.listener = network.inside(|| furnish(&spec, gateways, &mut warnings))?;
            let (mounts, unbound) = MountNamespace::with(|| {
                overlay::bind_names(spec.resolver.as_ref().map(|resolver| resolver.to_text()), hosts(&spec))
            })?;
            warnings.extend(unbound);
            pod.rooms = Some(Rooms { network, mounts });
        }
        self.pods.insert(spec.name, pod);
        Ok(warnings)
    }

    pub(crate) fn find(&self, name: &str) -> Result<&Pod, Error> {
        self.pods.get(name).ok_or_else(|| Error::new(format!("find pod {name}"), Errno::ENOENT as i32))
    }

    pub(crate) fn remove(&mut self, name: &str) -> Result<(), Error> {
        let Some(pod) = self.pods.remove(name) else { return Ok(()) };
        match &mut self.bridge {
            Some((links, _)) => links.remove(&pod.link),
            None => Ok(()),
        }
    }

    /// The pods whose news of refused packets may be read now.
    pub(crate) fn listening(&self) -> Vec<(&str, BorrowedFd<'_>)> {
        let now = Instant::now();
        let loud = self.pods.iter().filter(|(_, pod)| pod.quiet_until.is_none_or(|until| until <= now));
        loud.filter_map(|(name, pod)| Some((name.as_str(), pod.listener.as_ref()?.as_fd()))).collect()
    }

    /// When the next quiet pod may speak again, in milliseconds.
    pub(crate) fn quiet_timeout(&self) -> Option<u16> {
        let now = Instant::now();
        let ends = self.pods.values().filter_map(|pod| pod.quiet_until).filter(|until| *until > now);
        let wait = ends.min()?.duration_since(now).as_millis();
        Some(u16::try_from(wait + 1).unwrap_or(u16::MAX))
    }

    /// What a pod refused, read once and then not for a while.
    pub(crate) fn refused(&mut self, name: &str) -> Vec<Refused> {
        let Some(pod) = self.pods.get_mut(name) else { return Vec::new() };
        pod.quiet_until = Some(Instant::now() + QUIET);
        let Some(listener) = &pod.listener else { return Vec::new() };
        match listener.read() {
            Ok(packets) => packets,
            Err(_) => {
                // The counter of the rules still has them.
                pod.listener = None;
                Vec::new()
            }
        }
    }
}

impl Pod {
    fn rooms(&self) -> Result<&Rooms, Error> {
        let absent = || Error::new("enter a pod without namespaces", Errno::EOPNOTSUPP as i32);
        self.rooms.as_ref().ok_or_else(absent)
    }

    pub(crate) fn open_socket(&self, kind: SocketKind, marked: bool) -> Result<OwnedFd, Error> {
        self.rooms()?.network.inside(|| {
            let opened = match kind {
                SocketKind::Tcp4 => tcp(AddressFamily::INET)?,
                SocketKind::Tcp6 => tcp(AddressFamily::INET6)?,
                SocketKind::Frames => frames()?,
            };
            if marked {
                setsockopt(&opened, sockopt::Mark, &MARK).during("setsockopt(SO_MARK)")?;
            }
            Ok(opened)
        })
    }

    pub(crate) fn refused_packets(&self) -> Result<u64, Error> {
        self.rooms()?.network.inside(nft::refused_packets)
    }
}

/// Everything inside a new network namespace.
fn furnish(
    spec: &PodSpec,
    gateways: &[IpNet],
    warnings: &mut Vec<String>,
) -> Result<Option<Listener>, Error> {
    allow_ipv6();
    // Programs listen on port 80 without a capability, as they do in most containers.
    if let Err(error) = namespace::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0") {
        warnings.push(format!("ports below 1024 stay privileged: {error}"));
    }
    let mut links = Links::open()?;
    links.set_up(LOOPBACK)?;
    let link = links.index(LINK)?;
    links.set_up(link)?;
    for address in &spec.addresses {
        warnings.extend(add_if_possible(&mut links, link, *address)?);
    }
    for gateway in gateways {
        let same_family = |address: &IpNet| address.addr().is_ipv4() == gateway.addr().is_ipv4();
        if spec.addresses.iter().any(same_family) {
            links.add_default_route(link, gateway.addr())?;
        }
    }
    let Some(rules) = &spec.rules else { return Ok(None) };
    let told = nft::install(rules)?;
    if !told && rules.refused_group.is_some() {
        warnings.push("refused packets are counted but not logged: the kernel has no nft log".into());
    }
    match told.then(Listener::open).transpose() {
        Ok(listener) => Ok(listener),
        Err(error) => {
            warnings.push(format!("refused packets are counted but not logged: {error}"));
            Ok(None)
        }
    }
}

/// New namespaces may inherit that IPv6 is off; where it cannot be had, adding the address says so.
fn allow_ipv6() {
    for which in ["all", "default"] {
        let _ = namespace::write(&format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "0");
    }
}

/// Adds an address; an IPv6 one that this machine cannot have is a warning.
fn add_if_possible(links: &mut Links, link: LinkIndex, address: IpNet) -> Result<Option<String>, Error> {
    match links.add_address(link, address) {
        Ok(()) => Ok(None),
        Err(error)
            if address.addr().is_ipv6()
                && (error.is_unsupported() || error.errno == Errno::EACCES as i32) =>
        {
            Ok(Some(format!("no IPv6: {error}")))
        }
        Err(error) => Err(error),
    }
}

fn tcp(family: AddressFamily) -> Result<OwnedFd, Error> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::STREAM, flags, None).during("socket(SOCK_STREAM)")
}

/// A socket that sees the frames of the pod's link, and only those.
fn frames() -> Result<OwnedFd, Error> {
    const EVERY_PROTOCOL: u16 = libc::ETH_P_ALL as u16;
    let protocol = Protocol::from_raw(
        std::num::NonZeroU32::new(u32::from(EVERY_PROTOCOL.to_be())).expect("it is not zero"),
    );
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(protocol))
        .during("socket(AF_PACKET)")?;
    let link = Links::open()?.index(LINK)?;
    raw::bind_to_link(&socket, EVERY_PROTOCOL, link.number())?;
    Ok(socket)
}

fn hosts(spec: &PodSpec) -> String {
    use std::fmt::Write;
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
    if !spec.hostname.is_empty() {
        for address in &spec.addresses {
            let _ = writeln!(text, "{} {}", address.addr(), spec.hostname);
        }
    }
    text
}
