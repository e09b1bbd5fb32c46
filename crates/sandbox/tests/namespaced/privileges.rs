//! What processes in a pod may do.

use lateen_capture::Rules;
use lateen_sandbox::{Environment, Kind, Pod};

use crate::{
    Case, block_on,
    shop::{Shop, listen, run, start},
};

pub(crate) const CASES: &[(&str, Case)] = &[
    ("applications_have_no_privileges", applications_have_no_privileges),
    ("proxies_keep_what_marks_need", proxies_keep_what_marks_need),
    ("applications_do_not_see_what_is_the_meshs_own", applications_do_not_see_what_is_the_meshs_own),
];

async fn privileges(pod: &Pod, kind: Kind) -> Vec<String> {
    run(pod, kind, &["privileges"]).await.lines().map(String::from).collect()
}

fn applications_have_no_privileges(environment: Environment) {
    block_on(async {
        let shop = Shop::open(environment).await;
        let pod = shop.pod(11, Some(Rules::default())).await;
        let found = privileges(&pod, Kind::Application).await;
        assert_eq!(
            found,
            [
                "CapInh: 0000000000000000",
                "CapPrm: 0000000000000000",
                "CapEff: 0000000000000000",
                "CapBnd: 0000000000000000",
                "CapAmb: 0000000000000000",
                "NoNewPrivs: 1",
                "mark: EPERM: Operation not permitted",
                "flush: nft batch begin: EPERM: Operation not permitted",
                "unshare: unshare(CLONE_NEWNET): EPERM: Operation not permitted",
            ]
        );
        // The rules still stand.
        let proxy = listen(&pod, 15001).await;
        let (_, accepted) = tokio::join!(run(&pod, Kind::Application, &["get", "203.0.113.7:80"]), async {
            proxy.accept().await.map(drop)
        });
        accepted.expect("redirected");
        shop.close().await;
    });
}

fn proxies_keep_what_marks_need(environment: Environment) {
    block_on(async {
        let shop = Shop::open(environment).await;
        let pod = shop.pod(11, Some(Rules::default())).await;
        let found = privileges(&pod, Kind::Proxy).await;
        let net_admin_alone = format!("CapEff: {:016x}", 1u64 << 12);
        assert!(found.contains(&net_admin_alone), "{found:?}");
        assert!(found.contains(&String::from("mark: set")), "{found:?}");
        assert!(found.contains(&String::from("NoNewPrivs: 1")), "{found:?}");
        shop.close().await;
    });
}

/// The key of the authority and the socket that gives out join tokens lie in directories that the user, and so his
/// programs, may enter.
fn applications_do_not_see_what_is_the_meshs_own(environment: Environment) {
    block_on(async {
        let own = tempfile::tempdir().expect("a directory");
        let key = own.path().join("root.key");
        std::fs::write(&key, "secret").expect("written");
        let key = key.to_str().expect("text");
        let shop = Shop::open(environment).await;
        let pod = shop.pod_without(11, None, vec![own.path().to_owned()]).await;
        assert_eq!(run(&pod, Kind::Proxy, &["print", key]).await, "secret");
        let read = run(&pod, Kind::Application, &["print", key]).await;
        assert!(read.contains("No such file"), "{read}");
        // Nor through the proxy, which sees it: its files belong to who may look into it.
        let proxy = start(&pod, Kind::Proxy, &["sleep"]).await;
        let application = run(&pod, Kind::Application, &["elsewhere", key]).await;
        assert!(!application.contains("secret"), "{application}");
        drop(proxy);
        shop.close().await;
    });
}
