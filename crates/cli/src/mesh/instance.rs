//! The life of one pod: made, its sidecar started, its application started and watched, taken away.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use lateen_control::api::types::{Command, Instance, Port, Process, Restart, Run, Tunnel};
use lateen_model::RestartPolicy;
use lateen_sandbox::broker::{Broker, Policy};
use lateen_sandbox::restart::Restarts;
use lateen_sandbox::{Descriptors, Kind, Pod, PodSpec, Resolver, SocketKind, output};
use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;

use super::command::{Base, Layout, Place};
use super::join::{Answer, Guest};
use super::registration::Registration;
use super::sidecar::Sidecar;
use super::{Event, GRACE, Shared, command, readiness};
use crate::output::WithHint as _;

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

/// One pod to be: what runs in it, for whom, and until when.
pub(crate) struct Life<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    /// `name.namespace`.
    pub(crate) pod: &'a str,
    pub(crate) process: &'a Process,
    /// The caller of `lateen run`, when the process is not one of the directory.
    pub(crate) guest: Option<&'a Guest>,
    pub(crate) facts: &'a Facts,
    pub(crate) stop: &'a CancellationToken,
}

/// A pod that stands, with what surrounds its application.
struct Stage {
    pod: Pod,
    place: Place,
    registration: Registration,
}

