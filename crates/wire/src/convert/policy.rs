//! Policies: the envelope and every kind.

use super::Invalid;
use super::common::{
    Context, Result, check_requires, cidrs_from_pb, cidrs_to_pb, created_from_pb, each, key, mirror, need,
    object_from_pb, object_to_pb, ports, selector_from_pb, selector_to_pb, service_id_from_pb,
    service_id_to_pb, string_matches_from_pb, string_matches_to_pb, visibility_from_pb, visibility_to_pb,
};
use crate::pb::lateen::v1 as pb;
use lateen_model::{
    Action, AddressMatch, Authorization, AuthorizationRule, Condition, ConditionKey, DestinationPolicy,
    HostPattern, Key, MtlsMode, Namespace, Operation, PeerAuthentication, Policy, PolicyKind, ServiceAccount,
    Source, Subset, Target,
};
use pb::condition::Attribute;

mod limits;
mod traffic;

mirror!(action_to_pb, action_from_pb: Action = pb::authorization::Action { Allow = Allow, Deny = Deny });
mirror!(mode_to_pb, mode_from_pb: MtlsMode = pb::MtlsMode {
    Unset = Unset, Disable = Disable, Permissive = Permissive, Strict = Strict,
});

pub(super) fn to_pb(key: &Key, policy: &Policy) -> pb::Policy {
    use pb::policy::{Kind, Target as Wire};
    let target = match &policy.target {
        Target::Mesh => Wire::Mesh(pb::MeshTarget {}),
        Target::Namespace(namespace) => Wire::Namespace(namespace.to_string()),
        Target::Selected => Wire::Selected(pb::SelectedTarget {}),
        Target::Service(service) => Wire::Service(service_id_to_pb(service)),
        Target::Gateway(gateway) => Wire::Gateway(gateway.to_string()),
        Target::Route(route) => Wire::Route(route.to_string()),
    };
    let kind = match &policy.kind {
        PolicyKind::Authorization(authorization) => Kind::Authorization(authorization_to_pb(authorization)),
        PolicyKind::PeerAuthentication(peer) => Kind::PeerAuthentication(pb::PeerAuthentication {
            mode: mode_to_pb(peer.mode),
            ports: peer.ports.iter().map(|(port, mode)| ((*port).into(), mode_to_pb(*mode))).collect(),
        }),
        PolicyKind::Destination(destination) => Kind::Destination(destination_to_pb(destination)),
        PolicyKind::RateLimit(limit) => Kind::RateLimit(limits::rate_to_pb(limit)),
        PolicyKind::RequestLimit(limit) => Kind::RequestLimit(limits::request_to_pb(limit)),
    };
    pb::Policy {
        key: key.to_string(),
        requires: Vec::new(),
        object: object_to_pb(key, &policy.id),
        created: policy.created.seconds(),
        target: Some(target),
        kind: Some(kind),
    }
}

pub(super) fn from_pb(context: &Context, message: &pb::Policy) -> Result<(Key, Policy)> {
    use pb::policy::Kind;
    check_requires(&message.requires)?;
    let own = key(&message.key)?;
    let kind = match need(message.kind.as_ref(), "kind")? {
        Kind::Authorization(wire) => PolicyKind::Authorization(authorization_from_pb(context, wire)?),
        Kind::PeerAuthentication(wire) => PolicyKind::PeerAuthentication(peer_from_pb(wire)?),
        Kind::Destination(wire) => PolicyKind::Destination(Box::new(destination_from_pb(wire)?)),
        Kind::RateLimit(wire) => PolicyKind::RateLimit(limits::rate_from_pb(context, wire)?),
        Kind::RequestLimit(wire) => PolicyKind::RequestLimit(limits::request_from_pb(wire)),
    };
    let policy = Policy {
        id: object_from_pb(&own, &message.object)?,
        target: target_from_pb(message)?,
        created: created_from_pb(message.created),
        kind,
    };
    Ok((own, policy))
}

pub(super) fn target_from_pb(message: &pb::Policy) -> Result<Target> {
    use pb::policy::Target as Wire;
    Ok(match need(message.target.as_ref(), "target")? {
        Wire::Mesh(_) => Target::Mesh,
        Wire::Namespace(namespace) => Target::Namespace(Namespace::parse(namespace)?),
        Wire::Selected(_) => Target::Selected,
        Wire::Service(service) => Target::Service(service_id_from_pb(service)?),
        Wire::Gateway(gateway) => Target::Gateway(key(gateway)?),
        Wire::Route(route) => Target::Route(key(route)?),
    })
}

fn authorization_to_pb(authorization: &Authorization) -> pb::Authorization {
    let rule = |rule: &AuthorizationRule| pb::AuthorizationRule {
        from: rule.from.iter().map(source_to_pb).collect(),
        to: rule.to.iter().map(operation_to_pb).collect(),
        when: rule.when.iter().map(condition_to_pb).collect(),
    };
    pb::Authorization {
        action: action_to_pb(authorization.action),
        rules: authorization.rules.iter().map(rule).collect(),
        dry_run: authorization.dry_run,
        note: authorization.note.as_ref().map(ToString::to_string),
    }
}

