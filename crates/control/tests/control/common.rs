//! A control plane in this process, over directories of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lateen_control::api::ApiClient;
use lateen_control::{App, Config};
use lateen_runtime::clock::Clock;
use lateen_runtime::metrics::Registry;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Generous: the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Directories that outlive one control plane.
pub(crate) struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["mesh", "run"] {
            std::fs::create_dir(directory.path().join(name)).expect("make");
        }
        Self { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path("mesh").join(name), text).expect("write");
    }

    pub(crate) fn config(&self) -> Config {
        Config::new(self.path("mesh"), self.path("state"), self.path("run"))
    }

    pub(crate) fn api(&self) -> ApiClient {
        ApiClient::new(self.config().api_socket())
    }

    /// Starts a control plane; its sockets are there when this returns.
    pub(crate) async fn start(&self) -> Plane {
        self.start_with(self.config()).await
    }

    pub(crate) async fn start_with(&self, config: Config) -> Plane {
        let socket = config.api_socket();
        let app = App::build(config, Clock::system(), Registry::new(), None).expect("build");
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(app.run(async move {
            // A dropped sender means stop as well.
            let _ = stopped.await;
        }));
        wait_for(&socket).await;
        Plane { stop: Some(stop), running }
    }
}

/// A running control plane.
pub(crate) struct Plane {
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), lateen_control::Error>>,
}

impl Plane {
    /// Asks it to end, and waits.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        tokio::time::timeout(DEADLINE, self.running)
            .await
            .expect("ends in time")
            .expect("no panic")
            .expect("ends well");
    }
}

/// Waits until a socket answers.
pub(crate) async fn wait_for(socket: &Path) {
    eventually("a socket", async || tokio::net::UnixStream::connect(socket).await.ok()).await;
}

/// Asks again until there is an answer.
pub(crate) async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asking).await.unwrap_or_else(|_| panic!("{what} in time"))
}
