//! What a proxy believes, printed, is what another proxy can be started with.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::mesh::{Mesh, eventually, terminate, wait};
use crate::service::{Service, request};

/// A proxy of its own, in plain mode, without any control plane.
struct Proxy {
    child: Child,
    home: tempfile::TempDir,
}

impl Proxy {
    fn start(resources: &str, name: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let bootstrap = json!({
            "role": "sidecar", "name": name, "namespace": "default", "drainSeconds": 1,
            "control": { "from": "files", "resources": "replaced" },
            "admin": { "socket": at("admin.sock") },
            "plain": { "hbone": any, "outbound": [{ "listen": any, "host": "app.example", "port": 80 }] },
        });
        std::fs::write(at("bootstrap.json"), bootstrap.to_string()).unwrap();
        std::fs::write(at("resources.yaml"), resources).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lateen"));
        command.env("LATEEN_LOG", "info").arg("proxy").arg("--bootstrap").arg(at("bootstrap.json"));
        command.arg("--resources").arg(at("resources.yaml"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child, home }
    }

    fn page(&self, path: &str) -> Option<String> {
        self.ask(&format!("GET {path}"))
    }

    fn ask(&self, what: &str) -> Option<String> {
        ask(&self.home.path().join("admin.sock"), what)
    }

    /// Where the stand-in of the service listens, once it does.
    fn outbound(&self) -> SocketAddr {
        eventually("the listener", || {
            let page: Value = serde_json::from_str(&self.page("/listeners")?).ok()?;
            let listeners = page.as_array().or_else(|| page["listeners"].as_array())?.clone();
            let outbound = listeners.into_iter().find(|listener| listener["name"] == "outbound")?;
            outbound["address"].as_str()?.parse().ok()
        })
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(socket: &Path, what: &str) -> Option<String> {
    use std::io::Read as _;
    let mut stream = UnixStream::connect(socket).ok()?;
    write!(stream, "{what} HTTP/1.1\r\nhost: proxy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

#[test]
fn a_dump_is_what_a_proxy_can_be_started_with() {
    let app = Service::named("outside");
    let entry = format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: outside, namespace: default}}
spec:
  hosts: [app.example]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: 127.0.0.1, ports: {{http: {}}}}}]
",
        app.http.port()
    );
    let mesh = Mesh::start("dump", &entry);
    let name = mesh.name("front");
    let dump = eventually("a dump with the service", || {
        let output = mesh.output(&["dump", &name], "");
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.success() && text.contains("app.example") && text.contains(&name)).then_some(text)
    });
    let mut proxy = Proxy::start(&dump, &format!("{name}-0"));
    let (head, body) = request(proxy.outbound(), "GET /x HTTP/1.1\r\nhost: app.example\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(body.contains("\"outside\""), "{body}");
    assert_eq!(proxy.page("/dump").unwrap(), dump, "it believes the same, word for word");
    // The log of a proxy that runs is changed by its page.
    assert_eq!(proxy.page("/logging").as_deref().map(str::trim), Some("info"));
    assert!(proxy.ask("POST /logging?level=debug").is_some());
    assert_eq!(proxy.page("/logging").as_deref().map(str::trim), Some("debug"));
    terminate(&proxy.child, Signal::TERM);
    assert_eq!(wait(&mut proxy.child), Some(0));
}
