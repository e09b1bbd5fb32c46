//! HTTP/1.1 and HTTP/2 on either side, in every combination: one script of requests and answers, four ways through.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use lateen_model::AppProtocol;
use tokio::sync::mpsc;

use super::http2::{app2, caller2};
use super::mesh::*;

/// A message without what differs from protocol to protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Message {
    /// Of an answer.
    status: u16,
    /// `content-length`, where it says more than the body.
    length: Option<u64>,
    body: String,
    trailer: Option<String>,
    /// It was cut short.
    cut: bool,
}

fn message(body: &str, trailer: Option<&str>) -> Message {
    Message { body: body.into(), trailer: trailer.map(Into::into), ..Message::default() }
}

fn answer(status: u16, body: &str, trailer: Option<&str>) -> Message {
    Message { status, ..message(body, trailer) }
}

/// What the caller sends, what the application answers, and what the caller sees of it.
struct Case {
    name: &'static str,
    method: Method,
    request: Message,
    answer: Message,
    seen: Message,
}

fn cases() -> Vec<Case> {
    let case =
        |name, method, request, answer: Message| Case { name, method, request, seen: answer.clone(), answer };
    let length = |status, length| Message { length, ..answer(status, "", None) };
    vec![
        case("no body", Method::GET, message("", None), answer(200, "", None)),
        case("a body back", Method::GET, message("", None), answer(200, "answer", None)),
        case("a body each", Method::PUT, message("question", None), answer(201, "answer", None)),
        case("trailers each", Method::POST, message("question", Some("1")), answer(200, "answer", Some("2"))),
        case("trailers without a body", Method::POST, message("", Some("1")), answer(200, "", Some("2"))),
        case("HEAD", Method::HEAD, message("", None), length(200, Some(1234))),
        case("HEAD without a length", Method::HEAD, message("", None), length(200, None)),
        case("204", Method::GET, message("", None), answer(204, "", None)),
        case("304 with a length", Method::GET, message("", None), length(304, Some(99))),
        case("an error", Method::DELETE, message("", None), answer(500, "sorry", None)),
        case(
            "an answer cut short",
            Method::GET,
            message("", None),
            Message { cut: true, ..answer(200, "half", None) },
        ),
    ]
}

/// A caller of either protocol asks once.
async fn ask(at: SocketAddr, h2: bool, method: &Method, request: &Message) -> Message {
    if h2 { ask_h2(at, method, request).await } else { ask_h1(at, method, request).await }
}

async fn ask_h1(at: SocketAddr, method: &Method, request: &Message) -> Message {
    let mut wire = Wire::connect(at).await;
    let head = format!("{method} /x HTTP/1.1\r\nHost: app\r\nTE: trailers\r\n");
    if request.body.is_empty() && request.trailer.is_none() {
        wire.send(format!("{head}\r\n")).await;
    } else {
        wire.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n")).await;
        wire.send(chunks(request)).await;
    }
    let head = wire.head().await;
    read_h1(&mut wire, &head, method == Method::HEAD).await
}

fn chunks(message: &Message) -> String {
    let mut out = String::new();
    if !message.body.is_empty() {
        out += &format!("{:x}\r\n{}\r\n", message.body.len(), message.body);
    }
    if message.cut {
        return out;
    }
    let trailer = message.trailer.as_ref().map(|value| format!("x-end: {value}\r\n")).unwrap_or_default();
    out + "0\r\n" + &trailer + "\r\n"
}

/// Reads the rest of a message of HTTP/1.1.
async fn read_h1(wire: &mut Wire, head: &str, bodiless: bool) -> Message {
    let lower = head.to_ascii_lowercase();
    let status = head.strip_prefix("HTTP/1.1 ").map_or(0, |rest| rest[..3].parse().expect("a status"));
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<u64>().ok());
    let mut read = Message { status, ..Message::default() };
    if bodiless || matches!(status, 204 | 304) {
        read.length = length;
        return read;
    }
    if !lower.contains("transfer-encoding: chunked\r\n") {
        let body = wire.exactly(length.unwrap_or(0) as usize).await;
        read.body = String::from_utf8(body).expect("text");
        return read;
    }
    let mut all = String::new();
    loop {
        match wire.try_exactly(1).await {
            Some(byte) => all.push(byte[0] as char),
            None => {
                read.cut = true;
                break;
            }
        }
        if all.ends_with("\r\n\r\n") && (all.starts_with("0\r\n") || all.contains("\r\n0\r\n")) {
            break;
        }
    }
    let mut rest = all.as_str();
    while let Some((size, after)) = rest.split_once("\r\n") {
        match usize::from_str_radix(size, 16).expect("a size") {
            0 => {
                read.trailer = after.lines().find_map(|line| line.strip_prefix("x-end: ")).map(str::to_owned);
                break;
            }
            size => {
                read.body.push_str(&after[..size]);
                rest = &after[size + 2..];
            }
        }
    }
    read
}

