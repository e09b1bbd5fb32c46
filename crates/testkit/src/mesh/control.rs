//! The control plane of a mesh, which may be ended and started again over the same directories.

use std::path::PathBuf;

use lateen_control::api::ApiClient;
use lateen_control::{App, Config, Error};
use lateen_runtime::clock::Clock;
use lateen_runtime::metrics::Registry;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::wait::{eventually, in_time};

/// Where everything of a mesh stands.
#[derive(Clone)]
pub(crate) struct Home(PathBuf);

impl Home {
    pub(crate) fn of(directory: &TempDir) -> Self {
        Self(directory.path().to_path_buf())
    }

    fn config(&self) -> Config {
        let at = |name: &str| self.0.join(name);
        Config::new(at("mesh"), at("state"), at("run"))
    }

    pub(crate) fn api(&self) -> ApiClient {
        ApiClient::new(self.config().api_socket())
    }

    pub(crate) fn control_socket(&self) -> PathBuf {
        self.config().control_socket()
    }

    /// Where a proxy serves its pages.
    pub(crate) fn pages(&self, pod: &str) -> PathBuf {
        self.0.join("run").join(format!("{pod}.sock"))
    }
}

/// A running control plane.
pub(crate) struct Plane {
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), Error>>,
}

impl Plane {
    /// Starts it; it answers when this returns.
    pub(crate) async fn start(home: &Home) -> Self {
        let app = App::build(home.config(), Clock::system(), Registry::new(), None).expect("build");
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(app.run(async move {
            // A dropped sender means stop as well.
            let _ = stopped.await;
        }));
        eventually("the API", async || home.api().status().await.ok()).await;
        Self { stop, running }
    }

    /// Asks it to end, and waits.
    pub(crate) async fn stop(self) {
        let Self { stop, running } = self;
        drop(stop);
        in_time("the end of the control plane", running).await.expect("no panic").expect("ends well");
    }
}
