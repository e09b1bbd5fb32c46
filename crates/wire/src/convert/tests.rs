use super::*;
use crate::testing;
use lateen_model::{
    Action, Authorization, AuthorizationRule, Condition, ConditionKey, Key, Namespace, Operation, Origin,
    Policy, Source, StringMatch,
};
use proptest::prelude::*;

fn round_trip(entry: &Entry, encoded: &Encoded) {
    let decoded = decode(encoded.type_url, &encoded.name, encoded.bytes.clone()).unwrap();
    assert_eq!((&decoded.key, &decoded.resource), (&entry.key, &entry.resource));
}

proptest! {
    #[test]
    fn every_entry_comes_back_as_it_went(entry in testing::entry()) {
        let encoded = encode(&entry);
        prop_assert_eq!(TypeUrl::parse(encoded.type_url.as_str()), Some(encoded.type_url));
        prop_assert!(encoded.type_url.kinds().contains(&entry.resource.kind()));
        round_trip(&entry, &encoded);
        if !matches!(entry.resource, Resource::Credential(_)) {
            round_trip(&entry, &encode_for_dump(&entry));
        }
        prop_assert_eq!(encode(&entry), encoded);
    }

    #[test]
    fn any_bytes_are_an_error_and_security_is_denied(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        name in "\\PC{0,20}",
    ) {
        for type_url in TypeUrl::SHIPPED {
            if let Err(refused) = decode(type_url, &name, bytes.clone().into()) {
                let security = matches!(type_url, TypeUrl::Authorization | TypeUrl::Policy);
                prop_assert!(security >= refused.stand_in.is_some());
                prop_assert!(type_url != TypeUrl::Authorization || refused.stand_in.is_some());
            }
        }
    }

    #[test]
    fn damaged_resources_never_panic(entry in testing::entry(), at in any::<prop::sample::Index>(), byte: u8) {
        let encoded = encode(&entry);
        let mut bytes = encoded.bytes.to_vec();
        if !bytes.is_empty() {
            let index = at.index(bytes.len());
            bytes[index] = byte;
        }
        let _ = decode(encoded.type_url, &encoded.name, bytes.into());
    }

    /// An authorization that only says what ztunnel can say means the same without our extension.
    #[test]
    fn projected_rules_are_readable(authorization in testing::authorization()) {
        let entry = entry_with(authorization);
        let encoded = encode(&entry);
        let mut message = istio::security::Authorization::decode(encoded.bytes).unwrap();
        message.extensions.clear();
        let plain = decode(TypeUrl::Authorization, &encoded.name, message.encode_to_vec().into());
        prop_assert!(plain.is_ok(), "{plain:?}");
    }
}

fn shop() -> Namespace {
    Namespace::parse("shop").unwrap()
}

fn entry_with(authorization: Authorization) -> Entry {
    let key = Key::new(Origin::AuthorizationPolicy, shop(), "p");
    let kind = PolicyKind::Authorization(authorization);
    let policy = Policy {
        id: key.clone(),
        target: Target::Namespace(shop()),
        created: lateen_model::Created::UNKNOWN,
        kind,
    };
    Entry::for_everyone(key, Resource::Policy(policy))
}

fn project(action: Action, rule: AuthorizationRule) -> Vec<istio::security::Group> {
    let entry = entry_with(Authorization { action, rules: vec![rule], dry_run: false, note: None });
    let encoded = encode(&entry);
    assert_eq!((encoded.type_url, encoded.name.as_str()), (TypeUrl::Authorization, "shop/p"));
    istio::security::Authorization::decode(encoded.bytes).unwrap().groups
}

fn exact(text: &str) -> StringMatch {
    StringMatch::Exact(text.into())
}

fn get() -> Operation {
    Operation { methods: vec![exact("GET")], ..Operation::default() }
}

fn from_bank() -> Source {
    Source { namespaces: vec![exact("bank")], ..Source::default() }
}

#[test]
fn an_allow_rule_that_needs_http_is_left_out() {
    for rule in [
        AuthorizationRule { to: vec![get()], ..Default::default() },
        AuthorizationRule { from: vec![from_bank()], to: vec![get()], ..Default::default() },
        AuthorizationRule {
            from: vec![Source { remote_ip_blocks: vec!["10.0.0.0/8".parse().unwrap()], ..Source::default() }],
            ..Default::default()
        },
        AuthorizationRule {
            from: vec![Source { trust_domains: vec![exact("td")], ..Source::default() }],
            ..Default::default()
        },
        AuthorizationRule {
            when: vec![Condition {
                key: ConditionKey::SourceIp,
                values: vec![exact("not an address")],
                not_values: vec![],
                addresses: Default::default(),
            }],
            ..Default::default()
        },
    ] {
        assert_eq!(project(Action::Allow, rule.clone()), [], "{rule:?}");
    }
}

