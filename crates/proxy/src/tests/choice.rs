//! Which endpoint a request goes to: outlier detection, localities, hashes and sessions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lateen_model::*;

use super::mesh::*;

fn traffic(change: impl FnOnce(&mut TrafficPolicy)) -> Arc<Entry> {
    let mut traffic = TrafficPolicy::default();
    change(&mut traffic);
    let id = Key::new(Origin::DestinationRule, Namespace::default(), "app");
    let kind = PolicyKind::Destination(Box::new(DestinationPolicy {
        host: HostPattern::Exact(service_id("app").hostname),
        traffic,
        subsets: Vec::new(),
        clients: Selector::default(),
        visibility: Visibility::Public,
    }));
    let policy = Policy { id: id.clone(), target: Target::Mesh, created: Created::UNKNOWN, kind };
    Arc::new(Entry::for_everyone(id, Resource::Policy(policy)))
}

fn app_at(name: &str, at: SocketAddr, region: &str) -> Arc<Entry> {
    let made = instance_of(name, "app", at, AppProtocol::Http1, Tunnel::None);
    let Resource::Workload(workload) = &made.resource else { unreachable!("it is one") };
    let locality = Locality { region: region.into(), ..Locality::default() };
    Arc::new(Entry::for_everyone(
        made.key.clone(),
        Resource::Workload(Workload { locality, ..workload.clone() }),
    ))
}

/// An application whose every answer is of this status.
async fn always(status: &'static str) -> SocketAddr {
    let (mut connections, address) = app().await;
    tokio::spawn(async move {
        while let Some(mut wire) = connections.recv().await {
            tokio::spawn(async move {
                while wire.try_head().await.is_some() {
                    wire.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await;
                }
            });
        }
    });
    address
}

fn outliers(change: impl FnOnce(&mut OutlierDetection)) -> OutlierDetection {
    let mut outliers =
        OutlierDetection { consecutive_5xx: 2, max_ejection_percent: 50, ..OutlierDetection::default() };
    change(&mut outliers);
    outliers
}

#[tokio::test]
async fn an_endpoint_that_fails_in_a_row_is_left_out() {
    let (good, bad) = (echo("good").await, always("500 Oops").await);
    let resources = [
        service("app", AppProtocol::Http1),
        app_at("good", good, ""),
        app_at("bad", bad, ""),
        traffic(|traffic| {
            traffic.outliers = Some(outliers(|_| {}));
            traffic.balance = Some(BalanceAlgorithm::RoundRobin.into());
        }),
    ];
    let (proxy, at) = front_of(&resources, |_| {}).await;
    let mut caller = Wire::connect(at).await;
    let mut statuses = Vec::new();
    for _ in 0..24 {
        statuses.push(caller.ask(&get("/")).await.0);
    }
    let failed = statuses.iter().filter(|status| status.contains("500")).count();
    assert_eq!(failed, 2, "{statuses:?}");
    assert!(proxy.records.wait(24).await.iter().all(|line| line.ends_with("tries=1")));
}

#[tokio::test]
async fn it_returns_when_its_time_is_over() {
    let (good, bad) = (echo("good").await, always("503 Oops").await);
    let resources = [
        service("app", AppProtocol::Http1),
        app_at("good", good, ""),
        app_at("bad", bad, ""),
        traffic(|traffic| {
            traffic.outliers = Some(outliers(|outliers| {
                (outliers.interval, outliers.base_ejection_time) =
                    (Duration::from_millis(1), Duration::from_millis(1));
            }));
            traffic.balance = Some(BalanceAlgorithm::RoundRobin.into());
        }),
    ];
    let (_proxy, at) = front_of(&resources, |_| {}).await;
    let mut caller = Wire::connect(at).await;
    in_time(async {
        // Twice out and in again.
        for _ in 0..6 {
            while !caller.ask(&get("/")).await.0.contains("503") {}
        }
    })
    .await;
}

#[tokio::test]
async fn another_region_takes_over_from_one_that_cannot_be_reached() {
    let (listener, dead) = app_listener().await;
    drop(listener);
    let far = echo("far").await;
    let own = instance("client", SocketAddr::new(own_address(), 1), AppProtocol::Http1, Tunnel::None);
    let Resource::Workload(own) = &own.resource else { unreachable!("it is one") };
    let home = Locality { region: "eu".into(), ..Locality::default() };
    let own = Workload { locality: home, ..own.clone() };
    let resources = [
        service("app", AppProtocol::Http1),
        app_at("near", dead, "eu"),
        app_at("far", far, "us"),
        Arc::new(Entry::for_everyone(
            Key::new(Origin::Instance, Namespace::default(), "client"),
            Resource::Workload(own),
        )),
        traffic(|traffic| traffic.outliers = Some(outliers(|_| {}))),
    ];
    let (proxy, at) = front_of(&resources, |_| {}).await;
    let mut caller = Wire::connect(at).await;
    for _ in 0..10 {
        let (status, body) = caller.ask(&get("/")).await;
        assert!(status == "HTTP/1.1 200 OK" && body.starts_with("far\n"), "{status} {body}");
    }
    let records = proxy.records.wait(10).await;
    let tries: Vec<_> = records.iter().filter_map(|line| line.rsplit('=').next()).collect();
    assert_eq!(tries, ["2", "2", "1", "1", "1", "1", "1", "1", "1", "1"]);
}

