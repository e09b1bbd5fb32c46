//! Real clients and servers through one proxy, and through two with mTLS between them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use anyhow::{Context as _, ensure};
use lateen_peers::backend::Backends;
use lateen_peers::nginx::Nginx;
use lateen_peers::peers::Peer;
use lateen_peers::proxy::{Plan, Way};
use serde_json::Value;

use crate::Case;

pub(crate) const CASES: &[Case] = &[
    ("curl_in_every_version", &[Peer::Curl], curl_in_every_version),
    ("curl_moves_ten_mebibytes_both_ways", &[Peer::Curl, Peer::Nginx], curl_moves_much),
    ("curl_sees_events_as_they_come", &[Peer::Curl], curl_sees_events),
    ("nghttp_by_knowledge_and_by_upgrade", &[Peer::Nghttp], nghttp),
    ("nginx_behind_us", &[Peer::Curl, Peer::Nginx], nginx_behind_us),
    ("websockets", &[Peer::Python], websockets),
    ("grpc_of_python", &[Peer::Python], grpc),
    ("wrk_without_an_error", &[Peer::Wrk, Peer::Nginx], wrk),
];

/// Does the same through one proxy and through a pair.
fn both(
    port: &str,
    application: SocketAddr,
    test: impl Fn(SocketAddr) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for pair in [false, true] {
        let way = Way::start(&Plan { port, application, objects: "", pair })?;
        test(way.address).with_context(|| if pair { "through a pair" } else { "through one proxy" })?;
        for proxy in way.proxies {
            proxy.finish()?;
        }
    }
    Ok(())
}

/// What a program printed, if it was content.
fn run(peer: Peer, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(peer.need()?).args(arguments).stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{peer:?} {arguments:?}: {}\n{error}\n{text}", output.status);
    Ok(text)
}

/// A server that is a Python script: it prints its port and ends with its standard input.
struct Script {
    child: Child,
    at: SocketAddr,
}

impl Script {
    fn serve(name: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(Peer::Python.need()?);
        command.arg(script(name)).arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("a pipe")?).read_line(&mut line)?;
        Ok(Self { child, at: format!("127.0.0.1:{}", line.trim()).parse()? })
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn script(name: &str) -> String {
    format!("{}/python/{name}.py", env!("CARGO_MANIFEST_DIR"))
}

fn curl_in_every_version() -> anyhow::Result<()> {
    let backends = Backends::start(&["app"])?;
    both("http", backends.at("app"), |at| {
        let url = format!("http://{at}/a?b");
        for (flags, protocol, version) in [
            (&["--http1.1"][..], "HTTP/1.1", "1.1"),
            (&["-0"], "HTTP/1.1", "1.1"),
            (&["--http2-prior-knowledge"], "HTTP/1.1", "2"),
            (&["--http2"], "HTTP/1.1", "2"),
            (&["--http1.1", "-H", "Expect: 100-continue", "--data-binary", "hello"], "HTTP/1.1", "1.1"),
            (&["--http2-prior-knowledge", "--data-binary", "hello"], "HTTP/1.1", "2"),
            (&["--http1.1", "-H", "Transfer-Encoding: chunked", "--data-binary", "hello"], "HTTP/1.1", "1.1"),
        ] {
            let mut arguments = vec!["-sS", "-m", "20", "-w", "\n%{http_code} %{http_version}", url.as_str()];
            arguments.extend(flags);
            let text = run(Peer::Curl, &arguments)?;
            let (body, last) = text.rsplit_once('\n').context("two lines")?;
            ensure!(last == format!("200 {version}"), "{flags:?}: {last}");
            let seen: Value = serde_json::from_str(body)?;
            ensure!(seen["protocol"] == protocol && seen["target"] == "/a?b", "{flags:?}: {seen}");
            let sent = if flags.contains(&"hello") { "hello" } else { "" };
            ensure!(seen["body"] == sent, "{flags:?}: {seen}");
        }
        // Three requests of one curl use one connection.
        let text = run(
            Peer::Curl,
            &["-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n", &url]
                .into_iter()
                .chain(["-o", "/dev/null", &url, "-o", "/dev/null", &url])
                .collect::<Vec<_>>(),
        )?;
        ensure!(text == "200 1\n200 0\n200 0\n", "{text}");
        let head = run(Peer::Curl, &["-sS", "-m", "20", "-I", &url])?;
        ensure!(head.starts_with("HTTP/1.1 200") && head.contains("content-length:"), "{head}");
        Ok(())
    })
}

/// Bytes that no compression makes small, the same on every machine.
fn much() -> Vec<u8> {
    let mut die = lateen_peers::random::Die::new(10);
    (0..10 * 1024 * 1024 / 8).flat_map(|_| die.next_u64().to_be_bytes()).collect()
}

fn curl_moves_much() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, back) = (folder.path().join("much"), folder.path().join("back"));
    let bytes = much();
    std::fs::write(&file, &bytes)?;
    let script = Script::serve("echo_peer")?;
    both("http", script.at, |at| {
        for flag in ["--http1.1", "--http2-prior-knowledge"] {
            let upload = format!("@{}", file.display());
            let (url, output) = (format!("http://{at}/"), back.to_string_lossy().into_owned());
            run(Peer::Curl, &["-sSf", "-m", "60", flag, "--data-binary", &upload, "-o", &output, &url])?;
            ensure!(std::fs::read(&back)? == bytes, "{flag}: other bytes came back");
        }
        Ok(())
    })
}

