//! Where a pod is, and how its application is started there: addresses, ports, placeholders, environment.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use ipnet::IpNet;
use lateen_control::api::types::{Command, Process, Run};
use lateen_sandbox::plain::{self, Placeholder, ServiceReference, Template};
use lateen_sandbox::{Kind, ProcessSpec};

use super::Shared;

/// Where a pod is.
pub(crate) struct Place {
    /// Its addresses with the length of the pod network.
    pub(crate) networks: Vec<IpNet>,
    /// Networks that exist only inside the sandbox.
    pub(crate) inside: Vec<IpNet>,
    /// Plain mode: addresses that stand for services, for this pod alone.
    pub(crate) stand_ins: Vec<StandIn>,
    plain: bool,
    ports: Vec<u16>,
    layouts: tokio::sync::watch::Sender<Layout>,
}

/// Plain mode: an address that stands for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StandIn {
    pub(crate) reference: ServiceReference,
    pub(crate) listen: SocketAddr,
    pub(crate) host: String,
}

/// Where one run of the application listens for each port of the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) ports: Vec<(u16, SocketAddr)>,
}

impl Layout {
    /// Where the application listens for this port of the pod.
    pub(crate) fn of(&self, port: u16) -> Option<SocketAddr> {
        self.ports.iter().find(|(known, _)| *known == port).map(|(_, at)| *at)
    }
}

impl Place {
    /// Finds, or remembers, the addresses of a pod.
    pub(crate) fn find(shared: &Shared, pod: &str, process: &Process) -> anyhow::Result<Self> {
        let plain = !shared.environment.has_namespaces();
        let references = references(process)?;
        let (networks, inside, stand_ins) = shared.with_book(|book| {
            if !plain {
                let ranges = book.ranges();
                let inside = [
                    ranges.pods.into(),
                    ranges.pods6.into(),
                    ranges.services.into(),
                    ranges.services6.into(),
                ];
                return Ok((book.pod(pod)?, inside.to_vec(), Vec::new()));
            }
            let own = IpAddr::V4(book.plain_pod(pod)?);
            let mut stand_ins = Vec::new();
            for reference in references {
                let namespace = reference.namespace.clone().unwrap_or_else(|| process.namespace.clone());
                let service = format!("{}.{namespace}", reference.name);
                let listen = SocketAddr::new(book.plain_service(pod, &service)?.into(), reference.port);
                stand_ins.push(StandIn { host: format!("{service}.svc.cluster.local"), listen, reference });
            }
            Ok((vec![IpNet::from(own)], Vec::new(), stand_ins))
        })?;
        let ports = process.ports.iter().map(|port| port.port).collect();
        let place = Self {
            networks,
            inside,
            stand_ins,
            plain,
            ports,
            layouts: tokio::sync::watch::Sender::new(Layout::default()),
        };
        place.layouts.send_replace(place.layout()?);
        Ok(place)
    }

    /// The pod's addresses.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.networks.iter().map(IpNet::addr).collect()
    }

    /// Whether this is plain mode.
    pub(crate) fn is_plain(&self) -> bool {
        self.plain
    }

    /// The pod's own ports, or in plain mode free ones.
    fn layout(&self) -> anyhow::Result<Layout> {
        let mut ports = Vec::new();
        for port in &self.ports {
            let at = if self.plain {
                SocketAddr::new(Ipv4Addr::LOCALHOST.into(), plain::free_port().context("find a free port")?)
            } else {
                SocketAddr::new(self.networks[0].addr(), *port)
            };
            ports.push((*port, at));
        }
        Ok(Layout { ports })
    }

    /// Where the application listens.
    pub(crate) fn current(&self) -> Layout {
        self.layouts.borrow().clone()
    }

    /// Plain mode: other free ports for the next run; the sidecar is told.
    pub(crate) fn renew(&self) -> anyhow::Result<()> {
        if self.plain {
            self.layouts.send_replace(self.layout()?);
        }
        Ok(())
    }

    /// Where the application listens, now and later.
    pub(crate) fn layouts(&self) -> tokio::sync::watch::Receiver<Layout> {
        self.layouts.subscribe()
    }
}

