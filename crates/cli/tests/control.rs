//! `lateen control` as a process: killed, it comes back as it was; asked to end, it leaves nothing behind.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lateen_control::api::ApiClient;
use lateen_control::api::types::{Instance, Status};

const CART: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {selector: {app: cart}, ports: [{name: http, port: 80}]}
";

/// Generous: the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(60);

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().expect("a directory"));
        for name in ["mesh", "run"] {
            std::fs::create_dir(home.path(name)).expect("make");
        }
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn start(&self) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lateen"));
        command.arg("control").arg("--dir").arg(self.path("mesh"));
        command.arg("--state").arg(self.path("state")).arg("--run").arg(self.path("run"));
        Process(command.stderr(Stdio::null()).spawn().expect("start"))
    }

    fn api(&self) -> ApiClient {
        ApiClient::new(self.path("run/api.sock"))
    }

    async fn ready(&self) -> Status {
        let begun = Instant::now();
        loop {
            match self.api().status().await {
                Ok(status) if status.ready => return status,
                answer => assert!(begun.elapsed() < DEADLINE, "not ready: {answer:?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What the mesh is, without the number of its state.
    async fn items(&self) -> String {
        let catalog = self.api().catalog().await.expect("a catalog");
        catalog.split_once('\n').expect("lines").1.to_owned()
    }
}

/// Ends with the test, whatever happens.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_kill_loses_nothing() {
    let home = Home::new();
    std::fs::write(home.path("mesh/cart.yaml"), CART).expect("write");
    let process = home.start();
    let before = home.ready().await;
    let text = r#"{"process": "cart", "labels": {"app": "cart"}, "addresses": ["10.0.0.1"], "ready": true}"#;
    let instance: Instance = serde_json::from_str(text).expect("an instance");
    home.api().put_instance("shop", "cart-0", &instance).await.expect("put");
    let begun = Instant::now();
    while home.ready().await.revision == before.revision {
        assert!(begun.elapsed() < DEADLINE, "the workload appears");
    }
    let (before, items) = (home.ready().await, home.items().await);
    // The drop kills, as kill -9 does.
    drop(process);
    assert!(home.path("run/api.sock").exists(), "nothing was tidied up");
    std::fs::write(home.path("mesh/cart.yaml"), "kind: [").expect("write");
    let _process = home.start();
    let after = home.ready().await;
    assert_eq!(home.items().await, items, "the last good objects, the same addresses, the same workload");
    assert!(after.revision > before.revision, "{} after {}", after.revision, before.revision);
    let roots = |status: Status| status.authority.expect("an authority").roots;
    assert_eq!(roots(after), roots(before));
    assert_eq!(home.api().instances().await.expect("instances").len(), 1);
}

#[tokio::test]
async fn asked_to_end_it_leaves_no_socket_and_the_state_to_the_next() {
    let home = Home::new();
    let mut process = home.start();
    home.ready().await;
    let second = home.start().0.wait().expect("ends");
    assert_eq!(second.code(), Some(1), "one state has one control plane");
    terminate(&process);
    assert_eq!(process.0.wait().expect("ends").code(), Some(0));
    let sockets = |run: &Path| std::fs::read_dir(run).expect("list").count();
    assert_eq!(sockets(&home.path("run")), 0);
    let _process = home.start();
    home.ready().await;
}

fn terminate(process: &Process) {
    let id = i32::try_from(process.0.id()).expect("a process id");
    let id = rustix::process::Pid::from_raw(id).expect("not zero");
    rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("signal");
}
