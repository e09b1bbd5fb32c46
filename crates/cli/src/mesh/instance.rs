//! The life of one pod: made, its sidecar started, its application started and watched, taken away.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use lateen_control::api::types::{Instance, Port, Process, Restart, Run, Tunnel};
use lateen_model::RestartPolicy;
use lateen_sandbox::broker::{Broker, Policy};
use lateen_sandbox::restart::Restarts;
use lateen_sandbox::{Descriptors, Kind, Pod, PodSpec, ProcessSpec, Resolver, SocketKind, output};
use tokio_util::sync::CancellationToken;

use super::command::Place;
use super::registration::Registration;
use super::sidecar::Sidecar;
use super::{Event, GRACE, Shared, command, readiness};

/// A program that cannot have its port ends this soon.
const CANNOT_LISTEN: Duration = Duration::from_secs(1);

/// What is known of a running pod.
#[derive(Default)]
pub(crate) struct Facts {
    inner: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    broker: Option<Arc<Broker>>,
    application: Option<lateen_sandbox::Process>,
}

impl Facts {
    fn with<T>(&self, look: impl FnOnce(&mut Known) -> T) -> T {
        look(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where a gateway listens on the machine.
    pub(crate) fn published(&self) -> Vec<(u16, SocketAddr)> {
        self.with(|known| known.broker.as_ref().map(|broker| broker.published()).unwrap_or_default())
    }

    /// The application, while it runs.
    pub(crate) fn application(&self) -> Option<lateen_sandbox::Process> {
        self.with(|known| known.application.clone())
    }
}

/// Lives until told to stop; what fails is told and tried again.
pub(crate) async fn live(
    shared: &Arc<Shared>,
    pod: &str,
    process: &Process,
    facts: &Facts,
    stop: &CancellationToken,
) {
    let mut wait = Duration::from_millis(200);
    loop {
        match once(shared, pod, process, facts, stop).await {
            Ok(()) => return,
            Err(error) => shared.events.problem(pod, &error),
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(10)),
            () = stop.cancelled() => return,
        }
    }
}

async fn once(
    shared: &Arc<Shared>,
    name: &str,
    process: &Process,
    facts: &Facts,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let place = Place::find(shared, name, process)?;
    let pod =
        shared.sandbox.make_pod(pod_spec(shared, name, process, &place)).await.context("make the pod")?;
    for warning in pod.warnings() {
        shared.events.tell(Event::Problem { about: name.to_owned(), problem: warning.clone() });
    }
    let broker = broker(shared, process, &place);
    facts.with(|known| {
        known.broker = broker.clone();
    });
    let (instance_name, _) = name.split_once('.').unwrap_or((name, ""));
    let registration =
        Registration::start(Arc::clone(shared), process.namespace.clone(), instance_name.to_owned());
    let is_gateway = process.run == Run::Gateway;
    registration.set(registered(process, &place, false));
    tokio::select! {
        () = registration.told() => {}
        () = stop.cancelled() => {}
    }
    tap(shared, &pod).await?;
    let sidecar = Sidecar::start(shared, &pod, process, &place, broker);
    let lived = tokio::select! {
        () = sidecar.ready() => {
            shared.events.tell(Event::ProxyReady { pod: name.to_owned() });
            if is_gateway {
                registration.set(registered(process, &place, true));
                stop.cancelled().await;
                Ok(())
            } else {
                applications(shared, &pod, process, &place, facts, &registration, stop).await
            }
        }
        () = stop.cancelled() => Ok(()),
    };
    registration.end().await;
    sidecar.stop().await;
    facts.with(|known| *known = Known::default());
    pod.remove().await.context("take the pod away")?;
    lived
}

/// Begins to record the wire of the pod that was named for it, before anything is on it.
async fn tap(shared: &Shared, pod: &Pod) -> anyhow::Result<()> {
    if shared.options.tap.as_deref() == Some(pod.name()) && shared.environment.has_namespaces() {
        let socket = pod.open_socket(SocketKind::Frames, true).await.context("record the pod's wire")?;
        tokio::spawn(Arc::clone(&shared.tap).frames(socket));
    }
    Ok(())
}

fn pod_spec(shared: &Shared, name: &str, process: &Process, place: &Place) -> PodSpec {
    let bridge: Vec<_> = shared.book.lock().unwrap_or_else(PoisonError::into_inner).gateways();
    let nameservers =
        bridge.iter().filter(|network| network.addr().is_ipv4()).map(|network| network.addr()).collect();
    let gateway = process.run == Run::Gateway;
    PodSpec {
        name: name.to_owned(),
        hostname: name.split('.').next().unwrap_or(name).chars().take(63).collect(),
        addresses: place.networks.clone(),
        rules: (!gateway && shared.environment.has_namespaces()).then(lateen_capture::Rules::default),
        resolver: Some(Resolver::kubernetes(nameservers, &process.namespace, "cluster.local")),
    }
}

/// The way to the machine: every pod in a namespace needs it; elsewhere only gateways, for their ports.
fn broker(shared: &Shared, process: &Process, place: &Place) -> Option<Arc<Broker>> {
    let gateway = process.run == Run::Gateway;
    if !shared.environment.has_namespaces() && !gateway {
        return None;
    }
    let book = shared.book.lock().unwrap_or_else(PoisonError::into_inner);
    Some(Broker::new(Policy::new(gateway, &book.gateways(), place.inside.clone())))
}

fn registered(process: &Process, place: &Place, ready: bool) -> Instance {
    Instance {
        process: process.name.clone(),
        labels: process.labels.clone(),
        service_account: process.service_account.clone(),
        addresses: place.addresses(),
        ports: process.ports.iter().map(|port| Port { name: port.name.clone(), port: port.port }).collect(),
        tunnel: if process.run == Run::Gateway { Tunnel::None } else { Tunnel::Hbone },
        ready,
        node: "local".to_owned(),
    }
}

/// Starts the application, again and again as its restart policy says.
async fn applications(
    shared: &Arc<Shared>,
    pod: &Pod,
    process: &Process,
    place: &Place,
    facts: &Facts,
    registration: &Registration,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let Run::Command(wanted) = &process.run else { return Ok(()) };
    let mut restarts = Restarts::default();
    let policy = match process.restart {
        Restart::Always => RestartPolicy::Always,
        Restart::OnFailure => RestartPolicy::OnFailure,
        Restart::Never => RestartPolicy::Never,
    };
    loop {
        let layout = place.current();
        let spec = command::application(shared, pod.name(), process, wanted, place, &layout)?;
        let started = tokio::time::Instant::now();
        let running = match start(shared, pod, spec).await {
            Ok(running) => running,
            Err(error) => {
                shared.events.problem(pod.name(), &error);
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(2)) => continue,
                    () = stop.cancelled() => return Ok(()),
                }
            }
        };
        facts.with(|known| known.application = Some(running.clone()));
        shared.events.tell(Event::Started { pod: pod.name().to_owned(), pid: running.pid() });
        let watched = readiness::watch(process, pod, place, &layout, |ready| {
            registration.set(registered(process, place, ready));
            shared.events.tell(Event::Ready { pod: pod.name().to_owned(), ready });
        });
        let exit = tokio::select! {
            exit = running.wait() => exit,
            never = watched => match never {},
            () = stop.cancelled() => {
                // Callers learn that it goes before it does.
                registration.set(registered(process, place, false));
                let _ = running.stop(GRACE).await;
                return Ok(());
            }
        };
        registration.set(registered(process, place, false));
        facts.with(|known| known.application = None);
        shared.events.tell(Event::Exited { pod: pod.name().to_owned(), exit });
        if started.elapsed() < CANNOT_LISTEN {
            // Perhaps somebody else took its free port.
            place.renew()?;
        }
        let Some(wait) = restarts.after(policy, exit, started.elapsed()) else {
            stop.cancelled().await;
            return Ok(());
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

async fn start(shared: &Shared, pod: &Pod, spec: ProcessSpec) -> anyhow::Result<lateen_sandbox::Process> {
    debug_assert_eq!(spec.kind, Kind::Application);
    let program = spec.argv.first().cloned().unwrap_or_default();
    let mut descriptors = Descriptors::new();
    for number in [1, 2] {
        let (reader, writer) = output::pipe().context("make a pipe")?;
        descriptors = descriptors.with(number, writer);
        let (prefix, show) = (format!("{} | ", pod.name()), shared.options.show_output);
        tokio::spawn(async move {
            let write = |line: &[u8]| if show { output::to_standard_error(line) } else { Ok(()) };
            let _ = output::relay(reader, &prefix, write).await;
        });
    }
    pod.spawn(spec, descriptors).await.with_context(|| format!("start {program}"))
}
