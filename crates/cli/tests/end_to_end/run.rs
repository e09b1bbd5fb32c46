//! `lateen run`: one more process in a running mesh.

use std::process::{Child, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::mesh::{Mesh, eventually, lines, terminate, wait};
use crate::service::request;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What came of the call that the process of the directory makes for each request.
fn call(front: std::net::SocketAddr) -> Value {
    let (_, body) = request(front, "GET / HTTP/1.1\r\nhost: front\r\nconnection: close\r\n\r\n");
    serde_json::from_str::<Value>(&body).unwrap()["calls"][0].clone()
}

/// A test service in the mesh; given once it says that it listens.
fn cart(mesh: &Mesh, account: &str) -> Child {
    let name = mesh.name("cart");
    let flags = ["run", "--name", &name, "--port", "8080", "--service-account", account];
    let mut run = mesh.lateen(&[&flags[..], &["--", "lateen", "echo", "--name", "cart"]].concat());
    let mut run = run.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let said = lines(run.stdout.take().unwrap());
    assert!(said.recv_timeout(crate::mesh::DEADLINE).unwrap().starts_with("cart: http on"));
    run
}

#[test]
fn a_process_joins_is_called_under_its_identity_and_leaves() {
    let mut mesh = Mesh::start("join", "");
    let front = mesh.front();
    let proxy = format!("{}.default", mesh.name("cart"));
    let answered = || {
        let call = call(front);
        (call["status"] == 200).then_some(call)
    };
    assert_eq!(answered(), None, "nobody is called so yet");

    let mut run = cart(&mesh, "till");
    let call = eventually("an answer", answered);
    assert_eq!(call["answer"]["service"], "cart");
    let caller = &call["answer"]["caller"];
    assert_eq!(caller["verified_by"], "spiffe://cluster.local/ns/default/sa/till");
    assert_eq!(caller["identity"], "spiffe://cluster.local/ns/default/sa/default");
    assert!(mesh.proxies().contains(&proxy));

    terminate(&run, Signal::INT);
    assert_eq!(wait(&mut run), Some(0), "the exit code of the process that was asked to end");
    eventually("its end in the mesh", || (!mesh.proxies().contains(&proxy)).then_some(()));
    eventually("no answer", || answered().is_none().then_some(()));

    // The same name again, at once; this time its caller is killed, and it goes with it.
    let mut run = cart(&mesh, "default");
    eventually("an answer", answered);
    run.kill().unwrap();
    run.wait().unwrap();
    eventually("its end in the mesh", || (!mesh.proxies().contains(&proxy)).then_some(()));
    eventually("no answer", || answered().is_none().then_some(()));
    let left = || std::fs::read_dir(mesh.state().join("manifests")).unwrap().count();
    eventually("no service left behind", || (left() == 0).then_some(()));

    // A process that joined ends with the mesh, and its caller tells so.
    let mut run = cart(&mesh, "default");
    assert_eq!(mesh.stop(), Some(0));
    assert_eq!(wait(&mut run), Some(0));
    let output = mesh.output(&["run", "--name", "late", "--", "true"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("hint: start one with `lateen up DIR`"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn the_process_has_what_its_caller_has_and_tells_how_it_ended() {
    let mesh = Mesh::start("caller", "");
    mesh.wait_for("admin pages");
    let run = |name: &str, more: &[&str], input: &str| {
        let name = mesh.name(name);
        mesh.output(&[&["run", "--name", &name][..], more].concat(), input)
    };
    let shell = |script| run("shell", &["--", "sh", "-c", script], "").status.code();
    assert_eq!(shell("exit 3"), Some(3));
    assert_eq!(shell("kill -9 $$"), Some(128 + 9));
    assert_eq!(text(&run("cat", &["--", "cat"], "through\n").stdout), "through\n");

    let script = "pwd; echo $MINE $PORT $1 >&2; echo $POD_NAME.$POD_NAMESPACE $LATEEN_STATE";
    let name = mesh.name("sees");
    let arguments = ["run", "--name", &name, "-n", "tools", "-p", "7000", "--", "sh", "-c", script, "sh"];
    let mut command = mesh.lateen(&[&arguments[..], &["${service:other.default:80}"]].concat());
    let directory = mesh.state();
    let output = command.env("MINE", "${port:7000}").current_dir(&directory).output().unwrap();
    let directory = std::fs::canonicalize(directory).unwrap();
    assert_eq!(text(&output.stdout), format!("{}\n{name}.tools\n", directory.display()));
    let words = text(&output.stderr);
    let [mine, port, service] = words.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{words}") };
    assert!(mine == port && port.parse::<u16>().is_ok(), "{words}");
    assert!(service.starts_with("127.") && service.ends_with(":80"), "{words}");
}

#[test]
fn a_killed_control_plane_and_a_new_start_change_nothing_for_who_joins() {
    let mut mesh = Mesh::start("again", "");
    let front = mesh.front();
    let answered = |front| Some(call(front)).filter(|call| call["status"] == 200);
    let mut run = cart(&mesh, "default");
    eventually("an answer", || answered(front));
    mesh.kill_control();
    assert!(answered(front).is_some(), "nobody needs it for what is known");
    // What joins waits until it is back.
    let output = mesh.output(&["run", "--name", &mesh.name("other"), "-p", "7000", "--", "true"], "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(answered(front).is_some(), "who has joined stays");
    assert_eq!(mesh.stop(), Some(0));
    assert_eq!(wait(&mut run), Some(0));

    mesh.start_again();
    let front = mesh.front();
    let mut run = cart(&mesh, "default");
    eventually("an answer", || answered(front));
    terminate(&run, Signal::INT);
    assert_eq!(wait(&mut run), Some(0));
}

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: taken-TAG, namespace: default}
spec: {selector: {app: somebody}, ports: [{port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart-TAG, namespace: default}
spec: {selector: {app: cart-TAG}, ports: [{name: http, port: 8080}]}
";

#[test]
fn names_that_are_taken_are_refused_and_services_of_the_user_left_alone() {
    let mesh = Mesh::start("taken", SERVICES);
    let front = mesh.front();
    let refused = |name: &str, more: &[&str], expected: &str| {
        let output = mesh.output(&[&["run", "--name", name][..], more].concat(), "");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(expected) && stderr.contains("\nhint: "), "{stderr}");
    };
    refused(&mesh.name("front"), &["--", "true"], "by a process of the directory");
    refused(&mesh.name("none"), &["--", "./no-such-program"], "start ./no-such-program");
    let taken = mesh.name("taken");
    refused(&taken, &["-p", "8080", "--", "sleep", "1000"], "does not select this process");

    // A service of the user that selects the process is its service; none is made beside it.
    let mut run = cart(&mesh, "default");
    refused(&mesh.name("cart"), &["--", "true"], "by another `lateen run`");
    let call = eventually("an answer", || Some(call(front)).filter(|call| call["status"] == 200));
    assert_eq!(call["answer"]["service"], "cart");
    assert!(!mesh.state().join("manifests").join(format!("run.{}.default.json", mesh.name("cart"))).exists());
    terminate(&run, Signal::TERM);
    assert_eq!(wait(&mut run), Some(0));
}

#[test]
fn wrong_wishes_are_wrong_usage_and_need_no_mesh() {
    let nowhere = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (&["--name", "a", "--port", "0", "--", "true"][..], "--port"),
        (&["--name", "a", "--port", "15008", "--", "true"], "sidecar"),
        (&["--name", "a", "-p", "80", "-p", "80", "--", "true"], "twice"),
        (&["--name", "A", "--", "true"], "name"),
        (&["--name", "a", "--label", "x", "--", "true"], "KEY=VALUE"),
        (&["--name", "a"], "COMMAND"),
        (&["--", "true"], "--name"),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lateen"));
        let output = command.arg("run").args(arguments).env("LATEEN_STATE", nowhere.path()).output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lateen"));
    command.args(["run", "--name", "a", "--", "true", "--state"]).env("LATEEN_STATE", nowhere.path());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains(&format!("{}", nowhere.path().display())),
        "{}",
        text(&output.stderr)
    );
}