impl Life<'_> {
    /// Lives until told to stop; what fails is told and tried again.
    pub(crate) async fn live(&self) {
        let mut wait = Duration::from_millis(200);
        loop {
            match self.once().await {
                Ok(()) => return,
                Err(error) => self.shared.events.problem(self.pod, &error),
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(10)),
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Lives until told to stop, or until the application of a guest has ended.
    ///
    /// # Errors
    /// When the pod cannot be made or taken away, or the application of a guest does not start.
    pub(crate) async fn once(&self) -> anyhow::Result<()> {
        let place = Place::find(self.shared, self.pod, self.process)?;
        let spec = self.pod_spec(&place);
        let pod = self.shared.sandbox.make_pod(spec).await.context("make the pod")?;
        for warning in pod.warnings() {
            let problem = warning.clone();
            self.shared.events.tell(Event::Problem { about: self.pod.to_owned(), problem });
        }
        let broker = self.broker(&place);
        self.facts.with(|known| known.broker = broker.clone());
        let (instance, _) = self.pod.split_once('.').unwrap_or((self.pod, ""));
        let namespace = self.process.namespace.clone();
        let registration = Registration::start(Arc::clone(self.shared), namespace, instance.to_owned());
        let stage = Stage { pod, place, registration };
        self.register(&stage, false);
        tokio::select! {
            () = stage.registration.told() => {}
            () = self.stop.cancelled() => {}
        }
        tap(self.shared, &stage.pod).await?;
        let sidecar = Sidecar::start(self.shared, &stage.pod, self.process, &stage.place, broker);
        let lived = tokio::select! {
            () = sidecar.ready() => self.perform(&stage).await,
            () = self.stop.cancelled() => Ok(()),
        };
        stage.registration.end().await;
        sidecar.stop().await;
        self.facts.with(|known| *known = Known::default());
        stage.pod.remove().await.context("take the pod away")?;
        lived
    }

    /// What happens once the proxy is ready: a gateway is nothing more; else the application starts.
    async fn perform(&self, stage: &Stage) -> anyhow::Result<()> {
        self.shared.events.tell(Event::ProxyReady { pod: self.pod.to_owned() });
        match &self.process.run {
            Run::Gateway => {
                self.register(stage, true);
                self.stop.cancelled().await;
                Ok(())
            }
            Run::Command(wanted) => self.applications(stage, wanted).await,
        }
    }

    fn pod_spec(&self, place: &Place) -> PodSpec {
        let shared = self.shared;
        let bridge: Vec<_> = shared.book.lock().unwrap_or_else(PoisonError::into_inner).gateways();
        let nameservers =
            bridge.iter().filter(|network| network.addr().is_ipv4()).map(|network| network.addr()).collect();
        let gateway = self.process.run == Run::Gateway;
        PodSpec {
            name: self.pod.to_owned(),
            hostname: self.pod.split('.').next().unwrap_or(self.pod).chars().take(63).collect(),
            addresses: place.networks.clone(),
            rules: (!gateway && shared.environment.has_namespaces()).then(lateen_capture::Rules::default),
            resolver: Some(Resolver::kubernetes(nameservers, &self.process.namespace, "cluster.local")),
            hidden: vec![shared.home.state().to_owned(), shared.home.run().to_owned()],
        }
    }

    /// The way to the machine: every pod in a namespace needs it; elsewhere only gateways, for their ports.
    fn broker(&self, place: &Place) -> Option<Arc<Broker>> {
        let gateway = self.process.run == Run::Gateway;
        if !self.shared.environment.has_namespaces() && !gateway {
            return None;
        }
        let book = self.shared.book.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Broker::new(Policy::new(gateway, &book.gateways(), place.inside.clone())))
    }

    /// Tells the control plane what is there, and whether it may be sent to.
    fn register(&self, stage: &Stage, ready: bool) {
        let process = self.process;
        let port = |port: &Port| Port { name: port.name.clone(), port: port.port };
        stage.registration.set(Instance {
            process: process.name.clone(),
            labels: process.labels.clone(),
            service_account: process.service_account.clone(),
            addresses: stage.place.addresses(),
            ports: process.ports.iter().map(port).collect(),
            tunnel: if process.run == Run::Gateway { Tunnel::None } else { Tunnel::Hbone },
            ready,
            node: "local".to_owned(),
        });
    }

    /// Starts the application, again and again as its restart policy says.
    async fn applications(&self, stage: &Stage, wanted: &Command) -> anyhow::Result<()> {
        let mut restarts = Restarts::default();
        let policy = match self.process.restart {
            Restart::Always => RestartPolicy::Always,
            Restart::OnFailure => RestartPolicy::OnFailure,
            Restart::Never => RestartPolicy::Never,
        };
        loop {
            let layout = stage.place.current();
            let started = tokio::time::Instant::now();
            let running = match self.start(stage, wanted, &layout).await {
                Ok(running) => running,
                Err(error) if self.guest.is_some() => return Err(error),
                Err(error) => {
                    self.shared.events.problem(self.pod, &error);
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(2)) => continue,
                        () = self.stop.cancelled() => return Ok(()),
                    }
                }
            };
            let (exit, asked) = self.watch(stage, &layout, &running).await;
            if let Some(guest) = self.guest {
                guest.tell(Answer::Exited(exit));
                return Ok(());
            }
            if asked {
                return Ok(());
            }
            if started.elapsed() < CANNOT_LISTEN {
                // Perhaps somebody else took its free port.
                stage.place.renew()?;
            }
            let Some(wait) = restarts.after(policy, exit, started.elapsed()) else {
                self.stop.cancelled().await;
                return Ok(());
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Starts the application once.
    async fn start(
        &self,
        stage: &Stage,
        wanted: &Command,
        layout: &Layout,
    ) -> anyhow::Result<lateen_sandbox::Process> {
        let base = match self.guest {
            None => Base::of_directory(&self.shared.options.dir),
            Some(guest) => Base { env: guest.env.clone(), directory: guest.directory.clone() },
        };
        let spec = command::application(self.pod, self.process, wanted, base, &stage.place, layout)?;
        debug_assert_eq!(spec.kind, Kind::Application);
        let descriptors = match self.guest {
            None => self.pipes()?,
            Some(guest) => guest.descriptors(),
        };
        let program = spec.argv.first().cloned().unwrap_or_default();
        let running = stage.pod.spawn(spec, descriptors).await.with_context(|| format!("start {program}"));
        let running =
            running.hint("is it an executable file, named with its path or in a directory of PATH?")?;
        self.facts.with(|known| known.application = Some(running.clone()));
        self.shared.events.tell(Event::Started { pod: self.pod.to_owned(), pid: running.pid() });
        if let Some(guest) = self.guest {
            guest.tell(Answer::Started { pid: running.pid() });
        }
        Ok(running)
    }

    /// Standard output and error that are shown with the name of the pod.
    fn pipes(&self) -> anyhow::Result<Descriptors> {
        let mut descriptors = Descriptors::new();
        for number in [1, 2] {
            let (reader, writer) = output::pipe().context("make a pipe")?;
            descriptors = descriptors.with(number, writer);
            let (prefix, show) = (format!("{} | ", self.pod), self.shared.options.show_output);
            tokio::spawn(async move {
                let write = |line: &[u8]| if show { output::to_standard_error(line) } else { Ok(()) };
                let _ = output::relay(reader, &prefix, write).await;
            });
        }
        Ok(descriptors)
    }

    /// Watches a running application to its end: how it ended, and whether it was asked to.
    async fn watch(
        &self,
        stage: &Stage,
        layout: &Layout,
        running: &lateen_sandbox::Process,
    ) -> (lateen_sandbox::Exit, bool) {
        let watched = readiness::watch(self.process, &stage.pod, &stage.place, layout, |ready| {
            self.register(stage, ready);
            self.shared.events.tell(Event::Ready { pod: self.pod.to_owned(), ready });
        });
        let exit = tokio::select! {
            exit = running.wait() => exit,
            never = watched => match never {},
            () = self.stop.cancelled() => return (self.end(stage, running).await, true),
        };
        self.register(stage, false);
        self.facts.with(|known| known.application = None);
        self.shared.events.tell(Event::Exited { pod: self.pod.to_owned(), exit });
        (exit, false)
    }

    /// Ends a running application. Callers learn that it goes before it does.
    async fn end(&self, stage: &Stage, running: &lateen_sandbox::Process) -> lateen_sandbox::Exit {
        self.register(stage, false);
        running.stop(GRACE).await.unwrap_or(lateen_sandbox::Exit::Signal(Signal::SIGKILL as i32))
    }
}

/// Begins to record the wire of the pod that was named for it, before anything is on it.
async fn tap(shared: &Shared, pod: &Pod) -> anyhow::Result<()> {
    if shared.options.tap.as_deref() == Some(pod.name()) && shared.environment.has_namespaces() {
        let socket = pod.open_socket(SocketKind::Frames, true).await.context("record the pod's wire")?;
        tokio::spawn(Arc::clone(&shared.tap).frames(socket));
    }
    Ok(())
}
