//! A pod's proxy: told who it is, started, watched, started again.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use lateen_control::api::types::{Process, Run, TokenAnswer, TokenRequest};
use lateen_proxy::config::{Bootstrap, CapturePorts, Control, Endpoint, Plain, PlainInbound, PlainOutbound};
use lateen_runtime::sock::seqpacket_pair;
use lateen_sandbox::broker::Broker;
use lateen_sandbox::plain;
use lateen_sandbox::{Descriptors, Kind, Pod, ProcessSpec, output};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::command::{Layout, Place};
use super::{LOG_FILTER, QUIET, Shared, access, command};

/// Numbers of inherited descriptors.
const BOOTSTRAP: i32 = 3;
const BROKER: i32 = 4;
const READY: i32 = 5;
const ACCESS_LOG: i32 = 6;

/// How long a proxy may go on with what is under way after its pod was told to end.
const DRAIN: Duration = Duration::from_secs(3);

/// A proxy that is started again whenever it ends.
pub(crate) struct Sidecar {
    ready: watch::Receiver<bool>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// What a proxy is started with, each time.
struct Start {
    shared: Arc<Shared>,
    pod: Pod,
    process: Process,
    networks: Vec<ipnet::IpNet>,
    inside: Vec<ipnet::IpNet>,
    stand_ins: Vec<PlainOutbound>,
    plain: bool,
    layouts: watch::Receiver<Layout>,
    /// Plain mode: where the proxy listens for tunnels behind the recorder.
    recorded: Option<SocketAddr>,
    broker: Option<Arc<Broker>>,
}

impl Sidecar {
    pub(crate) fn start(
        shared: &Arc<Shared>,
        pod: &Pod,
        process: &Process,
        place: &Place,
        broker: Option<Arc<Broker>>,
    ) -> Self {
        let (tell_ready, ready) = watch::channel(false);
        let stop = CancellationToken::new();
        let start = Start {
            shared: Arc::clone(shared),
            pod: pod.clone(),
            process: process.clone(),
            networks: place.networks.clone(),
            inside: place.inside.clone(),
            stand_ins: place
                .stand_ins
                .iter()
                .map(|one| PlainOutbound {
                    listen: one.listen,
                    host: one.host.clone(),
                    port: one.reference.port,
                })
                .collect(),
            plain: place.is_plain(),
            layouts: place.layouts(),
            recorded: None,
            broker,
        };
        let task = tokio::spawn(start.keep(tell_ready, stop.clone()));
        Self { ready, stop, task }
    }