fn authorization_from_pb(context: &Context, message: &pb::Authorization) -> Result<Authorization> {
    let rule = |rule: &pb::AuthorizationRule| {
        Ok(AuthorizationRule {
            from: each(&rule.from, "from", |one| source_from_pb(context, one))?,
            to: each(&rule.to, "to", |one| operation_from_pb(context, one))?,
            when: each(&rule.when, "when", |one| condition_from_pb(context, one))?,
        })
    };
    Ok(Authorization {
        action: action_from_pb(message.action)?,
        rules: each(&message.rules, "rules", rule)?,
        dry_run: message.dry_run,
        note: message.note.as_ref().map(Into::into),
    })
}

fn accounts_to_pb(accounts: &[(Namespace, ServiceAccount)]) -> Vec<pb::ServiceAccount> {
    let one = |(namespace, account): &(Namespace, ServiceAccount)| pb::ServiceAccount {
        namespace: namespace.to_string(),
        service_account: account.to_string(),
    };
    accounts.iter().map(one).collect()
}

fn accounts_from_pb(accounts: &[pb::ServiceAccount]) -> Result<Vec<(Namespace, ServiceAccount)>> {
    each(accounts, "service_accounts", |one| {
        Ok((Namespace::parse(&one.namespace)?, ServiceAccount::parse(&one.service_account)?))
    })
}

fn source_to_pb(source: &Source) -> pb::Source {
    pb::Source {
        principals: string_matches_to_pb(&source.principals),
        not_principals: string_matches_to_pb(&source.not_principals),
        namespaces: string_matches_to_pb(&source.namespaces),
        not_namespaces: string_matches_to_pb(&source.not_namespaces),
        service_accounts: accounts_to_pb(&source.service_accounts),
        not_service_accounts: accounts_to_pb(&source.not_service_accounts),
        trust_domains: string_matches_to_pb(&source.trust_domains),
        not_trust_domains: string_matches_to_pb(&source.not_trust_domains),
        ip_blocks: cidrs_to_pb(&source.ip_blocks),
        not_ip_blocks: cidrs_to_pb(&source.not_ip_blocks),
        remote_ip_blocks: cidrs_to_pb(&source.remote_ip_blocks),
        not_remote_ip_blocks: cidrs_to_pb(&source.not_remote_ip_blocks),
    }
}

fn source_from_pb(context: &Context, source: &pb::Source) -> Result<Source> {
    let matches = |list: &[pb::StringMatch], name| string_matches_from_pb(context, list, name);
    Ok(Source {
        principals: matches(&source.principals, "principals")?,
        not_principals: matches(&source.not_principals, "not_principals")?,
        namespaces: matches(&source.namespaces, "namespaces")?,
        not_namespaces: matches(&source.not_namespaces, "not_namespaces")?,
        service_accounts: accounts_from_pb(&source.service_accounts)?,
        not_service_accounts: accounts_from_pb(&source.not_service_accounts)?,
        trust_domains: matches(&source.trust_domains, "trust_domains")?,
        not_trust_domains: matches(&source.not_trust_domains, "not_trust_domains")?,
        ip_blocks: cidrs_from_pb(&source.ip_blocks, "ip_blocks")?,
        not_ip_blocks: cidrs_from_pb(&source.not_ip_blocks, "not_ip_blocks")?,
        remote_ip_blocks: cidrs_from_pb(&source.remote_ip_blocks, "remote_ip_blocks")?,
        not_remote_ip_blocks: cidrs_from_pb(&source.not_remote_ip_blocks, "not_remote_ip_blocks")?,
    })
}

fn operation_to_pb(operation: &Operation) -> pb::Operation {
    pb::Operation {
        hosts: string_matches_to_pb(&operation.hosts),
        not_hosts: string_matches_to_pb(&operation.not_hosts),
        ports: operation.ports.iter().copied().map(Into::into).collect(),
        not_ports: operation.not_ports.iter().copied().map(Into::into).collect(),
        methods: string_matches_to_pb(&operation.methods),
        not_methods: string_matches_to_pb(&operation.not_methods),
        paths: string_matches_to_pb(&operation.paths),
        not_paths: string_matches_to_pb(&operation.not_paths),
    }
}

fn operation_from_pb(context: &Context, operation: &pb::Operation) -> Result<Operation> {
    let matches = |list: &[pb::StringMatch], name| string_matches_from_pb(context, list, name);
    Ok(Operation {
        hosts: matches(&operation.hosts, "hosts")?,
        not_hosts: matches(&operation.not_hosts, "not_hosts")?,
        ports: ports(operation.ports.clone())?,
        not_ports: ports(operation.not_ports.clone())?,
        methods: matches(&operation.methods, "methods")?,
        not_methods: matches(&operation.not_methods, "not_methods")?,
        paths: matches(&operation.paths, "paths")?,
        not_paths: matches(&operation.not_paths, "not_paths")?,
    })
}

