//! A whole proxy without control plane: from a file to an answer, and to its end.

use std::io::Read as _;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use lateen_model::{AppProtocol, Catalog, Delta, Tunnel};
use lateen_wire::json;
use tokio::task::JoinHandle;

use super::*;
use crate::tests::mesh::{Wire, echo, get, in_time, instance, own_address, service};

struct Running {
    ended: JoinHandle<Result<(), Error>>,
    ending: Ending,
    bound: Vec<Bound>,
    own: IpAddr,
    directory: tempfile::TempDir,
}

impl Running {
    fn at(&self, name: &str) -> SocketAddr {
        self.bound.iter().find(|bound| bound.name == name).expect(name).address
    }
}

/// A proxy beside nothing, in front of an application without proxy, in plain mode.
async fn start() -> Running {
    let app = echo("app").await;
    let mut catalog = Catalog::default();
    let set =
        vec![service("app", AppProtocol::Http1), instance("app", app, AppProtocol::Http1, Tunnel::None)];
    catalog.apply(&Delta { set, removed: Vec::new() });
    let directory = tempfile::tempdir().expect("a directory");
    let resources = directory.path().join("resources.yaml");
    std::fs::write(&resources, json::to_yaml(&catalog)).expect("written");
    let own = own_address();
    let bootstrap = serde_json::json!({
        "role": "sidecar", "name": "client", "namespace": "default", "workers": 2, "drainSeconds": 5,
        "control": { "from": "files", "resources": resources },
        "admin": { "socket": directory.path().join("admin.sock") },
        "plain": {
            "hbone": SocketAddr::new(own, 0),
            "outbound": [{ "listen": SocketAddr::new(own, 0), "host": "app", "port": 80 }],
            "httpProxy": SocketAddr::new(own, 0),
        },
    });
    let bootstrap = Bootstrap::parse(bootstrap.to_string().as_bytes()).expect("a bootstrap");
    let mut built = App::build(&bootstrap, None).expect("builds");
    let log = File::create(directory.path().join("access.log")).expect("a log");
    let (mut reader, writer) = io::pipe().expect("a pipe");
    built.descriptors.ready = Some(File::from(OwnedFd::from(writer)));
    built.write_access_log_to(log);
    let (ending, listening) = (built.ending(), built.listening());
    let ended = tokio::spawn(built.run());
    let mut said = Vec::new();
    let said = tokio::task::spawn_blocking(move || reader.read_to_end(&mut said).map(|_| said));
    assert_eq!(in_time(said).await.expect("no panic").expect("read"), b"\n", "one byte, then the end");
    let bound = listening.borrow().clone();
    Running { ended, ending, bound, own, directory }
}

#[tokio::test]
async fn it_answers_from_a_file_and_ends_when_told() {
    let proxy = start().await;
    let mut caller = Wire::connect(proxy.at("outbound")).await;
    let (status, body) = caller.ask(&get("/x")).await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(body.starts_with("app\nGET /x HTTP/1.1\r\n"), "{body}");
    let mut browser = Wire::connect(proxy.at("http-proxy")).await;
    let (status, _) = browser.ask("GET http://app.default/y HTTP/1.1\r\nHost: app.default\r\n\r\n").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert_eq!(proxy.at("hbone").ip(), proxy.own);

    proxy.ending.gracefully();
    assert_eq!(caller.rest().await, "", "the idle connection is ended");
    in_time(proxy.ended).await.expect("no panic").expect("ends well");
    assert!(!proxy.directory.path().join("admin.sock").exists());
    let log = std::fs::read_to_string(proxy.directory.path().join("access.log")).expect("the log");
    assert_eq!(log.lines().count(), 2, "{log}");
    assert!(log.contains("\"/x\"") && log.contains("\"/y\""), "{log}");
}

#[tokio::test]
async fn who_insists_does_not_wait() {
    let proxy = start().await;
    let mut caller = Wire::connect(proxy.at("outbound")).await;
    caller.send("GET /x HTTP/1.1\r\nHost: app\r\nContent-Length: 10\r\n\r\nhalf").await;
    proxy.ending.gracefully();
    assert!(!proxy.ended.is_finished());
    proxy.ending.at_once();
    in_time(proxy.ended).await.expect("no panic").expect("ends well");
}

#[tokio::test]
async fn what_is_wrong_is_said_before_anything_starts() {
    let wrong = |text: &str| {
        let text = text.replace('\'', "\"");
        let bootstrap = Bootstrap::parse(text.as_bytes()).expect("a bootstrap");
        let error = App::build(&bootstrap, None).err().expect("refused");
        identity::chain(&error)
    };
    let plain = "'name':'a','namespace':'b','role':'sidecar','plain':{'hbone':'127.0.0.1:0'}";
    let files = "'control':{'from':'files','resources':'/nowhere.yaml'}";
    let at = "'at':{'socket':'/c.sock'},'identity':'lateen','rootCertificates':''";
    for (bootstrap, part) in [
        (format!("{{{plain},{files}}}"), "read resources from /nowhere.yaml"),
        (format!("{{{plain},'control':{{'from':'plane',{at}}}}}"), "expected spiffe://TRUST-DOMAIN"),
        (
            format!("{{{plain},'control':{{'from':'files','resources':'r','privateKey':'k'}}}}"),
            "belong together",
        ),
        (
            format!(
                "{{{plain},'control':{{'from':'plane',{}}}}}",
                at.replace("'lateen'", "'spiffe://a/ns/b/sa/c'")
            ),
            "root certificates: none in the text",
        ),
        (format!("{{'name':'a','namespace':'b','role':'node',{files}}}"), "cannot be played yet"),
    ] {
        let said = wrong(&bootstrap);
        assert!(said.contains(part), "{bootstrap}: {said}");
    }
}