/// The services that a process names in its arguments and environment.
fn references(process: &Process) -> anyhow::Result<BTreeSet<ServiceReference>> {
    let Run::Command(command) = &process.run else { return Ok(BTreeSet::new()) };
    let mut references = BTreeSet::new();
    for text in command.command.iter().chain(&command.args).chain(command.env.values()) {
        let template = Template::parse(text).with_context(|| format!("read {text:?}"))?;
        references.extend(template.placeholders().filter_map(|placeholder| match placeholder {
            Placeholder::Service(reference) => Some(reference.clone()),
            Placeholder::Port(_) => None,
        }));
    }
    Ok(references)
}

/// What an application starts from, before the mesh adds to it.
pub(crate) struct Base {
    /// Environment under that of the process.
    pub(crate) env: Vec<(String, String)>,
    /// What relative working directories are below.
    pub(crate) directory: PathBuf,
}

impl Base {
    /// Of a process of the directory: our own environment.
    pub(crate) fn of_directory(directory: &Path) -> Self {
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        Self { env: environment(), directory }
    }
}

/// Our own environment. Variables that are not UTF-8 are left out: they could not be handed on.
pub(crate) fn environment() -> Vec<(String, String)> {
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    std::env::vars_os().filter_map(text).collect()
}

/// How the application is started.
pub(crate) fn application(
    pod: &str,
    process: &Process,
    wanted: &Command,
    base: Base,
    place: &Place,
    layout: &Layout,
) -> anyhow::Result<ProcessSpec> {
    let expand = |text: &String| expand(text, place, layout);
    let argv = wanted.command.iter().chain(&wanted.args).map(expand).collect::<anyhow::Result<Vec<_>>>()?;
    if argv.is_empty() {
        bail!("{pod} has no command; write spec.command");
    }
    let mut env = base.env;
    // The state is no business of an application.
    env.retain(|(name, _)| name != "LATEEN_STATE");
    let path = path_with_us(env.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.as_str()));
    let mut set = |name: &str, value: String| {
        env.retain(|(known, _)| known != name);
        env.push((name.to_owned(), value));
    };
    set("PATH", path);
    set("POD_NAME", pod.split('.').next().unwrap_or(pod).to_owned());
    set("POD_NAMESPACE", process.namespace.clone());
    if let Some((port, at)) = layout.ports.first() {
        set("PORT", if place.is_plain() { at.port() } else { *port }.to_string());
    }
    if place.is_plain() {
        let proxy = SocketAddr::new(place.networks[0].addr(), 15001);
        for (name, mut value) in plain::proxy_environment(proxy) {
            if name.eq_ignore_ascii_case("NO_PROXY") {
                // An address that stands for a service leads to the sidecar already.
                for stand_in in &place.stand_ins {
                    value.push_str(&format!(",{}", stand_in.listen.ip()));
                }
            }
            set(&name, value);
        }
    }
    for (name, value) in &wanted.env {
        set(name, expand(value)?);
    }
    let cwd = wanted
        .working_dir
        .as_ref()
        .map_or_else(|| base.directory.clone(), |below| base.directory.join(below));
    Ok(ProcessSpec { argv, env, cwd: Some(cwd), kind: Kind::Application })
}

fn expand(text: &String, place: &Place, layout: &Layout) -> anyhow::Result<String> {
    let template = Template::parse(text).with_context(|| format!("read {text:?}"))?;
    template.expand(|placeholder| match placeholder {
        named if !place.is_plain() => Ok(named.unchanged()),
        Placeholder::Service(reference) => place
            .stand_ins
            .iter()
            .find(|stand_in| stand_in.reference == *reference)
            .map(|stand_in| stand_in.listen.to_string())
            .with_context(|| format!("service {} has no address here", reference.name)),
        Placeholder::Port(port) => layout.of(*port).map(|at| at.port().to_string()).with_context(|| {
            format!("port {port} is not among the ports of the process; write it in spec.ports")
        }),
    })
}

/// `PATH` with the directory of this program last, so that `lateen` can be named as a command.
fn path_with_us(path: Option<&str>) -> String {
    let path = path.unwrap_or("/usr/local/bin:/usr/bin:/bin");
    let us = std::env::current_exe().ok().and_then(|program| program.parent().map(ToOwned::to_owned));
    let all = std::env::split_paths(path).chain(us);
    std::env::join_paths(all).ok().and_then(|all| all.into_string().ok()).unwrap_or_else(|| path.to_owned())
}