async fn ask_h2(at: SocketAddr, method: &Method, request: &Message) -> Message {
    let mut caller = caller2(at).await;
    let head = Request::builder().method(method.clone()).uri("http://app/x").body(()).expect("a request");
    let ends = request.body.is_empty() && request.trailer.is_none();
    let (response, mut up) = caller.send_request(head, ends).expect("sent");
    if !ends {
        send_h2(&mut up, request);
    }
    let Ok(response) = in_time(response).await else { return Message { cut: true, ..Message::default() } };
    let (head, body) = response.into_parts();
    let mut read = read_h2(body).await;
    read.status = head.status.as_u16();
    let length =
        head.headers.get("content-length").map(|l| l.to_str().expect("text").parse().expect("a number"));
    if method == Method::HEAD || matches!(read.status, 204 | 304) {
        read.length = length;
    }
    read
}

fn send_h2(stream: &mut h2::SendStream<Bytes>, message: &Message) {
    if !message.body.is_empty() {
        stream.send_data(Bytes::from(message.body.clone()), false).expect("sent");
    }
    match &message.trailer {
        Some(value) => {
            let name = http::HeaderName::from_static("x-end");
            let map = HeaderMap::from_iter([(name, value.parse().expect("a value"))]);
            stream.send_trailers(map).expect("sent");
        }
        None => stream.send_data(Bytes::new(), true).expect("sent"),
    }
}

async fn read_h2(mut stream: h2::RecvStream) -> Message {
    let mut read = Message::default();
    while let Some(data) = in_time(stream.data()).await {
        let Ok(data) = data else {
            read.cut = true;
            return read;
        };
        read.body.push_str(std::str::from_utf8(&data).expect("text"));
        stream.flow_control().release_capacity(data.len()).expect("released");
    }
    let trailers = in_time(stream.trailers()).await.expect("trailers");
    read.trailer = trailers.and_then(|map| Some(map.get("x-end")?.to_str().expect("text").to_owned()));
    read
}

/// An application of either protocol, which tells what it was asked and answers from the list.
async fn application(h2: bool, answers: Vec<Message>) -> (mpsc::UnboundedReceiver<Message>, SocketAddr) {
    let (told, asked) = mpsc::unbounded_channel();
    if h2 {
        let (mut requests, at) = app2().await;
        tokio::spawn(async move {
            for answer in answers {
                let Some((request, respond)) = requests.recv().await else { return };
                let _ = told.send(read_h2(request.into_body()).await);
                answer_h2(respond, &answer).await;
            }
        });
        return (asked, at);
    }
    let (mut connections, at) = app().await;
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        let mut left = answers.next();
        while left.is_some() {
            let Some(mut wire) = connections.recv().await else { return };
            while let Some(head) = wire.try_head().await {
                let bodiless = head.starts_with("HEAD ");
                let _ = told.send(read_h1(&mut wire, &head, false).await);
                let Some(answer) = left.take() else { return };
                left = answers.next();
                answer_h1(&mut wire, &answer, bodiless).await;
                if answer.cut {
                    break;
                }
            }
        }
    });
    (asked, at)
}

async fn answer_h1(wire: &mut Wire, answer: &Message, bodiless: bool) {
    let length = answer.length.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
    let head = format!("HTTP/1.1 {} x\r\n{length}", answer.status);
    if bodiless || matches!(answer.status, 204 | 304) {
        wire.send(format!("{head}\r\n")).await;
    } else {
        wire.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunks(answer))).await;
    }
}

async fn answer_h2(mut respond: h2::server::SendResponse<Bytes>, answer: &Message) {
    let mut head = Response::new(());
    *head.status_mut() = StatusCode::from_u16(answer.status).expect("a status");
    if let Some(length) = answer.length {
        head.headers_mut().insert("content-length", length.into());
    }
    let ends = answer.body.is_empty() && answer.trailer.is_none();
    let mut stream = respond.send_response(head, ends).expect("sent");
    if answer.cut {
        stream.send_data(Bytes::from(answer.body.clone()), false).expect("sent");
        // What was sent is to arrive before the end of the stream does.
        stream.reserve_capacity(1);
        let _ = in_time(std::future::poll_fn(|context| stream.poll_capacity(context))).await;
        tokio::task::yield_now().await;
        stream.send_reset(h2::Reason::INTERNAL_ERROR);
    } else if !ends {
        send_h2(&mut stream, answer);
    }
}

