//! A running mesh as its users have it: `lateen up` on a directory of its own, without any privilege.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Generous: the machine may be busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// A mesh with one process, called by [`Mesh::front`], that calls the service [`Mesh::guest`] for each request.
pub(crate) struct Mesh {
    home: tempfile::TempDir,
    up: Child,
    said: Receiver<String>,
    tag: String,
}

impl Mesh {
    /// Starts it; more objects may be given. Names carry `tag`: in plain mode addresses are chosen by name, and
    /// other meshes may run on this machine.
    pub(crate) fn start(tag: &str, more: &str) -> Self {
        let tag = format!("{tag}{}", std::process::id());
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("objects");
        std::fs::create_dir(&directory).unwrap();
        let front = format!(
            "apiVersion: lateen.dev/v1alpha1
kind: Process
metadata: {{name: front-{tag}, namespace: default, labels: {{app: front}}}}
spec:
  command: [lateen, echo, --name, front, --call, 'http://${{service:cart-{tag}:8080}}/']
  ports: [{{name: http, port: 9080}}]
"
        );
        std::fs::write(directory.join("front.yaml"), front).unwrap();
        std::fs::write(directory.join("more.yaml"), more.replace("TAG", &tag)).unwrap();
        let (up, said) = up(home.path());
        Mesh { home, up, said, tag }
    }

    /// The name of a workload, of this mesh alone.
    pub(crate) fn name(&self, short: &str) -> String {
        format!("{short}-{}", self.tag)
    }

    /// Waits until the mesh says something, and gives the line.
    pub(crate) fn wait_for(&self, part: &str) -> String {
        let end = Instant::now() + DEADLINE;
        let mut before = Vec::new();
        loop {
            match self.said.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => before.push(line),
                Err(error) => panic!("{part:?} was never said ({error}), but:\n{}", before.join("\n")),
            }
        }
    }

    /// Where the process of the directory listens.
    pub(crate) fn front(&self) -> SocketAddr {
        let line = self.wait_for("| front: http on");
        let port = line.rsplit(':').next().unwrap().trim().parse().unwrap();
        ([127, 0, 0, 1], port).into()
    }

    /// A command that means this mesh.
    pub(crate) fn lateen(&self, arguments: &[&str]) -> Command {
        let mut command = command();
        command.env("LATEEN_STATE", self.home.path().join("state")).args(arguments);
        command
    }

    /// Runs a command to its end, with this as its input.
    pub(crate) fn output(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.lateen(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A program that does not read its input is none of our business.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// `lateen status --output json`.
    pub(crate) fn status(&self) -> Value {
        let output = self.output(&["status", "--output", "json"], "");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// The names of the connected proxies.
    pub(crate) fn proxies(&self) -> Vec<String> {
        let status = self.status();
        let proxies = status["control"]["proxies"].as_array().cloned().unwrap_or_default();
        proxies.iter().map(|proxy| proxy["node"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// Kills the control plane: the supervisor's child that was started as one.
    pub(crate) fn kill_control(&self) {
        let parent = format!("PPid:\t{}\n", self.up.id());
        let control = std::fs::read_dir("/proc").unwrap().find_map(|entry| {
            let path = entry.ok()?.path();
            let id = Pid::from_raw(path.file_name()?.to_str()?.parse().ok()?)?;
            let is_child = std::fs::read_to_string(path.join("status")).ok()?.contains(&parent);
            let arguments = std::fs::read_to_string(path.join("cmdline")).ok()?;
            (is_child && arguments.split('\0').nth(1) == Some("control")).then_some(id)
        });
        kill_process(control.expect("a control plane runs"), Signal::KILL).unwrap();
    }

    /// Starts it again after [`Mesh::stop`], with the same state.
    pub(crate) fn start_again(&mut self) {
        (self.up, self.said) = up(self.home.path());
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        terminate(&self.up, Signal::TERM);
        wait(&mut self.up)
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if self.up.try_wait().is_ok_and(|ended| ended.is_none()) {
            // Everything of a mesh ends with it.
            let _ = self.up.kill();
            let _ = self.up.wait();
        }
    }
}

/// `lateen up`, and what it says.
fn up(home: &Path) -> (Child, Receiver<String>) {
    let mut up = command();
    // Its sockets go with the directory, also after a test that failed.
    up.env("XDG_RUNTIME_DIR", home);
    up.env("LATEEN_STATE", home.join("state"))
        .args(["up", "--environment", "plain"])
        .arg(home.join("objects"));
    let mut up = up.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let said = lines(up.stderr.take().unwrap());
    (up, said)
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lateen"));
    for name in ["PORT", "HTTP_PROXY", "http_proxy", "LATEEN_LOG"] {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    command
}

/// Lines as they come, whoever listens.
pub(crate) fn lines(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Read to the end even when nobody listens: a full pipe would stop the process.
            let _ = sender.send(line);
        }
    });
    lines
}

/// Asks until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what} in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn terminate(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// The exit code, in time.
pub(crate) fn wait(child: &mut Child) -> Option<i32> {
    eventually("its end", || child.try_wait().unwrap()).code()
}
