//! Who may call the proxy's own workload.

mod mesh;

use lateen_engine::{ConnectionFacts, Direction, decide_connection};
use lateen_model::*;
use mesh::*;
use std::sync::Arc;

const OWN: &str = "10.1.0.1";

fn own(policies: &[&str]) -> Arc<Entry> {
    let id = |name: &&str| match name.strip_prefix("peer:") {
        Some(name) => key(Origin::PeerAuthentication, name),
        None => key(Origin::AuthorizationPolicy, name),
    };
    let own = workload("default/web", OWN, &[], &[("web.default", "http:80->8080 tcp:90 detect:100")]);
    instance(Workload { policies: policies.iter().map(id).collect(), ..own })
}

fn facts(port: u16, peer: Option<&str>) -> ConnectionFacts {
    let peer = peer.map(|text| {
        let (ns, account) = text.split_once('/').expect("namespace/account");
        Arc::new(identity(ns, account))
    });
    ConnectionFacts { peer, ..connection(Direction::Inbound, &format!("{OWN}:{port}")) }
}

/// Asks for a request where it says more than a port and a peer, else for the connection.
#[track_caller]
fn check(entries: &[Arc<Entry>], table: &[(u16, Option<&str>, &str, &str)]) {
    let snapshot = snapshot(viewer("default/web", ProxyRole::Sidecar, &[]), entries.iter().cloned());
    for (port, peer, request, expected) in table {
        let facts = facts(*port, *peer);
        let found = match *request {
            "" => connection_line(&snapshot, &decide_connection(&snapshot, &facts)),
            request => line(&snapshot, ask(&snapshot, &facts, request, 0)),
        };
        assert_eq!(found, *expected, "{port} {peer:?} {request}");
    }
}

fn from(principals: &[&str]) -> AuthorizationRule {
    let principals = principals.iter().map(|text| StringMatch::from_policy_value(text)).collect();
    AuthorizationRule {
        from: vec![Source { principals, ..Source::default() }],
        ..AuthorizationRule::default()
    }
}

fn to(methods: &[&str], paths: &[&str], ports: &[u16]) -> AuthorizationRule {
    let values = |texts: &[&str]| texts.iter().map(|text| StringMatch::from_policy_value(text)).collect();
    let operation = Operation {
        methods: values(methods),
        paths: values(paths),
        ports: ports.to_vec(),
        ..Operation::default()
    };
    AuthorizationRule { to: vec![operation], ..AuthorizationRule::default() }
}

fn when(key: ConditionKey, values: &[&str], not_values: &[&str]) -> AuthorizationRule {
    let matches = |texts: &[&str]| texts.iter().map(|text| StringMatch::from_policy_value(text)).collect();
    let condition = Condition {
        key,
        values: matches(values),
        not_values: matches(not_values),
        addresses: AddressMatch::default(),
    };
    AuthorizationRule { when: vec![condition], ..AuthorizationRule::default() }
}

const WEB: &str = "inbound|8080|| -> local 10.1.0.1:8080";

#[test]
fn ports_are_treated_as_services_declare_them() {
    check(
        &[own(&[])],
        &[
            (8080, None, "", "serve http"),
            (90, None, "", "inbound|90|| -> local 10.1.0.1:90"),
            (100, None, "", "detect, else inbound|100|| -> local 10.1.0.1:100"),
            (7, None, "", "detect, else inbound|7|| -> local 10.1.0.1:7"),
            (8080, Some("a/b"), "GET web/", WEB),
        ],
    );
}

#[test]
fn nothing_passes_that_is_not_for_us_or_before_we_know_who_we_are() {
    let snapshot = snapshot(viewer("default/web", ProxyRole::Sidecar, &[]), [own(&[])]);
    let facts = connection(Direction::Inbound, "10.1.0.2:8080");
    assert_eq!(
        connection_line(&snapshot, &decide_connection(&snapshot, &facts)),
        "deny destination_not_an_address_of_this_workload"
    );
    check(
        &[],
        &[
            (8080, Some("a/b"), "", "deny own_workload_unknown"),
            (8080, None, "GET x/", "503 own_workload_unknown"),
        ],
    );
}