fn condition_to_pb(condition: &Condition) -> pb::Condition {
    use pb::condition::Key as Wire;
    let attribute = |attribute: Attribute| Wire::Attribute(attribute as i32);
    let key = match &condition.key {
        ConditionKey::RequestHeader(name) => Wire::RequestHeader(name.to_string()),
        ConditionKey::SourceIp => attribute(Attribute::SourceIp),
        ConditionKey::RemoteIp => attribute(Attribute::RemoteIp),
        ConditionKey::SourceNamespace => attribute(Attribute::SourceNamespace),
        ConditionKey::SourcePrincipal => attribute(Attribute::SourcePrincipal),
        ConditionKey::SourceServiceAccount => attribute(Attribute::SourceServiceAccount),
        ConditionKey::SourceTrustDomain => attribute(Attribute::SourceTrustDomain),
        ConditionKey::DestinationIp => attribute(Attribute::DestinationIp),
        ConditionKey::DestinationPort => attribute(Attribute::DestinationPort),
        ConditionKey::ConnectionSni => attribute(Attribute::ConnectionSni),
    };
    pb::Condition {
        key: Some(key),
        values: string_matches_to_pb(&condition.values),
        not_values: string_matches_to_pb(&condition.not_values),
        addresses: cidrs_to_pb(&condition.addresses.any),
        not_addresses: cidrs_to_pb(&condition.addresses.none),
    }
}

fn condition_from_pb(context: &Context, message: &pb::Condition) -> Result<Condition> {
    use pb::condition::Key as Wire;
    let key = match need(message.key.as_ref(), "key")? {
        Wire::RequestHeader(name) => ConditionKey::RequestHeader(name.into()),
        Wire::Attribute(attribute) => attribute_from_pb(*attribute)?,
    };
    Ok(Condition {
        key,
        values: string_matches_from_pb(context, &message.values, "values")?,
        not_values: string_matches_from_pb(context, &message.not_values, "not_values")?,
        addresses: AddressMatch {
            any: cidrs_from_pb(&message.addresses, "addresses")?,
            none: cidrs_from_pb(&message.not_addresses, "not_addresses")?,
        },
    })
}

fn attribute_from_pb(attribute: i32) -> Result<ConditionKey> {
    Ok(match Attribute::try_from(attribute) {
        Ok(Attribute::SourceIp) => ConditionKey::SourceIp,
        Ok(Attribute::RemoteIp) => ConditionKey::RemoteIp,
        Ok(Attribute::SourceNamespace) => ConditionKey::SourceNamespace,
        Ok(Attribute::SourcePrincipal) => ConditionKey::SourcePrincipal,
        Ok(Attribute::SourceServiceAccount) => ConditionKey::SourceServiceAccount,
        Ok(Attribute::SourceTrustDomain) => ConditionKey::SourceTrustDomain,
        Ok(Attribute::DestinationIp) => ConditionKey::DestinationIp,
        Ok(Attribute::DestinationPort) => ConditionKey::DestinationPort,
        Ok(Attribute::ConnectionSni) => ConditionKey::ConnectionSni,
        Ok(Attribute::Unspecified) | Err(_) => {
            return Err(Invalid::new(format!("attribute {attribute} is not known")));
        }
    })
}

fn peer_from_pb(message: &pb::PeerAuthentication) -> Result<PeerAuthentication> {
    let port = |(number, mode): (&u32, &i32)| Ok((super::common::port(*number)?, mode_from_pb(*mode)?));
    Ok(PeerAuthentication {
        mode: mode_from_pb(message.mode)?,
        ports: message.ports.iter().map(port).collect::<Result<_>>()?,
    })
}

fn destination_to_pb(destination: &DestinationPolicy) -> pb::Destination {
    let subset = |subset: &Subset| pb::Subset {
        name: subset.name.to_string(),
        labels: selector_to_pb(&subset.labels),
        traffic: Some(traffic::to_pb(&subset.traffic)),
    };
    pb::Destination {
        host: destination.host.to_string(),
        traffic: Some(traffic::to_pb(&destination.traffic)),
        subsets: destination.subsets.iter().map(subset).collect(),
        visibility: Some(visibility_to_pb(&destination.visibility)),
        clients: selector_to_pb(&destination.clients),
    }
}

fn destination_from_pb(message: &pb::Destination) -> Result<DestinationPolicy> {
    let subset = |subset: &pb::Subset| {
        Ok(Subset {
            name: subset.name.as_str().into(),
            labels: selector_from_pb(subset.labels.clone()),
            traffic: traffic::from_pb(subset.traffic.as_ref())?,
        })
    };
    Ok(DestinationPolicy {
        host: HostPattern::parse(&message.host)?,
        traffic: traffic::from_pb(message.traffic.as_ref())?,
        subsets: each(&message.subsets, "subsets", subset)?,
        clients: selector_from_pb(message.clients.clone()),
        visibility: visibility_from_pb(message.visibility.clone())?,
    })
}
