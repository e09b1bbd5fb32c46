//! What an application's own calls come to: names, addresses, routes.

mod mesh;

use lateen_engine::{Direction, decide_connection};
use lateen_model::*;
use mesh::*;
use std::sync::Arc;

fn shop() -> Vec<Arc<Entry>> {
    let reviews = |name: &str, ip: &str, version: &str| {
        let labels = [("app", "reviews"), ("version", version)];
        instance(workload(name, ip, &labels, &[("reviews.default", "http:9080->8080")]))
    };
    vec![
        service("reviews.default", &["10.0.0.1"], "http:9080"),
        service("ratings.other", &["10.0.0.2"], "http:80 tcp:90 detect:100"),
        service("cart.default", &[], "http:70 tcp:71"),
        reviews("default/reviews-v1", "10.1.0.1", "v1"),
        reviews("default/reviews-v2", "10.1.0.2", "v2"),
        instance(workload(
            "other/ratings",
            "10.1.0.3",
            &[],
            &[("ratings.other", "http:80 tcp:90 detect:100")],
        )),
        instance(workload("default/cart-0", "10.1.0.4", &[], &[("cart.default", "http:70 tcp:71")])),
        destination_rule(
            "default/reviews",
            "reviews.default.svc.cluster.local",
            None,
            "v1:version=v1 v2:version=v2 v9:version=v9",
        ),
    ]
}

fn client() -> Viewer {
    viewer("default/client", ProxyRole::Sidecar, &[("app", "client")])
}

#[track_caller]
fn check_connections(entries: &[Arc<Entry>], table: &[(&str, &str)]) {
    let snapshot = snapshot(client(), entries.iter().cloned());
    for (destination, expected) in table {
        let decision = decide_connection(&snapshot, &connection(Direction::Outbound, destination));
        assert_eq!(connection_line(&snapshot, &decision), *expected, "{destination}");
    }
}

#[track_caller]
fn check_requests(entries: &[Arc<Entry>], table: &[(&str, &str, &str)]) {
    let snapshot = snapshot(client(), entries.iter().cloned());
    for (destination, request, expected) in table {
        let facts = connection(Direction::Outbound, destination);
        assert_eq!(line(&snapshot, ask(&snapshot, &facts, request, 0)), *expected, "{destination} {request}");
    }
}

#[test]
fn a_connection_is_decided_by_its_address() {
    check_connections(
        &shop(),
        &[
            ("10.0.0.1:9080", "serve http"),
            ("[::ffff:10.0.0.1]:9080", "serve http"),
            ("10.0.0.2:90", "default -> 10.1.0.3:90"),
            ("10.0.0.2:100", "detect, else default -> 10.1.0.3:100"),
            // No such port, or nobody: as it is. Where HTTP is spoken on the number, its host may say more.
            ("10.0.0.1:1", "Passthrough -> as is 10.0.0.1:1"),
            ("9.9.9.9:443", "Passthrough -> as is 9.9.9.9:443"),
            ("9.9.9.9:80", "detect, else Passthrough -> as is 9.9.9.9:80"),
            // The address of a workload, and of an endpoint of a headless service.
            ("10.1.0.1:8080", "Passthrough -> as is 10.1.0.1:8080"),
            ("10.1.0.4:71", "default -> as is 10.1.0.4:71"),
            ("10.1.0.4:70", "serve http"),
        ],
    );
}

#[test]
fn a_request_is_decided_by_its_host_and_else_by_its_address() {
    let both = "default -> 10.1.0.1:8080 10.1.0.2:8080";
    check_requests(
        &shop(),
        &[
            ("10.0.0.1:9080", "GET reviews/", both),
            ("10.0.0.1:9080", "GET Reviews:9080/", both),
            ("10.0.0.1:9080", "GET reviews.default/", both),
            ("10.0.0.1:9080", "GET reviews.default.svc:9080/", both),
            ("10.0.0.1:9080", "GET reviews.default.svc.cluster.local./", both),
            ("10.0.0.1:9080", "GET nonsense/", both),
            ("10.0.0.1:9080", "GET 10.0.0.1:9080/", both),
            ("9.9.9.9:9080", "GET reviews/", both),
            ("9.9.9.9:3128", "GET reviews:9080/", both),
            ("10.0.0.2:80", "GET ratings.other/", "default -> 10.1.0.3:80"),
            // `ratings` alone is a name of another namespace.
            ("9.9.9.9:80", "GET ratings/", "Passthrough -> as is 9.9.9.9:80"),
            ("10.1.0.4:70", "GET cart/", "default -> as is 10.1.0.4:70"),
            ("10.1.0.4:70", "GET x/", "default -> as is 10.1.0.4:70"),
            ("9.9.9.9:70", "GET cart/", "default -> 10.1.0.4:70"),
        ],
    );
}

#[test]
fn a_mesh_that_passes_nothing_undeclared() {
    let mesh = MeshSettings { outbound: OutboundPolicy::RegistryOnly, ..MeshSettings::default() };
    let mut entries = shop();
    entries.push(entry(mesh_key(&mesh.root_namespace), Resource::Mesh(mesh)));
    check_connections(
        &entries,
        &[
            ("9.9.9.9:443", "deny destination_not_declared"),
            ("9.9.9.9:80", "detect, else deny destination_not_declared"),
            ("10.0.0.1:1", "deny destination_not_declared"),
        ],
    );
    check_requests(
        &entries,
        &[
            ("9.9.9.9:80", "GET example.com/", "502 destination_not_declared"),
            ("9.9.9.9:80", "GET ratings.other/", "default -> 10.1.0.3:80"),
        ],
    );
}