#[test]
fn plaintext_is_refused_where_the_narrowest_policy_says_so() {
    let pa = peer_authentication;
    let mesh = || pa("istio-system/m", Target::Mesh, MtlsMode::Strict, &[]);
    let space = |mode| pa("default/n", Target::Namespace(namespace("default")), mode, &[]);
    let chosen = |mode, ports: &[(u16, MtlsMode)]| pa("default/w", Target::Selected, mode, ports);
    let selected = || own(&["peer:default/w"]);
    let other = pa("other/n", Target::Namespace(namespace("other")), MtlsMode::Strict, &[]);
    let old = |entry: Arc<Entry>, name: &str| {
        let Resource::Policy(policy) = &entry.resource else { panic!("a policy") };
        let id = key(Origin::PeerAuthentication, name);
        Arc::new(Entry::for_everyone(
            id.clone(),
            Resource::Policy(Policy { id, created: Created::at(1), ..policy.clone() }),
        ))
    };
    let refused = "deny plaintext_refused_mtls_required";
    for (entries, expected) in [
        (vec![own(&[])], "serve http"),
        (vec![own(&[]), mesh()], refused),
        (vec![own(&[]), other], "serve http"),
        (vec![own(&[]), mesh(), space(MtlsMode::Permissive)], "serve http"),
        (vec![own(&[]), mesh(), space(MtlsMode::Unset)], refused),
        (
            vec![own(&[]), space(MtlsMode::Strict), old(space(MtlsMode::Permissive), "default/old")],
            "serve http",
        ),
        (vec![selected(), space(MtlsMode::Permissive), chosen(MtlsMode::Strict, &[])], refused),
        (vec![selected(), mesh(), chosen(MtlsMode::Unset, &[])], refused),
        (vec![selected(), mesh(), chosen(MtlsMode::Unset, &[(8080, MtlsMode::Disable)])], "serve http"),
        (vec![selected(), chosen(MtlsMode::Disable, &[(8080, MtlsMode::Strict)])], refused),
        (vec![selected(), chosen(MtlsMode::Strict, &[(90, MtlsMode::Permissive)])], refused),
    ] {
        check(&entries, &[(8080, None, "", expected), (8080, Some("a/b"), "", "serve http")]);
        if expected == refused {
            check(&entries, &[(8080, None, "GET web/", "403 plaintext_refused_mtls_required")]);
        }
    }
}

#[test]
fn deny_comes_before_allow_and_allow_denies_the_rest() {
    let denied =
        |name: &str| format!("403 rbac_access_denied_matched_policy[ns[default]-policy[{name}]-rule[0]]");
    let nobody = "403 rbac_access_denied_matched_policy[none]";
    let here = || Target::Namespace(namespace("default"));
    let allow =
        || authorization("default/allow", here(), Action::Allow, vec![from(&["cluster.local/ns/a/*"])]);
    let deny = || authorization("default/deny", here(), Action::Deny, vec![to(&["DELETE"], &[], &[])]);
    check(
        &[own(&[]), allow(), deny()],
        &[
            (8080, Some("a/b"), "GET web/", WEB),
            (8080, Some("a/b"), "DELETE web/", &denied("deny")),
            (8080, Some("b/b"), "GET web/", nobody),
            (8080, None, "GET web/", nobody),
            // An HTTP port is never judged before its requests are read.
            (8080, None, "", "serve http"),
        ],
    );
    let none = authorization("default/none", here(), Action::Allow, Vec::new());
    check(
        &[own(&[]), none],
        &[
            (8080, Some("a/b"), "GET web/", nobody),
            (90, None, "", "deny rbac_access_denied_matched_policy[none]"),
        ],
    );
    let empty = authorization("default/empty", here(), Action::Deny, Vec::new());
    check(&[own(&[]), empty], &[(8080, None, "GET web/", WEB)]);
    let elsewhere =
        authorization("other/none", Target::Namespace(namespace("other")), Action::Allow, Vec::new());
    check(&[own(&[]), elsewhere], &[(8080, None, "GET web/", WEB)]);
}

#[test]
fn a_second_value_of_a_header_hides_nothing() {
    let rule = |action, values: &[&str], not: &[&str]| {
        let rules = vec![when(ConditionKey::RequestHeader("x".into()), values, not)];
        [own(&[]), authorization("default/h", Target::Mesh, action, rules)]
    };
    for (entries, headers, passes) in [
        (rule(Action::Deny, &["evil"], &[]), "h:x=evil", false),
        (rule(Action::Deny, &["evil"], &[]), "h:x=good h:x=evil", false),
        (rule(Action::Deny, &["evil"], &[]), "h:x=evil h:x=good", false),
        (rule(Action::Deny, &["a,b"], &[]), "h:x=a h:x=b", false),
        (rule(Action::Deny, &["evil"], &[]), "h:x=good h:x=better", true),
        (rule(Action::Deny, &[], &["good"]), "h:x=good h:x=evil", false),
        (rule(Action::Deny, &[], &["good"]), "h:x=good h:y=evil", true),
        (rule(Action::Allow, &["good", "better"], &[]), "h:x=good h:x=better", true),
        (rule(Action::Allow, &["good"], &[]), "h:x=good h:x=evil", false),
        (rule(Action::Allow, &["good"], &[]), "h:x=evil h:x=good", false),
        (rule(Action::Allow, &["good"], &[]), "", false),
        (rule(Action::Allow, &[], &["evil"]), "h:x=good h:x=evil", false),
        (rule(Action::Allow, &[], &["evil"]), "", true),
    ] {
        let text = format!("{:?} {headers}", entries[1]);
        let snapshot = snapshot(viewer("default/web", ProxyRole::Sidecar, &[]), entries);
        let asked = ask(&snapshot, &facts(8080, None), &format!("GET web/ {headers}"), 0);
        assert_eq!(line(&snapshot, asked) == WEB, passes, "{text}");
    }
}

