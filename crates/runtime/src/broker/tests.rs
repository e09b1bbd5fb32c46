use super::*;
use crate::sock::seqpacket_pair;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn check_text<T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug>(message: T, text: &str) {
    assert_eq!(String::from_utf8(encode(&message).expect("encodes")).expect("text"), text);
    assert_eq!(decode::<T>(text.as_bytes()).expect("reads"), message);
}

#[test]
fn messages_look_as_agreed() {
    check_text(
        Request { id: 1, ask: Ask::Connect(address("93.184.216.34:443")) },
        r#"{"id":1,"connect":"93.184.216.34:443"}"#,
    );
    check_text(Request { id: 2, ask: Ask::Listen { port: 80 } }, r#"{"id":2,"listen":{"port":80}}"#);
    check_text(Request { id: 3, ask: Ask::Resolver {} }, r#"{"id":3,"resolver":{}}"#);
    check_text(Answer::granted(1, None), r#"{"id":1}"#);
    check_text(
        Answer::granted(2, Some(address("127.0.0.1:8080"))),
        r#"{"id":2,"published":"127.0.0.1:8080"}"#,
    );
    let refused = Answer::refused(3, &io::Error::from_raw_os_error(111));
    let kind = refused.failure().map(|error| error.kind());
    assert_eq!((refused.errno, kind), (Some(111), Some(io::ErrorKind::ConnectionRefused)));
}

/// A broker that really connects and listens, on this machine.
async fn serve(socket: BrokerSocket) {
    while let Some(Request { id, ask }) = socket.next().await.expect("a question") {
        let granted: io::Result<(OwnedFd, Option<SocketAddr>)> = match ask {
            Ask::Connect(address) => {
                std::net::TcpStream::connect(address).map(|stream| (stream.into(), None))
            }
            Ask::Listen { .. } => std::net::TcpListener::bind("127.0.0.1:0").map(|listener| {
                let published = listener.local_addr().ok();
                (listener.into(), published)
            }),
            Ask::Resolver {} => std::net::UdpSocket::bind("127.0.0.1:0").map(|socket| (socket.into(), None)),
        };
        match granted {
            Ok((fd, published)) => socket.answer(&Answer::granted(id, published), Some(fd.as_fd())).await,
            Err(error) => socket.answer(&Answer::refused(id, &error), None).await,
        }
        .expect("answers");
    }
}

#[tokio::test]
async fn sockets_come_from_outside() {
    let (near, far) = seqpacket_pair().expect("pair");
    let server = tokio::spawn(serve(BrokerSocket::new(far).expect("socket")));
    let broker = Broker::start(near).expect("starts");
    let (listener, published) = broker.listen(80).await.expect("listens");
    let listener = tokio::net::TcpListener::from_std(listener).expect("listener");
    let (near, far) = tokio::join!(broker.connect(published), listener.accept());
    let (mut near, (mut far, _)) = (near.expect("connects"), far.expect("accepts"));
    near.write_all(b"hello").await.expect("write");
    drop(near);
    let mut text = String::new();
    far.read_to_string(&mut text).await.expect("read");
    assert_eq!(text, "hello");
    broker.resolver().await.expect("a socket");
    drop(listener);
    let refused = broker.connect(published).await.expect_err("nobody listens");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    drop(broker);
    server.await.expect("ends with the last clone");
}

#[tokio::test]
async fn answers_may_come_in_any_order() {
    let (near, far) = seqpacket_pair().expect("pair");
    let server = BrokerSocket::new(far).expect("socket");
    let broker = Broker::start(near).expect("starts");
    let ask = |port| {
        let broker = broker.clone();
        tokio::spawn(async move { broker.connect(SocketAddr::from(([127, 0, 0, 1], port))).await })
    };
    let asked = [ask(1), ask(2)];
    let mut questions = Vec::new();
    while questions.len() < 2 {
        questions.push(server.next().await.expect("reads").expect("a question"));
    }
    for Request { id, ask } in questions.into_iter().rev() {
        let Ask::Connect(address) = ask else { panic!("asked to connect") };
        let error = io::Error::other(format!("port {}", address.port()));
        server.answer(&Answer::refused(id, &error), None).await.expect("answers");
    }
    for (asked, port) in asked.into_iter().zip(1..) {
        let error = asked.await.expect("no panic").expect_err("refused");
        assert_eq!(error.to_string(), format!("port {port}"));
    }
}

#[tokio::test]
async fn a_broker_that_goes_away_fails_who_waits_and_who_comes() {
    let (near, far) = seqpacket_pair().expect("pair");
    let server = BrokerSocket::new(far).expect("socket");
    let broker = Broker::start(near).expect("starts");
    let waiting = tokio::spawn({
        let broker = broker.clone();
        async move { broker.resolver().await }
    });
    server.next().await.expect("reads").expect("a question");
    drop(server);
    assert_eq!(waiting.await.expect("no panic").expect_err("gone").kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(broker.resolver().await.expect_err("gone").kind(), io::ErrorKind::BrokenPipe);
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read(bytes: Vec<u8>) {
        drop((decode::<Request>(&bytes), decode::<Answer>(&bytes)));
    }

    #[test]
    fn requests_survive_the_way(id: u64, ip: u32, port: u16) {
        for ask in [Ask::Connect(SocketAddr::from((ip.to_be_bytes(), port))), Ask::Listen { port }, Ask::Resolver {}] {
            let request = Request { id, ask };
            prop_assert_eq!(decode::<Request>(&encode(&request).expect("fits")).expect("reads"), request);
        }
    }
}
