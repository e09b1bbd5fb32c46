//! `lateen load` against servers that behave and that do not.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::Method;
use lateen_cli::echo::Config;
use lateen_cli::load::{Error, ErrorKind, Load, Plan, Report};

use crate::service::{Service, scripted};

fn plan(address: SocketAddr, path: &str) -> Plan {
    let plan = Plan::new(&format!("http://{address}{path}")).unwrap();
    Plan { connections: 4, threads: 2, duration: Duration::from_millis(300), ..plan }
}

fn run(plan: Plan) -> Report {
    Load::start(plan).unwrap().finish()
}

#[test]
fn a_rate_is_kept_and_every_request_is_counted_once() {
    let service = Service::named("a");
    let report = run(Plan { rate: Some(500.0), ..plan(service.http, "/") });
    assert_eq!(report.answers + report.unsent, 150, "{report:?}");
    assert_eq!(report.statuses.get(&200), Some(&report.answers));
    assert!(report.errors.is_empty() && report.latency.p50 > 0.0 && report.bytes > 0, "{report:?}");
}

#[test]
fn the_warm_up_is_not_counted() {
    let service = Service::named("a");
    let warmup = Duration::from_millis(200);
    let report = run(Plan { rate: Some(500.0), warmup, ..plan(service.http, "/") });
    assert_eq!(report.answers + report.unsent, 150, "{report:?}");
}

/// One connection, answers that take 200 ms, and a request due every 50 ms: each answer is later than
/// the one before it, and the wait counts.
#[test]
fn a_slow_server_cannot_hide_the_requests_that_waited() {
    let service = Service::start(Config { delay: Duration::from_millis(200), ..Config::default() });
    let duration = Duration::from_secs(1);
    let report =
        run(Plan { rate: Some(20.0), connections: 1, threads: 1, duration, ..plan(service.http, "/") });
    assert_eq!(report.answers + report.unsent, 20, "{report:?}");
    assert!(report.unsent >= 14, "{report:?}");
    // The fourth was due at 150 ms and could not be sent before 600 ms.
    assert!(report.latency.max >= 640_000.0, "{report:?}");
    assert_eq!(report.failures(), report.unsent);
}

#[test]
fn a_closed_loop_sends_as_fast_as_answers_come() {
    let service = Service::named("a");
    for http2_streams in [None, Some(3)] {
        let report = run(Plan { http2_streams, ..plan(service.http, "/?size=100") });
        assert!(report.answers > 20 && report.failures() == 0, "{report:?}");
        assert!(report.bytes >= report.answers * 100, "{report:?}");
    }
}

#[test]
fn bodies_headers_and_methods_are_sent() {
    let service = Service::named("a");
    for http2_streams in [None, Some(2)] {
        let body = vec![b'x'; 100_000].into();
        let load = Plan { method: Method::POST, body, http2_streams, ..plan(service.http, "/") };
        let report = run(load);
        assert!(report.answers > 0 && report.failures() == 0, "{report:?}");
    }
    let report = run(Plan { method: Method::HEAD, ..plan(service.http, "/?size=5000") });
    assert!(
        report.answers > 0 && report.failures() == 0 && report.bytes < report.answers * 5000,
        "{report:?}"
    );
}

#[test]
fn statuses_are_told_apart() {
    let service = Service::named("a");
    let report = run(plan(service.http, "/?status=503"));
    assert_eq!(report.statuses.keys().copied().collect::<Vec<_>>(), [503]);
    assert_eq!(report.failures(), report.answers);
}

#[test]
fn every_way_to_end_a_body_is_understood() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    let address = scripted(usize::MAX, move |number| if number % 2 == 0 { chunked } else { interim });
    let report = run(plan(address, "/"));
    assert_eq!(report.failures(), 0, "{report:?}");
    assert_eq!(report.statuses.keys().copied().collect::<Vec<_>>(), [200, 204]);
    let report = run(plan(scripted(1, |_| "HTTP/1.1 200 OK\r\n\r\nto the end"), "/"));
    assert!(report.answers > 0 && report.failures() == 0, "{report:?}");
}

#[test]
fn a_kept_connection_that_closed_is_made_anew() {
    let address = scripted(2, |_| "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let report = run(plan(address, "/"));
    assert!(report.answers > 0 && report.reconnects > 0 && report.errors.is_empty(), "{report:?}");
    // Who cannot know whether the server acted does not send again.
    let report = run(Plan { method: Method::POST, ..plan(address, "/") });
    assert!(report.errors.contains_key(&ErrorKind::Closed) || report.errors.contains_key(&ErrorKind::Reset));
}

#[test]
fn errors_have_kinds() {
    let timeout = Duration::from_millis(100);
    let silent = Service::start(Config { delay: Duration::from_secs(600), ..Config::default() });
    for (address, kind) in [
        (scripted(1, |_| "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort"), ErrorKind::Closed),
        (scripted(1, |_| "no HTTP at all\r\n\r\n"), ErrorKind::Malformed),
        (silent.http, ErrorKind::Timeout),
    ] {
        let report = run(Plan { timeout, ..plan(address, "/") });
        let kinds: BTreeMap<_, _> = report.errors.iter().collect();
        assert!(report.answers == 0 && kinds.keys().copied().eq([&kind]), "{report:?}");
    }
}

#[test]
fn nobody_there_is_said_at_once() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(matches!(Load::start(plan(nobody, "/")), Err(Error::Connect { .. })));
}

#[test]
fn stopped_it_reports_what_it_has() {
    let service = Service::named("a");
    let load = Load::start(Plan { duration: Duration::from_secs(600), ..plan(service.http, "/") }).unwrap();
    while load.status().answered < 10 {
        std::thread::yield_now();
    }
    load.stop();
    let report = load.finish();
    assert!(report.answers >= 10 && report.seconds < 60.0, "{report:?}");
}
