//! What traffic of a pod meets.

use lateen_capture::Rules;
use lateen_runtime::sock::original_destination;
use lateen_sandbox::{Environment, Kind, SocketKind};
use tokio::io::AsyncReadExt;

use crate::{
    Case, block_on,
    shop::{Shop, connect, listen, run, start},
};

pub(crate) const CASES: &[(&str, Case)] = &[
    ("pods_reach_each_other", pods_reach_each_other),
    ("outbound_is_redirected", outbound_is_redirected),
    ("inbound_is_redirected", inbound_is_redirected),
    ("tunnels_and_excluded_ports_are_not_redirected", tunnels_and_excluded_ports_are_not_redirected),
    ("our_own_sockets_pass", our_own_sockets_pass),
    ("a_pod_reaches_itself", a_pod_reaches_itself),
    ("other_udp_is_refused_counted_and_told", other_udp_is_refused_counted_and_told),
    ("names_resolve_through_the_redirect", names_resolve_through_the_redirect),
    ("frames_on_the_wire_are_seen", frames_on_the_wire_are_seen),
];

fn rules() -> Option<Rules> {
    Some(Rules::default())
}

fn pods_reach_each_other(environment: Environment) {
    block_on(async {
        let shop = Shop::open(environment).await;
        let (one, two) = (shop.pod(11, None).await, shop.pod(12, None).await);
        let mut server = start(&two, Kind::Application, &["serve", "[::]:80", "2"]).await;
        assert_eq!(server.line().await, "listening\n");
        assert_eq!(run(&one, Kind::Application, &["get", "198.18.0.12:80"]).await, "hello 198.18.0.11");
        assert_eq!(run(&one, Kind::Application, &["get", "[fd6c::12]:80"]).await, "hello fd6c::11");
        shop.close().await;
    });
}

fn outbound_is_redirected(environment: Environment) {
    block_on(async {
        let shop = Shop::open(environment).await;
        let pod = shop.pod(11, rules()).await;
        let proxy = listen(&pod, 15001).await;
        for wanted in ["203.0.113.7:443", "[2001:db8::7]:443", "198.19.0.5:80"] {
            let arguments = ["get", wanted];
            let (text, seen) = tokio::join!(run(&pod, Kind::Application, &arguments), async {
                let (stream, _) = proxy.accept().await.expect("accept");
                original_destination(&stream).expect("an original destination")
            });
            assert_eq!((seen.to_string().as_str(), text.as_str()), (wanted, ""));
        }
        shop.close().await;
    });
}

fn inbound_is_redirected(environment: Environment) {
    block_on(async {
        let shop = Shop::open(environment).await;
        let (caller, pod) = (shop.pod(11, None).await, shop.pod(12, rules()).await);
        let proxy = listen(&pod, 15006).await;
        for wanted in ["198.18.0.12:8080", "[fd6c::12]:8080"] {
            let stream = connect(&caller, false, wanted).await.expect("connect");
            let (accepted, from) = proxy.accept().await.expect("accept");
            assert_eq!(original_destination(&accepted).expect("a destination").to_string(), wanted);
            assert_eq!(from.ip().to_canonical(), stream.local_addr().expect("an address").ip());
        }
        shop.close().await;
    });
}

fn tunnels_and_excluded_ports_are_not_redirected(environment: Environment) {
    block_on(async {
        let shop = Shop::open(environment).await;
        let rules = Rules {
            excluded_inbound: vec![9000],
            excluded_outbound: vec![9001],
            excluded_networks: vec!["198.18.0.13/32".parse().unwrap(), "fd6c::13/128".parse().unwrap()],
            ..Rules::default()
        };
        let pod = shop.pod(12, Some(rules)).await;
        let other = shop.pod(13, None).await;
        let (tunnels, excluded) = (listen(&pod, 15008).await, listen(&pod, 9000).await);
        let (by_port, by_network) = (listen(&other, 9001).await, listen(&other, 9002).await);
        for (from, listener, wanted) in [
            (&other, &tunnels, "198.18.0.12:15008"),
            (&other, &excluded, "[fd6c::12]:9000"),
            (&pod, &by_port, "[fd6c::13]:9001"),
            (&pod, &by_network, "198.18.0.13:9002"),
            (&pod, &by_network, "[fd6c::13]:9002"),
        ] {
            connect(from, false, wanted).await.unwrap_or_else(|error| panic!("{wanted}: {error}"));
            listener.accept().await.expect("accept");
        }
        shop.close().await;
    });
}