#[test]
fn bytes_have_nothing_of_http() {
    let here = || Target::Namespace(namespace("default"));
    let allow = || {
        authorization("default/a", here(), Action::Allow, vec![to(&["GET"], &[], &[]), to(&[], &[], &[91])])
    };
    let deny = || authorization("default/d", here(), Action::Deny, vec![to(&["GET"], &[], &[90])]);
    let header = || {
        authorization(
            "default/h",
            here(),
            Action::Deny,
            vec![when(ConditionKey::RequestHeader("x".into()), &["*"], &[])],
        )
    };
    let deny_by =
        |name: &str| format!("deny rbac_access_denied_matched_policy[ns[default]-policy[{name}]-rule[0]]");
    check(&[own(&[]), allow()], &[(90, None, "", "deny rbac_access_denied_matched_policy[none]")]);
    check(
        &[own(&[]), deny()],
        &[(90, None, "", &deny_by("d")), (100, None, "GET web/", "inbound|100|| -> local 10.1.0.1:100")],
    );
    check(
        &[own(&[]), header()],
        &[
            (90, None, "", &deny_by("h")),
            (100, None, "", &format!("detect, else {}", deny_by("h"))),
            (100, None, "GET web/", "inbound|100|| -> local 10.1.0.1:100"),
            (
                100,
                None,
                "GET web/ h:x=",
                "403 rbac_access_denied_matched_policy[ns[default]-policy[h]-rule[0]]",
            ),
        ],
    );
}

#[test]
fn a_listed_policy_that_is_not_there_denies() {
    check(
        &[own(&["default/gone"])],
        &[
            (8080, Some("a/b"), "GET web/", "403 policy_missing[ns[default]-policy[gone]]"),
            (90, Some("a/b"), "", "deny policy_missing[ns[default]-policy[gone]]"),
        ],
    );
    let unlisted = authorization("default/unlisted", Target::Selected, Action::Allow, Vec::new());
    check(&[own(&[]), unlisted.clone()], &[(8080, None, "GET web/", WEB)]);
    check(
        &[own(&["default/unlisted"]), unlisted],
        &[(8080, None, "GET web/", "403 rbac_access_denied_matched_policy[none]")],
    );
}

#[test]
fn a_dry_run_lets_pass() {
    let kind = PolicyKind::Authorization(Authorization {
        action: Action::Deny,
        rules: vec![AuthorizationRule::default()],
        dry_run: true,
        note: None,
    });
    let dry = policy(Origin::AuthorizationPolicy, "default/dry", Target::Mesh, kind);
    check(&[own(&[]), dry], &[(8080, None, "GET web/", WEB)]);
}