    /// Waits until it holds certificate and snapshot and listens.
    pub(crate) async fn ready(&self) {
        // The sender ends only when the sidecar was told to stop; then whoever waits is told so too.
        if self.ready.clone().wait_for(|ready| *ready).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Drains and ends it.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

impl Start {
    async fn keep(mut self, ready: watch::Sender<bool>, stop: CancellationToken) {
        let mut wait = Duration::from_millis(50);
        loop {
            let started = tokio::time::Instant::now();
            // It ends by itself when told to stop: the proxy drains first.
            if let Err(error) = self.once(&ready, &stop).await {
                self.shared.events.problem(self.pod.name(), &error.context("its proxy"));
            }
            if stop.is_cancelled() {
                return;
            }
            if started.elapsed() > Duration::from_secs(30) {
                wait = Duration::from_millis(50);
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(5)),
                () = stop.cancelled() => return,
            }
        }
    }

    async fn once(&mut self, ready: &watch::Sender<bool>, stop: &CancellationToken) -> anyhow::Result<()> {
        let token = tokio::select! {
            token = self.token() => token?,
            () = stop.cancelled() => return Ok(()),
        };
        let layout = self.layouts.borrow_and_update().clone();
        let (ready_reader, ready_writer) = output::pipe().context("make a pipe")?;
        let descriptors = {
            let bootstrap = self.bootstrap(token, &layout).await?;
            self.descriptors(bootstrap, ready_writer)?
        };
        let spec = ProcessSpec {
            argv: ["/proc/self/exe", "proxy", "--bootstrap-fd", &BOOTSTRAP.to_string()]
                .map(str::to_owned)
                .to_vec(),
            env: environment(),
            cwd: None,
            kind: Kind::Proxy,
        };
        let running = self.pod.spawn(spec, descriptors).await.context("start it")?;
        let announced = announce(ready_reader, ready);
        tokio::pin!(announced);
        let mut was_announced = false;
        loop {
            tokio::select! {
                exit = running.wait() => anyhow::bail!("ended: {exit}"),
                () = &mut announced, if !was_announced => was_announced = true,
                // In plain mode the application moved to another port: the proxy is told by a new start.
                changed = self.layouts.changed(), if self.plain && was_announced => {
                    if changed.is_err() { stop.cancelled().await }
                    running.stop(Duration::from_millis(500)).await?;
                    return Ok(());
                }
                () = stop.cancelled() => {
                    running.stop(DRAIN + Duration::from_secs(1)).await?;
                    return Ok(());
                }
            }
        }
    }

    /// Asks the control plane for a join token; it may be away for a moment.
    async fn token(&self) -> anyhow::Result<TokenAnswer> {
        let status = self.shared.api.status().await?;
        let identity = format!(
            "spiffe://{}/ns/{}/sa/{}",
            status.trust_domain, self.process.namespace, self.process.service_account
        );
        let uid = Some(self.pod.name().to_owned());
        Ok(self.shared.api.mint_token(&TokenRequest { identity, uid }).await?)
    }

    async fn bootstrap(&mut self, token: TokenAnswer, layout: &Layout) -> anyhow::Result<Bootstrap> {
        let gateway = self.process.run == Run::Gateway;
        let plain = if !gateway && self.plain { Some(self.plain(layout).await?) } else { None };
        let (name, namespace) = self.pod.name().split_once('.').unwrap_or((self.pod.name(), "default"));
        let trust_domain = token.control_identity.trim_start_matches("spiffe://").split('/').next();
        Ok(Bootstrap {
            role: if gateway { "gateway" } else { "sidecar" }.to_owned(),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            service_account: self.process.service_account.clone(),
            trust_domain: trust_domain.unwrap_or("cluster.local").to_owned(),
            labels: self.process.labels.clone(),
            node: "local".to_owned(),
            cluster: "Kubernetes".to_owned(),
            network: String::new(),
            addresses: self.networks.iter().map(ipnet::IpNet::addr).collect(),
            control: Control::Plane {
                at: Endpoint::Socket(self.shared.home.run().join("control.sock")),
                root_certificates: token.roots,
                identity: token.control_identity,
                token: Some(token.token),
            },
            workers: Some(usize::from(self.shared.options.sidecar_workers)),
            admin: Some(Endpoint::Socket(self.shared.home.proxy_socket(self.pod.name()))),
            capture: (!gateway && !self.plain).then(CapturePorts::default),
            plain,
            broker_fd: self.broker.is_some().then_some(BROKER),
            local_ranges: if self.plain {
                ["0.0.0.0/0", "::/0"].map(str::to_owned).to_vec()
            } else {
                self.inside.iter().map(ToString::to_string).collect()
            },
            resolver: None,
            access_log_fd: Some(ACCESS_LOG),
            ready_fd: Some(READY),
            drain_seconds: DRAIN.as_secs(),
        })
    }

    /// Plain mode's listeners. In front of a proxy that is recorded stands the recorder.
    async fn plain(&mut self, layout: &Layout) -> anyhow::Result<Plain> {
        let own = self.networks[0].addr();
        let mut hbone = SocketAddr::new(own, 15008);
        if self.shared.options.tap.as_deref() == Some(self.pod.name()) {
            hbone = match self.recorded {
                Some(behind) => behind,
                None => {
                    let recorder = TcpListener::bind(hbone).await;
                    let recorder = recorder.with_context(|| format!("record at {hbone}"))?;
                    hbone.set_port(plain::free_port()?);
                    tokio::spawn(Arc::clone(&self.shared.tap).relay(recorder, hbone));
                    *self.recorded.insert(hbone)
                }
            };
        }
        let inbound = layout
            .ports
            .iter()
            .map(|(port, forward)| PlainInbound { listen: SocketAddr::new(own, *port), forward: *forward })
            .collect();
        Ok(Plain {
            hbone,
            inbound,
            outbound: self.stand_ins.clone(),
            http_proxy: Some(SocketAddr::new(own, 15001)),
        })
    }

    fn descriptors(&self, bootstrap: Bootstrap, ready: OwnedFd) -> anyhow::Result<Descriptors> {
        // A bootstrap is a few kilobytes; a pipe holds 64.
        let (reader, mut writer) = std::io::pipe().context("make a pipe")?;
        writer.write_all(&serde_json::to_vec(&bootstrap)?).context("write the bootstrap")?;
        drop(writer);
        let mut descriptors = Descriptors::new().with(BOOTSTRAP, reader).with(READY, ready);
        if let Some(broker) = &self.broker {
            let (ours, theirs) = seqpacket_pair().context("make a socket pair")?;
            let (broker, pod) = (Arc::clone(broker), self.pod.name().to_owned());
            tokio::spawn(async move {
                if let Err(error) = broker.serve(ours).await {
                    tracing::warn!(%error, pod, "the broker's socket failed");
                }
            });
            descriptors = descriptors.with(BROKER, theirs);
        }
        for number in [1, 2] {
            let (reader, writer) = output::pipe().context("make a pipe")?;
            let prefix = format!("{} proxy | ", self.pod.name());
            let show = self.shared.options.show_output;
            tokio::spawn(async move {
                let write = |line: &[u8]| if show { output::to_standard_error(line) } else { Ok(()) };
                let _ = output::relay(reader, &prefix, write).await;
            });
            descriptors = descriptors.with(number, writer);
        }
        let (reader, writer) = output::pipe().context("make a pipe")?;
        tokio::spawn(access::keep(reader, access::path(self.shared.home.state(), self.pod.name())));
        Ok(descriptors.with(ACCESS_LOG, writer))
    }
}

/// What of our environment is for a proxy. It says what is wrong, and more only to who asks.
fn environment() -> Vec<(String, String)> {
    let mut env = command::environment();
    env.retain(|(name, _)| name == LOG_FILTER || name == "RUST_BACKTRACE");
    if env.iter().all(|(name, _)| name != LOG_FILTER) {
        env.push((LOG_FILTER.to_owned(), QUIET.to_owned()));
    }
    env
}

/// A proxy that is ready writes one byte; one that ends without it only closes the pipe.
async fn announce(mut reader: tokio::net::unix::pipe::Receiver, ready: &watch::Sender<bool>) {
    let mut byte = [0];
    match reader.read(&mut byte).await {
        Ok(1) => drop(ready.send_replace(true)),
        _ => std::future::pending().await,
    }
}
