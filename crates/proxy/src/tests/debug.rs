//! Answers of the proxy that say what happened, where the workload asks for it.

use lateen_model::*;

use super::mesh::*;

#[tokio::test]
async fn a_label_makes_answers_say_what_happened() {
    let (listener, nobody) = app_listener().await;
    drop(listener);
    let resources = [
        service("app", AppProtocol::Http1),
        instance_of("app-0", "app", nobody, AppProtocol::Http1, Tunnel::None),
    ];
    for (label, expected) in [("true", true), ("false", false)] {
        let mut plan = Plan::sidecar("client", &resources);
        plan.viewer.labels = [("lateen.dev/debug", label)].into_iter().collect();
        let door = crate::enter::Door::Service { host: "app.default.svc.cluster.local".into(), port: 80 };
        let any = std::net::SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), 0);
        let (_proxy, doors) = plan.door(any, door).start().await;
        let (status, body) = Wire::connect(doors[0]).await.ask(&get("/")).await;
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
        let told = [
            "why       UF upstream_reset_before_response_started{connection_failure}: connect to",
            "service   default/app.default.svc.cluster.local",
            &format!("endpoint  {nobody}"),
            "caller    plaintext",
        ];
        for part in told {
            assert_eq!(body.contains(part), expected, "{label}: {part} in {body}");
        }
    }
}