#[test]
fn every_part_of_a_source_and_a_condition() {
    let ns = |text: &str| namespace(text);
    let account = || (ns("a"), ServiceAccount::parse("b").expect("a name"));
    let source = |source: Source| AuthorizationRule { from: vec![source], ..AuthorizationRule::default() };
    let value = |text: &str| vec![StringMatch::from_policy_value(text)];
    let cidr = |text: &str| vec![text.parse::<Cidr>().expect("a range")];
    let ip = |key, any: &str, none: &str| {
        let range = |text: &str| if text.is_empty() { Vec::new() } else { cidr(text) };
        let addresses = AddressMatch { any: range(any), none: range(none) };
        let condition = Condition { key, values: Vec::new(), not_values: Vec::new(), addresses };
        AuthorizationRule { when: vec![condition], ..AuthorizationRule::default() }
    };
    let d = Source::default;
    let host = |hosts: &str, not_hosts: &str| {
        let list = |text: &str| if text.is_empty() { Vec::new() } else { value(text) };
        let operation = Operation { hosts: list(hosts), not_hosts: list(not_hosts), ..Operation::default() };
        AuthorizationRule { to: vec![operation], ..AuthorizationRule::default() }
    };
    // The rule, and whether it matches a/b by mTLS and a caller in plaintext, both from 10.9.9.9.
    for (rule, by_mtls, by_plaintext) in [
        (source(Source { principals: value("cluster.local/ns/a/sa/b"), ..d() }), true, false),
        (source(Source { principals: value("*"), ..d() }), true, false),
        (source(Source { not_principals: value("*/ns/a/sa/c"), ..d() }), true, true),
        (source(Source { not_principals: value("*/sa/b"), ..d() }), false, true),
        (source(Source { namespaces: value("a"), ..d() }), true, false),
        (source(Source { not_namespaces: value("a"), ..d() }), false, true),
        (source(Source { service_accounts: vec![account()], ..d() }), true, false),
        (source(Source { not_service_accounts: vec![account()], ..d() }), false, true),
        (source(Source { trust_domains: value("cluster.local"), ..d() }), true, false),
        (source(Source { not_trust_domains: value("cluster.*"), ..d() }), false, true),
        (source(Source { ip_blocks: cidr("10.9.0.0/16"), ..d() }), true, true),
        (source(Source { not_ip_blocks: cidr("10.9.0.0/16"), ..d() }), false, false),
        (source(Source { remote_ip_blocks: cidr("10.8.0.0/16"), ..d() }), false, false),
        (source(Source { not_remote_ip_blocks: cidr("10.8.0.0/16"), ..d() }), true, true),
        (source(Source { namespaces: value("a"), ip_blocks: cidr("10.8.0.0/16"), ..d() }), false, false),
        (host("WEB.com", ""), true, true),
        (host("*.com", "web.*"), false, false),
        (host("web.com:8080", ""), true, true),
        (to(&["POST"], &[], &[]), false, false),
        (to(&[], &["/x*"], &[8080]), true, true),
        (to(&[], &["/x*"], &[90]), false, false),
        (when(ConditionKey::RequestHeader("k".into()), &["v*"], &[]), true, true),
        (when(ConditionKey::RequestHeader("k".into()), &[], &["*"]), false, false),
        (when(ConditionKey::RequestHeader("none".into()), &["*"], &[]), false, false),
        (when(ConditionKey::SourceNamespace, &["a"], &[]), true, false),
        (when(ConditionKey::SourcePrincipal, &["*/sa/b"], &[]), true, false),
        (when(ConditionKey::SourceServiceAccount, &["a/b"], &[]), true, false),
        (when(ConditionKey::SourceTrustDomain, &[], &["other"]), true, true),
        (when(ConditionKey::DestinationPort, &["8080"], &[]), true, true),
        (when(ConditionKey::ConnectionSni, &["*"], &[]), false, false),
        (ip(ConditionKey::SourceIp, "10.9.9.9/32", ""), true, true),
        (ip(ConditionKey::RemoteIp, "", "10.9.9.9/32"), false, false),
        (ip(ConditionKey::DestinationIp, "10.1.0.1/32", ""), true, true),
    ] {
        let text = format!("{rule:?}");
        let entries = [own(&[]), authorization("default/a", Target::Mesh, Action::Allow, vec![rule])];
        let snapshot = snapshot(viewer("default/web", ProxyRole::Sidecar, &[]), entries);
        for (peer, expected) in [(Some("a/b"), by_mtls), (None, by_plaintext)] {
            let found =
                line(&snapshot, ask(&snapshot, &facts(8080, peer), "GET Web.com:8080/x1?y h:k=v1", 0));
            assert_eq!(found == WEB, expected, "{peer:?} {text}");
        }
    }
}

/// `//admin` and `/x%2F..%2Fadmin` are `/admin` to many applications, and sent on as they are.
#[test]
fn a_policy_is_not_passed_by_spelling_a_path_in_another_way() {
    let not_paths = AuthorizationRule {
        to: vec![Operation {
            not_paths: vec![StringMatch::from_policy_value("/admin*")],
            ..Operation::default()
        }],
        ..AuthorizationRule::default()
    };
    let denied = "403 rbac_access_denied_matched_policy[ns[default]-policy[p]-rule[0]]";
    let none = "403 rbac_access_denied_matched_policy[none]";
    for (action, rule, refused) in [
        (Action::Deny, to(&[], &["/admin*"], &[]), denied),
        (Action::Allow, not_paths, none),
        (Action::Allow, to(&[], &["/public*"], &[]), none),
    ] {
        let policy = authorization("default/p", Target::Mesh, action, vec![rule]);
        check(
            &[own(&["default/p"]), policy],
            &[
                (8080, Some("a/b"), "GET web/public/x", WEB),
                (8080, Some("a/b"), "GET web/public%2Fx", WEB),
                (8080, Some("a/b"), "GET web//admin", refused),
                (8080, Some("a/b"), "GET web/public%2F..%5cadmin?x", refused),
                (8080, Some("a/b"), "GET web/public//..//admin/x", refused),
            ],
        );
    }
}