#[tokio::test]
async fn every_message_crosses_every_way() {
    for (caller_h2, app_h2) in [(false, false), (false, true), (true, false), (true, true)] {
        let cases = cases();
        let (mut asked, at) =
            application(app_h2, cases.iter().map(|case| case.answer.clone()).collect()).await;
        let protocol = if app_h2 { AppProtocol::Http2 } else { AppProtocol::Http1 };
        let (_proxy, front) = front(protocol, &[at], |_| ()).await;
        for case in cases {
            let way = format!("{} (HTTP/2: caller {caller_h2}, application {app_h2})", case.name);
            let mut seen = ask(front, caller_h2, &case.method, &case.request).await;
            if case.seen.cut {
                // How much arrives before the cut is a matter of luck; with HTTP/2 it may be nothing.
                assert!(case.seen.body.starts_with(&seen.body), "{way}");
                seen.body = case.seen.body.clone();
                seen.status = if caller_h2 { case.seen.status } else { seen.status };
            }
            assert_eq!(seen, case.seen, "{way}");
            assert_eq!(in_time(asked.recv()).await, Some(case.request), "{way}");
        }
    }
}

/// An answer that comes before the request is complete goes out at once, and so does the rest of the answer.
#[tokio::test]
async fn early_answers_cross_every_way() {
    for (caller_h2, app_h2) in [(false, false), (false, true), (true, false), (true, true)] {
        let way = format!("HTTP/2: caller {caller_h2}, application {app_h2}");
        let (mut apps1, mut apps2) = (app().await, app2().await);
        let (protocol, at) =
            if app_h2 { (AppProtocol::Http2, apps2.1) } else { (AppProtocol::Http1, apps1.1) };
        let (_proxy, front) = front(protocol, &[at], |_| ()).await;
        let early = answer(413, "too much", None);
        let application = async {
            if app_h2 {
                let (request, respond) = in_time(apps2.0.recv()).await.expect("a request");
                answer_h2(respond, &early).await;
                Some(request)
            } else {
                let mut wire = apps1.0.recv().await.expect("a connection");
                wire.head().await;
                answer_h1(&mut wire, &early, false).await;
                None
            }
        };
        // The body never ends.
        let calling = async {
            if caller_h2 {
                let mut caller = caller2(front).await;
                let head = Request::post("http://app/").body(()).expect("a request");
                let (response, mut up) = caller.send_request(head, false).expect("sent");
                up.send_data(Bytes::from_static(b"begun"), false).expect("sent");
                let (head, body) = in_time(response).await.expect("a response").into_parts();
                Message { status: head.status.as_u16(), ..read_h2(body).await }
            } else {
                let mut wire = Wire::connect(front).await;
                wire.send("POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n")
                    .await;
                let head = wire.head().await;
                read_h1(&mut wire, &head, false).await
            }
        };
        let (_held, seen) = tokio::join!(application, calling);
        assert_eq!(seen, early, "{way}");
    }
}

/// Who gives up on either side ends the other.
#[tokio::test]
async fn a_caller_that_gives_up_ends_the_request_every_way() {
    for (caller_h2, app_h2) in [(false, false), (false, true), (true, false), (true, true)] {
        let way = format!("HTTP/2: caller {caller_h2}, application {app_h2}");
        let (mut apps1, mut apps2) = (app().await, app2().await);
        let (protocol, at) =
            if app_h2 { (AppProtocol::Http2, apps2.1) } else { (AppProtocol::Http1, apps1.1) };
        let (proxy, front) = front(protocol, &[at], |_| ()).await;
        let mut wire = Wire::connect(front).await;
        let mut stream = None;
        if caller_h2 {
            let mut caller = caller2(front).await;
            let head = Request::get("http://app/x").body(()).expect("a request");
            stream = Some((caller.send_request(head, true).expect("sent"), caller));
        } else {
            wire.send(get("/x")).await;
        }
        if app_h2 {
            let (_request, mut respond) = in_time(apps2.0.recv()).await.expect("a request");
            drop((wire, stream));
            let reset = in_time(std::future::poll_fn(|context| respond.poll_reset(context))).await;
            assert_eq!(reset.expect("a reason"), h2::Reason::CANCEL, "{way}");
        } else {
            let mut app = apps1.0.recv().await.expect("a connection");
            app.head().await;
            drop((wire, stream));
            assert_eq!(app.rest().await, "", "{way}");
        }
        assert!(proxy.records.wait(1).await[0].starts_with("GET /x 0 DC "), "{way}");
    }
}
