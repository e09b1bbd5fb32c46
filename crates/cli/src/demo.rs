//! The demo: a small shop as a mesh, walked through step by step. Every step is measured from real traffic;
//! one that does not hold says what was seen instead.

mod binomial;
mod client;
mod report;
mod shop;
mod steps;
mod tls;

pub use report::{Report, Step};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, timeout};

use crate::args::SandboxArgs;
use crate::mesh::{Event, Events, Mesh, Options};
use client::Client;
use shop::Shop;

/// The longest the whole shop may take to stand.
const STAND_UP: Duration = Duration::from_secs(60);
/// The pod whose wire is recorded.
const TAPPED: &str = "details-0.default";

/// A running shop.
pub struct Demo {
    mesh: Mesh,
    shop: Shop,
    gateway: SocketAddr,
    home: PathBuf,
}

impl Demo {
    /// Starts the shop and waits until its front page answers with all it calls.
    ///
    /// # Errors
    /// When it does not stand in time; what was missing is said.
    pub async fn start(sandbox: SandboxArgs, events: Events) -> anyhow::Result<Self> {
        let home = temporary_home()?;
        let shop = Shop::open(home.join("objects"))?;
        let options = Options {
            dir: shop.dir().to_owned(),
            state: Some(home.join("state")),
            environment: sandbox.environment,
            pod_range: sandbox.pod_range,
            service_range: sandbox.service_range,
            sidecar_workers: sandbox.sidecar_workers,
            allow_unenforced: false,
            show_output: std::env::var_os("LATEEN_DEMO_OUTPUT").is_some(),
            tap: Some(TAPPED.to_owned()),
        };
        let mut news = events.listen();
        let mesh = match Mesh::start(options, events).await {
            Ok(mesh) => mesh,
            Err(error) => {
                let _ = std::fs::remove_dir_all(&home);
                return Err(error);
            }
        };
        let mut problems = Vec::new();
        let stands = async {
            loop {
                if let Some((.., at)) = mesh.pods().published().into_iter().next()
                    && Client::connect(at).await.is_ok_and(|_| true)
                    && stands(at).await
                {
                    return at;
                }
                while let Ok(event) = news.try_recv() {
                    if let Event::Problem { about, problem } = event {
                        problems.push(format!("{about}: {problem}"));
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match timeout(STAND_UP, stands).await {
            Ok(gateway) => Ok(Self { mesh, shop, gateway, home }),
            Err(_) => {
                let pods = mesh.pods().names().join(", ");
                mesh.stop().await;
                let _ = std::fs::remove_dir_all(&home);
                problems.dedup();
                anyhow::bail!(
                    "the shop does not stand after {STAND_UP:?}; pods: {pods}; problems: {}",
                    if problems.is_empty() { "none told".to_owned() } else { problems.join("; ") }
                )
            }
        }
    }

    /// Walks through all steps, telling each as it begins and as it ends.
    pub async fn walk(&mut self, mut tell: impl FnMut(Progress<'_>)) -> Vec<Step> {
        let mut done = Vec::new();
        for (number, (name, story)) in (1..).zip(steps::ALL) {
            tell(Progress::Begins { number, name, story });
            let started = Instant::now();
            let measured = steps::take(self, name).await;
            let step = Step::new(name, story, measured, started.elapsed());
            tell(Progress::Ended(&step));
            done.push(step);
        }
        done
    }

    /// The mesh the shop runs in.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// Where customers come in.
    pub fn gateway(&self) -> SocketAddr {
        self.gateway
    }

    /// The shop's files.
    pub fn directory(&self) -> &std::path::Path {
        self.shop.dir()
    }

    /// Ends everything and leaves nothing behind.
    pub async fn stop(self) {
        self.mesh.stop().await;
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// How far the walk is.
pub enum Progress<'a> {
    /// A step begins.
    Begins {
        /// Which one, from 1.
        number: usize,
        /// Its name.
        name: &'a str,
        /// What it shows.
        story: &'a str,
    },
    /// A step ended.
    Ended(&'a Step),
}

/// Whether a request comes back with all three answers of the front page.
async fn stands(at: SocketAddr) -> bool {
    let Ok(mut client) = Client::connect(at).await else { return false };
    client.get("nobody").await.is_ok_and(|page| page.is_whole())
}

/// A directory of this run alone.
fn temporary_home() -> anyhow::Result<PathBuf> {
    let base = std::env::temp_dir();
    for attempt in 0..100_u32 {
        let home = base.join(format!("lateen-demo-{}-{attempt}", std::process::id()));
        match std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(&home) {
            Ok(()) => return Ok(home),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("make {}", home.display())),
        }
    }
    anyhow::bail!("{} is full of demos", base.display())
}
