//! `lateen echo` as its callers see it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use lateen_cli::echo::Config;
use lateen_cli::echo::answer::Answer;

use crate::service::{Service, read_response, request};

fn answer(address: SocketAddr, text: &str) -> Answer {
    serde_json::from_str(&request(address, text).1).unwrap()
}

#[test]
fn says_what_it_received_and_who_called() {
    let service = Service::start(Config {
        name: "reviews".to_owned(),
        version: "v2".to_owned(),
        host: "reviews-1".to_owned(),
        ..Config::default()
    });
    let said = answer(
        service.http,
        "POST /a?b=c HTTP/1.1\r\nZulu: 1\r\nHost: reviews:9080\r\nAlpha: 2\r\nContent-Length: 3\r\n\
         X-Forwarded-Client-Cert: By=spiffe://td/me;URI=spiffe://td/ns/default/sa/front\r\n\r\nabc",
    );
    assert_eq!(
        (said.service.as_str(), said.version.as_str(), said.host.as_str()),
        ("reviews", "v2", "reviews-1")
    );
    assert_eq!((said.request.method.as_str(), said.request.path.as_str()), ("POST", "/a?b=c"));
    assert_eq!(
        (said.request.protocol.as_str(), said.request.authority.as_str()),
        ("HTTP/1.1", "reviews:9080")
    );
    assert_eq!(said.request.body_bytes, 3);
    let names: Vec<&str> = said.request.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["zulu", "host", "alpha", "content-length", "x-forwarded-client-cert"]);
    assert_eq!(said.caller.identity.as_deref(), Some("spiffe://td/ns/default/sa/front"));
    assert_eq!(said.caller.verified_by.as_deref(), Some("spiffe://td/me"));
    assert!(said.caller.address.starts_with("127.0.0.1:"), "{}", said.caller.address);
}

#[test]
fn a_request_says_how_it_wants_to_be_answered() {
    let service = Service::named("a");
    let (head, body) = request(service.http, "GET /?status=418&size=10 HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 418"), "{head}");
    assert_eq!(body, "xxxxxxxxxx");
    for wrong in ["status=99", "status=x", "delay=1", "size=99999999999"] {
        let (head, _) = request(service.http, &format!("GET /?{wrong} HTTP/1.1\r\nhost: a\r\n\r\n"));
        assert!(head.starts_with("HTTP/1.1 400"), "{wrong}: {head}");
    }
}

/// One HTTP/2 request with prior knowledge: status, `grpc-status` if any, body.
async fn http2(address: SocketAddr, request: Request<Full<Bytes>>) -> (u16, Option<String>, Bytes) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let response = sender.send_request(request).await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    let grpc = headers.get("grpc-status").or(trailers.get("grpc-status"));
    (status, grpc.map(|value| value.to_str().unwrap().to_owned()), body.to_bytes())
}

fn grpc(address: SocketAddr, path: &str, message: &'static [u8]) -> Request<Full<Bytes>> {
    let request = Request::post(format!("http://{address}{path}")).header("content-type", "application/grpc");
    request.body(Full::new(Bytes::from_static(message))).unwrap()
}

#[tokio::test]
async fn speaks_http2_on_the_same_port() {
    let service = Service::named("a");
    let request = Request::get(format!("http://{}/two", service.http)).body(Full::default()).unwrap();
    let (status, _, body) = http2(service.http, request).await;
    let said: Answer = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, said.request.protocol.as_str(), said.request.path.as_str()), (200, "HTTP/2", "/two"));
    assert_eq!(said.request.authority, service.http.to_string());
}

#[tokio::test]
async fn speaks_grpc() {
    let service = Service::named("a");
    // Health: an empty message is the whole server; 1 is SERVING.
    let (_, status, body) =
        http2(service.grpc, grpc(service.grpc, "/grpc.health.v1.Health/Check", &[0, 0, 0, 0, 0])).await;
    assert_eq!((status.as_deref(), &body[..]), (Some("0"), &[0, 0, 0, 0, 2, 8, 1][..]));
    // Echo: field 1 of both messages is the text.
    let hello = b"\0\0\0\0\x07\x0a\x05hello";
    let (_, status, body) = http2(service.grpc, grpc(service.grpc, "/lateen.test.Echo/Echo", hello)).await;
    assert_eq!((status.as_deref(), &body[5..12]), (Some("0"), &hello[5..]));
    for (path, message, expected) in [
        ("/lateen.test.Echo/Nothing", &[0, 0, 0, 0, 0][..], "12"),
        ("/grpc.health.v1.Health/Check", b"\0\0\0\0\x03\x0a\x01x", "5"),
        ("/lateen.test.Echo/Echo", b"\x01\0\0\0\0", "3"),
        ("/lateen.test.Echo/Echo", b"\0\0\0", "3"),
    ] {
        let (status, grpc_status, _) = http2(service.grpc, grpc(service.grpc, path, message)).await;
        assert_eq!((status, grpc_status.as_deref()), (200, Some(expected)), "{path}");
    }
}