#[test]
fn a_deny_rule_keeps_what_is_about_connections() {
    let rule = AuthorizationRule { from: vec![from_bank()], to: vec![get()], ..Default::default() };
    let [group] = project(Action::Deny, rule).try_into().unwrap();
    let [rules] = group.rules.try_into().unwrap();
    assert_eq!((rules.matches.len(), rules.matches[0].namespaces.len()), (1, 1));
}

#[test]
fn a_deny_rule_about_nothing_else_than_http_denies_all() {
    let rule = AuthorizationRule { to: vec![get()], ..Default::default() };
    assert_eq!(project(Action::Deny, rule), [istio::security::Group::default()]);
    let one_is_wide = AuthorizationRule {
        from: vec![from_bank(), Source { trust_domains: vec![exact("td")], ..Source::default() }],
        ..Default::default()
    };
    assert_eq!(project(Action::Deny, one_is_wide), [istio::security::Group::default()]);
}

fn policy_message(entry: &Entry) -> pb::Policy {
    let Resource::Policy(policy) = &entry.resource else { panic!("a policy") };
    policy::to_pb(&entry.key, policy)
}

/// What stands in for a policy whose message was changed on the way.
fn stand_in(change: impl Fn(&mut pb::Policy)) -> Option<Target> {
    let authorization = Authorization { action: Action::Allow, rules: vec![], dry_run: false, note: None };
    let entry = entry_with(authorization);
    let mut message = policy_message(&entry);
    change(&mut message);
    let name = message.key.clone();
    let refused = decode(TypeUrl::Policy, &name, message.encode_to_vec().into()).unwrap_err();
    let stand_in = refused.stand_in?;
    match stand_in.resource {
        Resource::Policy(Policy { target, kind: PolicyKind::Authorization(denies), .. }) => {
            assert_eq!((denies.action, denies.rules), (Action::Deny, vec![AuthorizationRule::default()]));
            Some(target)
        }
        other => panic!("{other:?} is no policy"),
    }
}

#[test]
fn a_refused_policy_denies_the_narrowest_target_that_can_be_read() {
    let namespace = Some(Target::Namespace(shop()));
    assert_eq!(stand_in(|it| it.requires.push("time-travel".into())), namespace);
    assert_eq!(stand_in(|it| it.kind = None), namespace);
    assert_eq!(stand_in(|it| it.target = None), namespace);
    let selected = || Some(pb::policy::Target::Selected(pb::SelectedTarget {}));
    let unknown = |it: &mut pb::Policy| {
        it.target = selected();
        it.kind = None;
    };
    assert_eq!(stand_in(unknown), Some(Target::Selected));
    let unknown_object = |it: &mut pb::Policy| {
        it.target = selected();
        it.key = "Kubernetes/new.io/NewPolicy/shop/p".into();
    };
    assert_eq!(stand_in(unknown_object), namespace);
    assert_eq!(stand_in(|it| it.key = "?".into()), namespace);
    assert_eq!(stand_in(|it| (it.key, it.target) = ("?".into(), None)), Some(Target::Mesh));
}

#[test]
fn a_refused_traffic_policy_denies_nothing() {
    let destination = pb::policy::Kind::Destination(pb::Destination::default());
    assert_eq!(stand_in(|it| it.kind = Some(destination.clone())), None);
}

#[test]
fn a_resource_cannot_take_the_place_of_another() {
    let entry = entry_with(Authorization { action: Action::Deny, rules: vec![], dry_run: false, note: None });
    let encoded = encode(&entry);
    let refused = decode(encoded.type_url, "shop/other", encoded.bytes).unwrap_err();
    assert!(refused.why.contains("names itself \"shop/p\""), "{refused}");
}

#[test]
fn a_header_cannot_smuggle_a_line() {
    let edit = pb::HeaderEdit {
        set: vec![pb::Header { name: "x".into(), value: "a\r\nb: c".into(), formatted: false }],
        ..Default::default()
    };
    let filter = pb::Filter { filter: Some(pb::filter::Filter::RequestHeaders(edit)) };
    let key = Key::new(Origin::HttpRoute, shop(), "r").to_string();
    let route = pb::Route {
        key: key.clone(),
        rules: vec![pb::Rule { filters: vec![filter], ..Default::default() }],
        ..Default::default()
    };
    let refused = decode(TypeUrl::Route, &key, route.encode_to_vec().into()).unwrap_err();
    assert!(refused.why.starts_with("rules[0]: filters[0]: set[0]: a header value"), "{refused}");
    assert_eq!(refused.stand_in, None);
}