fn our_own_sockets_pass(environment: Environment) {
    block_on(async {
        let shop = Shop::open(environment).await;
        let (pod, other) = (shop.pod(11, rules()).await, shop.pod(12, None).await);
        let (away, here) = (listen(&other, 7000).await, listen(&pod, 7000).await);
        connect(&pod, true, "198.18.0.12:7000").await.expect("to another pod");
        away.accept().await.expect("accept");
        // To the application of the own pod, without the detour through the inbound port.
        connect(&pod, true, "[fd6c::11]:7000").await.expect("to the own pod");
        here.accept().await.expect("accept");
        connect(&pod, false, "198.18.0.12:7000").await.expect_err("unmarked, and no proxy listens");
        shop.close().await;
    });
}

fn a_pod_reaches_itself(environment: Environment) {
    block_on(async {
        let shop = Shop::open(environment).await;
        let pod = shop.pod(11, rules()).await;
        let mut server = start(&pod, Kind::Application, &["serve", "[::]:80", "3"]).await;
        server.line().await;
        for (address, hello) in [
            ("127.0.0.1:80", "hello 127.0.0.1"),
            ("198.18.0.11:80", "hello 198.18.0.11"),
            ("[::1]:80", "hello ::1"),
        ] {
            assert_eq!(run(&pod, Kind::Application, &["get", address]).await, hello);
        }
        shop.close().await;
    });
}

fn other_udp_is_refused_counted_and_told(environment: Environment) {
    block_on(async {
        let mut shop = Shop::open(environment).await;
        let (pod, _other) = (shop.pod(11, rules()).await, shop.pod(12, None).await);
        for target in ["198.18.0.12:123", "[fd6c::12]:123", "203.0.113.1:443"] {
            assert_eq!(run(&pod, Kind::Application, &["datagrams", target]).await, "refused refused ");
        }
        assert!(pod.refused_packets().await.expect("a counter") >= 3);
        let news = shop.news.recv().await.expect("news");
        assert_eq!((news.pod.as_str(), news.packets[0].transport), ("pod-11", 17));
        assert_eq!(news.packets[0].destination.to_string(), "198.18.0.12:123");
        shop.close().await;
    });
}

fn names_resolve_through_the_redirect(environment: Environment) {
    block_on(async {
        let shop = Shop::open(environment).await;
        let pod = shop.pod(11, rules()).await;
        let mut server = start(&pod, Kind::Proxy, &["names", "198.19.0.5"]).await;
        assert_eq!(server.line().await, "listening\n");
        assert_eq!(run(&pod, Kind::Application, &["resolve", "reviews.default"]).await, "198.19.0.5");
        assert_eq!(run(&pod, Kind::Application, &["resolve", "host-11"]).await, "198.18.0.11 fd6c::11");
        shop.close().await;
    });
}

fn frames_on_the_wire_are_seen(environment: Environment) {
    block_on(async {
        let shop = Shop::open(environment).await;
        let (one, two) = (shop.pod(11, None).await, shop.pod(12, None).await);
        let frames = two.open_socket(SocketKind::Frames, false).await.expect("a packet socket");
        let frames = lateen_runtime::sock::watch(frames).expect("watched");
        let mut server = start(&two, Kind::Application, &["serve", "[::]:80", "1"]).await;
        server.line().await;
        let mut stream = connect(&one, false, "198.18.0.12:80").await.expect("connect");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("read");
        let mut frame = [0; 2048];
        loop {
            let read = frames
                .async_io(tokio::io::Interest::READABLE, |socket| Ok(rustix::io::read(socket, &mut frame)?));
            let length = read.await.expect("a frame");
            if frame[..length].windows(text.len()).any(|window| window == text.as_bytes()) {
                break;
            }
        }
        shop.close().await;
    });
}