#[test]
fn answers_lines_over_tcp() {
    let service = Service::named("a");
    let mut stream = TcpStream::connect(service.tcp).unwrap();
    stream.write_all(b"one\r\ntwo").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let lines: Vec<serde_json::Value> =
        BufReader::new(stream).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let said: Vec<_> = lines.iter().map(|line| (line["received"].as_str(), line["bytes"].as_u64())).collect();
    assert_eq!(said, [(Some("one"), Some(5)), (Some("two"), Some(3))]);
}

#[test]
fn both_families_are_served() {
    let service = Service::named("a");
    assert!(TcpStream::connect(("127.0.0.1", service.http.port())).is_ok());
    // A machine without IPv6 has no ::1 to test with.
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        assert!(TcpStream::connect(("::1", service.http.port())).is_ok());
    }
}

#[test]
fn calls_others_and_returns_the_tree() {
    let (ratings, details) = (Service::named("ratings"), Service::named("details"));
    let reviews = Service::start(Config {
        name: "reviews".to_owned(),
        calls: vec![format!("grpc://{}", ratings.grpc).parse().unwrap()],
        ..Config::default()
    });
    let front = Service::start(Config {
        name: "front".to_owned(),
        calls: [
            format!("http://{}/reviews/1", reviews.http),
            format!("tcp://{}", details.tcp),
            format!("http://{}/?status=503", details.http),
        ]
        .map(|url| url.parse().unwrap())
        .to_vec(),
        ..Config::default()
    });
    let said = answer(
        front.http,
        "GET / HTTP/1.1\r\nhost: front\r\nend-user: jason\r\nx-request-id: 7\r\ncookie: c\r\n\r\n",
    );
    let [to_reviews, to_tcp, to_details] = &said.calls[..] else { panic!("{said:?}") };
    let reviews_said: Answer = serde_json::from_value(to_reviews.answer.clone().unwrap()).unwrap();
    assert_eq!(
        (reviews_said.service.as_str(), reviews_said.request.path.as_str()),
        ("reviews", "/reviews/1")
    );
    let ratings_said: Answer = serde_json::from_value(reviews_said.calls[0].answer.clone().unwrap()).unwrap();
    assert_eq!((ratings_said.service.as_str(), ratings_said.request.protocol.as_str()), ("ratings", "gRPC"));
    let headers = &ratings_said.request.headers;
    let value = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    assert_eq!((value("end-user"), value("x-request-id"), value("cookie")), (Some("jason"), Some("7"), None));
    assert_eq!(to_tcp.answer.as_ref().unwrap()["received"], "echo");
    assert_eq!((to_details.status, to_details.is_failed()), (Some(503), true));
}

#[test]
fn a_failed_call_fails_the_answer_only_when_it_is_needed() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (need_calls, status) in [(false, "200"), (true, "502")] {
        let calls = vec![format!("http://{nobody}/").parse().unwrap()];
        let service = Service::start(Config { calls, need_calls, ..Config::default() });
        let (head, body) = request(service.http, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        let said: Answer = serde_json::from_str(&body).unwrap();
        assert!(said.calls[0].error.as_ref().unwrap().contains("refused"), "{said:?}");
    }
}

#[test]
fn a_circle_of_calls_comes_to_an_end() {
    // A port that is free now; the service that calls itself takes it.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let calls = vec![format!("http://{address}/").parse().unwrap()];
    let ports = lateen_cli::echo::Ports { http: vec![address.port()], ..Default::default() };
    let config = Config { calls, ..Config::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let echo = runtime.block_on(async { lateen_cli::echo::Echo::bind(config, &ports) }).unwrap();
    std::thread::spawn(move || runtime.block_on(echo.run(Default::default())));
    let (_, body) = request(address, "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(body.contains("in a circle"), "{body}");
}

#[test]
fn stopped_it_finishes_what_is_under_way() {
    let service = Service::named("a");
    let (http, tcp) = (service.http, service.tcp);
    let mut idle = TcpStream::connect(tcp).unwrap();
    let mut busy = TcpStream::connect(http).unwrap();
    busy.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut busy = BufReader::new(busy);
    // The first answer shows that the connection was accepted and is kept.
    let (head, _) = read_response(&mut busy);
    assert!(!head.contains("connection: close"), "{head}");
    let start = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
    busy.get_mut().write_all(start).unwrap();
    // The interim answer shows that the request is under way.
    let (head, _) = read_response(&mut busy);
    assert!(head.starts_with("HTTP/1.1 100"), "{head}");
    service.stop();
    // Nobody listens any more: the connections have been told as well.
    while TcpStream::connect(http).is_ok() {}
    busy.get_mut().write_all(b"abcd").unwrap();
    let (head, body) = read_response(&mut busy);
    assert!(head.contains("connection: close"), "{head}");
    assert!(body.contains("\"body_bytes\":4"), "{body}");
    service.join();
    assert_eq!(idle.read(&mut [0; 8]).unwrap(), 0);
}
