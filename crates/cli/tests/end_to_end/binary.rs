//! The binary: exit codes, what it prints where, signals, the environment.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};

use crate::service::{Service, request};

fn lateen() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lateen"));
    command.env_remove("PORT").env_remove("HTTP_PROXY").env_remove("http_proxy").env("NO_COLOR", "1");
    command
}

fn run(arguments: &[&str]) -> Output {
    lateen().args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &["nonsense"][..],
        &[],
        &["load"],
        &["load", "nowhere"],
        &["load", "http://localhost/", "--rate", "-1"],
        &["echo", "--http", "x"],
        &["echo", "--call", "ftp://x"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_version_and_completions_go_to_stdout() {
    for (arguments, expected) in [
        (&["--version"][..], "lateen 0."),
        (&["--help"], "echo"),
        (&["load", "--help"], "Examples:"),
        (&["completions", "bash"], "_lateen"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(text(&output.stdout).contains(expected), "{arguments:?}");
    }
}

#[test]
fn a_failure_says_why_and_what_to_do() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run(&["load", &format!("http://{nobody}/")]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with(&format!("error: connect to {nobody}: ")), "{stderr}");
    assert!(stderr.contains("\nhint: ") && !stderr.contains('\u{1b}'), "{stderr}");
}

#[test]
fn strict_load_fails_when_a_request_fails() {
    let service = Service::named("a");
    let url = format!("http://{}/?status=500", service.http);
    let load = |more: &[&str]| {
        let arguments = [&["load", &url, "--duration", "100ms", "--json"], more].concat();
        let output = run(&arguments);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report["statuses"]["500"].as_u64().unwrap() > 0)
    };
    assert_eq!(load(&[]), (Some(0), true));
    assert_eq!(load(&["--strict"]), (Some(1), true));
}

/// A service on a free port, and its first line: `name: http on [::]:1234`.
fn echo(mut command: Command) -> (Child, std::net::SocketAddr) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let port = line.trim_end().rsplit(':').next().unwrap().parse().unwrap();
    (child, ([127, 0, 0, 1], port).into())
}

fn terminate(mut child: Child) -> Option<i32> {
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    child.wait().unwrap().code()
}

#[test]
fn echo_takes_its_port_from_the_environment_and_ends_on_sigterm() {
    let mut command = lateen();
    command.args(["echo", "--name", "a"]).env("PORT", "0");
    let (child, address) = echo(command);
    let (head, _) = request(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(terminate(child), Some(0));
}

#[test]
fn echo_calls_through_the_proxy_that_the_environment_names() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = lateen();
    command.args(["echo", "--http", "0", "--call", "http://reviews.test:9080/x"]);
    command.env("HTTP_PROXY", format!("http://{}", proxy.local_addr().unwrap()));
    let (child, address) = echo(command);
    let seen = std::thread::spawn(move || {
        let (mut stream, _) = proxy.accept().unwrap();
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n42").unwrap();
        line
    });
    let (_, body) = request(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(body.contains("\"answer\":42"), "{body}");
    assert_eq!(seen.join().unwrap(), "GET http://reviews.test:9080/x HTTP/1.1\r\n");
    assert_eq!(terminate(child), Some(0));
}