/// Asks and gives the name of who answered, and the cookie or header that was given.
async fn ask(caller: &mut Wire, headers: &str, given: &str) -> (String, Option<String>) {
    caller.send(format!("GET / HTTP/1.1\r\nHost: app\r\n{headers}\r\n")).await;
    let head = caller.head().await;
    let field = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let length = field("content-length").and_then(|length| length.parse().ok()).expect("a length");
    let body = String::from_utf8(caller.exactly(length).await).expect("text");
    (body.lines().next().unwrap_or_default().to_owned(), field(given))
}

async fn three() -> Vec<Arc<Entry>> {
    let mut resources = vec![service("app", AppProtocol::Http1)];
    for name in ["one", "two", "three"] {
        resources.push(app_at(name, echo(name).await, ""));
    }
    resources
}

#[tokio::test]
async fn a_cookie_keeps_a_client_at_one_endpoint() {
    let mut resources = three().await;
    resources.push(traffic(|traffic| {
        let key = HashKey::Cookie {
            name: "home".into(),
            path: "/".into(),
            ttl: Some(Duration::from_secs(60)),
            attributes: vec![("SameSite".into(), "Lax".into())],
        };
        let hash = Some(ConsistentHash { key, table: HashTable::Ring { minimum_size: 1024 } });
        traffic.balance = Some(Balance { hash, ..Balance::default() });
    }));
    let (_proxy, at) = front_of(&resources, |_| {}).await;
    for _ in 0..6 {
        let (first, given) = ask(&mut Wire::connect(at).await, "", "set-cookie").await;
        let given = given.expect("a cookie is given");
        assert!(given.ends_with("; Max-Age=60; Path=/; SameSite=Lax; HttpOnly"), "{given}");
        let pair = given.split(';').next().expect("a pair");
        for _ in 0..4 {
            let (again, given) =
                ask(&mut Wire::connect(at).await, &format!("Cookie: x=y; {pair}\r\n"), "set-cookie").await;
            assert_eq!((again, given), (first.clone(), None));
        }
    }
}

#[tokio::test]
async fn a_session_stays_until_its_endpoint_goes() {
    let (spare, mut resources) = (echo("spare").await, three().await);
    resources.push(service("spare", AppProtocol::Http1));
    resources.push(instance("spare", spare, AppProtocol::Http1, Tunnel::None));
    let backend = |name: &str| Backend {
        target: BackendTarget::Service { service: service_id(name), port: 80, subset: None },
        weight: 1,
        filters: Vec::new(),
    };
    let by = SessionToken::Header("x-session".into());
    let persistence = Some(SessionPersistence { by, absolute_timeout: None, idle_timeout: None });
    let backends = vec![backend("app"), backend("spare")];
    let route = Route {
        key: Key::new(Origin::HttpRoute, Namespace::default(), "app"),
        parents: vec![Parent::Service { service: service_id("app"), port: None }],
        hosts: Vec::new(),
        rules: vec![Rule { name: "0".into(), backends, persistence, ..Rule::default() }],
        precedence: Precedence::MostSpecific,
        created: Created::UNKNOWN,
        visibility: Visibility::Public,
    };
    resources.push(Arc::new(Entry::for_everyone(route.key.clone(), Resource::Route(route))));
    let (proxy, at) = front_of(&resources, |_| {}).await;
    let mut caller = Wire::connect(at).await;
    let mut of_app = None;
    // Whichever of the two backends and its endpoints it is: the session leads there again.
    for _ in 0..30 {
        let (first, given) = ask(&mut caller, "", "x-session").await;
        let header = format!("X-Session: {}\r\n", given.expect("a session is given"));
        for _ in 0..4 {
            assert_eq!(ask(&mut caller, &header, "x-session").await, (first.clone(), None));
        }
        if first != "spare" {
            of_app = Some((first, header));
        }
    }
    let (first, header) = of_app.expect("of thirty some go there");
    resources.retain(|entry| *entry.key.name != *first);
    proxy.publish("client", &resources);
    let (second, given) = ask(&mut caller, &header, "x-session").await;
    assert!(second != first && given.is_some());
    // What a client makes up leads to nobody else.
    let made_up = format!("X-Session: {}\r\n", "f".repeat(52));
    assert!(ask(&mut caller, &made_up, "x-session").await.1.is_some());
}