fn curl_sees_events() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    let (go, wait) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut tcp) = stream else { continue };
            let _ = tcp.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            let _ = tcp.write_all(format!("{head}data: one\n\n").as_bytes());
            // The second event is sent only when the first has arrived.
            if wait.recv().is_err() {
                return;
            }
            let _ = tcp.write_all(b"data: two\n\n");
        }
    });
    both("http", at, |at| {
        let mut command = Command::new(Peer::Curl.need()?);
        command.args(["-sSN", "-m", "20", &format!("http://{at}/events")]).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let mut next = || lines.next().transpose();
        ensure!(next()?.as_deref() == Some("data: one"), "the first event");
        go.send(())?;
        ensure!(
            next()?.as_deref() == Some("") && next()?.as_deref() == Some("data: two"),
            "the second event"
        );
        ensure!(child.wait()?.success(), "curl is not content");
        Ok(())
    })
}

fn nghttp() -> anyhow::Result<()> {
    let backends = Backends::start(&["app"])?;
    for port in ["http", "http2"] {
        both(port, backends.at("app"), |at| {
            let url = format!("http://{at}/a");
            for flags in [&["-v"][..], &["-v", "-u"], &["-v", "-m", "20"], &["-v", "--no-push", "-w", "16"]] {
                let mut arguments = flags.to_vec();
                arguments.push(&url);
                let text = run(Peer::Nghttp, &arguments)?;
                let answers = text.matches(":status: 200").count();
                let wanted = if flags.contains(&"20") { 20 } else { 1 };
                ensure!(answers == wanted && text.contains("\"backend\":\"app\""), "{flags:?}: {text}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

const NGINX: &str = "
  if_modified_since before;
  gzip on; gzip_types text/plain; gzip_min_length 10; gzip_http_version 1.0;
  location = /none { return 204; }
  location = /text { default_type text/plain; return 200 'hello hello hello hello hello hello hello'; }
  location = /gone { return 404; }
  location / { root .; }
";

fn nginx_behind_us() -> anyhow::Result<()> {
    for (timeout, requests) in [("5s", 1), ("5s", 2), ("5s", 3), ("0", 100), ("1s", 1000)] {
        let server = format!("keepalive_timeout {timeout}; keepalive_requests {requests}; {NGINX}");
        let nginx = Nginx::start(&server)?;
        std::fs::write(nginx.files().join("file.txt"), "content of a file")?;
        both("http", nginx.address, |at| {
            let base = format!("http://{at}");
            let status = |flags: &[&str], path: &str, expected: &str| -> anyhow::Result<String> {
                let url = format!("{base}{path}");
                let mut arguments = vec!["-sS", "-m", "20", "-w", "\n%{http_code}", &url];
                arguments.extend(flags);
                let text = run(Peer::Curl, &arguments)?;
                let (body, status) = text.rsplit_once('\n').context("a status")?;
                ensure!(status == expected, "{requests} requests, {timeout}: {flags:?} {path} {status}");
                Ok(body.to_owned())
            };
            let many: Vec<String> = (0..20).map(|n| format!("{base}/text?{n}")).collect();
            let mut arguments = vec!["-sS", "-m", "20", "-w", "%{http_code}\n", "-o", "/dev/null"];
            for url in &many {
                arguments.extend(["-o", "/dev/null", url]);
            }
            let text = run(Peer::Curl, &arguments)?;
            ensure!(text == "200\n".repeat(20), "{requests} requests, {timeout}: {text}");
            ensure!(status(&[], "/none", "204")?.is_empty(), "204 has a body");
            ensure!(status(&["-I"], "/file.txt", "200")?.contains("ength: 17"), "HEAD says no length");
            ensure!(status(&[], "/file.txt", "200")? == "content of a file", "another file");
            let ranged = status(&["-r", "0-6"], "/file.txt", "206")?;
            ensure!(ranged == "content", "another range: {ranged}");
            let since = "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT";
            ensure!(status(&["-H", since], "/file.txt", "304")?.is_empty(), "304 has a body");
            let plain = status(&["--compressed"], "/text", "200")?;
            ensure!(plain.starts_with("hello hello"), "what was compressed is something else: {plain}");
            let head =
                status(&["-H", "Accept-Encoding: gzip", "-D", "-", "-o", "/dev/null"], "/text", "200")?;
            ensure!(head.to_ascii_lowercase().contains("content-encoding: gzip"), "not compressed: {head}");
            status(&["--data", "x=y"], "/gone", "404")?;
            Ok(())
        })?;
    }
    Ok(())
}

fn websockets() -> anyhow::Result<()> {
    let server = Script::serve("websocket_peer")?;
    both("http", server.at, |at| {
        let text = run(Peer::Python, &[&script("websocket_peer"), "call", &format!("ws://{at}/chat")])?;
        ensure!(text.trim() == "ok", "{text}");
        Ok(())
    })
}

fn grpc() -> anyhow::Result<()> {
    let server = Script::serve("grpc_peer")?;
    both("grpc", server.at, |at| {
        let text = run(Peer::Python, &[&script("grpc_peer"), "call", &at.to_string()])?;
        ensure!(text.lines().count() == 16 && text.lines().all(|line| line.starts_with("ok ")), "{text}");
        Ok(())
    })
}

fn wrk() -> anyhow::Result<()> {
    let nginx = Nginx::start(&format!("keepalive_requests 100; {NGINX}"))?;
    both("http", nginx.address, |at| {
        let text = run(Peer::Wrk, &["-t1", "-c16", "-d1s", &format!("http://{at}/text")])?;
        ensure!(text.contains("requests in"), "{text}");
        ensure!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
        Ok(())
    })
}
