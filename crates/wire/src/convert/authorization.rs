//! `istio.security.Authorization`: the part of an authorization that is about connections, for ztunnel and
//! for every reader that knows nothing of ours; the whole travels in an extension.
//!
//! What cannot be said about a connection fails safe: an allow rule that asks for more is left out, so it
//! allows nothing; a deny rule keeps only what can be said, so it denies more, and everything if nothing
//! is left.

use super::Invalid;
use super::address::{extension as make_extension, find_extension as find, ip, octets};
use super::common::{Result, each, need, port};
use crate::pb::istio::security::{self as istio, string_match::MatchType};
use crate::pb::istio::workload::Extension;
use crate::pb::lateen::v1 as pb;
use lateen_model::{
    Action, AddressMatch, Authorization, AuthorizationRule, Cidr, ClusterId, Condition, ConditionKey,
    Created, Key, Namespace, Operation, Origin, Policy, PolicyId, PolicyKind, ServiceAccount, Source,
    StringMatch, Target,
};

const EXTENSION: &str = "lateen.dev/policy";

pub(super) fn extension(policy: &pb::Policy) -> Extension {
    make_extension(EXTENSION, "lateen.v1.Policy", policy)
}

pub(super) fn find_extension(message: &istio::Authorization) -> Result<Option<pb::Policy>> {
    find(&message.extensions, EXTENSION)
}

/// How far an authorization reaches, where `istio.security` can say it; otherwise it travels as ours alone.
pub(super) fn scope(key: &Key, policy: &Policy) -> Option<istio::Scope> {
    match &policy.target {
        _ if policy.id != *key => None,
        Target::Mesh => Some(istio::Scope::Global),
        Target::Namespace(namespace) if *namespace == key.namespace => Some(istio::Scope::Namespace),
        Target::Selected => Some(istio::Scope::WorkloadSelector),
        Target::Namespace(_) | Target::Service(_) | Target::Gateway(_) | Target::Route(_) => None,
    }
}

/// The name within the namespace. An object of another cluster or a part of one carries its whole key, so
/// that no two policies share a name and one replaces the other.
fn name(key: &Key) -> String {
    let plain = key.origin == Origin::AuthorizationPolicy
        && key.cluster == ClusterId::default()
        && key.section.is_none();
    if plain { key.name.to_string() } else { key.to_string() }
}

/// How a workload names a policy that selects it; other policies than authorizations it cannot name.
pub(super) fn reference(policy: &PolicyId) -> Option<String> {
    (policy.origin == Origin::AuthorizationPolicy).then(|| format!("{}/{}", policy.namespace, name(policy)))
}

pub(super) fn key_of_reference(text: &str) -> Result<PolicyId> {
    let (namespace, name) =
        text.split_once('/').ok_or_else(|| Invalid::new("a policy is not named namespace/name"))?;
    Ok(Key::new(Origin::AuthorizationPolicy, Namespace::parse(namespace)?, name))
}

pub(super) fn to_pb(
    key: &Key,
    scope: istio::Scope,
    authorization: &Authorization,
    whole: Extension,
) -> istio::Authorization {
    let action = match authorization.action {
        Action::Allow => istio::Action::Allow,
        Action::Deny => istio::Action::Deny,
    };
    let group = |rule: &AuthorizationRule| project(authorization.action, rule);
    istio::Authorization {
        name: name(key),
        namespace: key.namespace.to_string(),
        scope: scope as i32,
        action: action as i32,
        groups: authorization.rules.iter().filter_map(group).collect(),
        dry_run: authorization.dry_run,
        extensions: vec![whole],
    }
}

/// The part of a rule that is about connections; `None` leaves an allow rule out.
fn project(action: Action, rule: &AuthorizationRule) -> Option<istio::Group> {
    let mut rules = Vec::new();
    for alternatives in [
        rule.from.iter().map(project_source).collect::<Vec<_>>(),
        rule.to.iter().map(project_operation).collect::<Vec<_>>(),
    ] {
        rules.extend(join(action, alternatives)?);
    }
    for condition in &rule.when {
        rules.extend(join(action, vec![project_condition(condition)])?);
    }
    Some(istio::Group { rules })
}

/// A match, and whether it says all that was asked for.
struct Projected {
    part: istio::Match,
    whole: bool,
}

/// Joins alternatives. `None`: the rule cannot be said. Empty: nothing is asked for.
/// A match without fields never matches for ztunnel, so an alternative that asks for nothing dissolves
/// the whole list, which then always holds.
fn join(action: Action, alternatives: Vec<Projected>) -> Option<Option<istio::Rules>> {
    if action == Action::Allow && alternatives.iter().any(|one| !one.whole) {
        return None;
    }
    let empty = istio::Match::default();
    if alternatives.is_empty() || alternatives.iter().any(|one| one.part == empty) {
        return Some(None);
    }
    Some(Some(istio::Rules { matches: alternatives.into_iter().map(|one| one.part).collect() }))
}

/// All values of a list, or none of them where one cannot be said: to drop a single value would narrow.
fn all<A, B>(whole: &mut bool, values: &[A], say: impl Fn(&A) -> Option<B>) -> Vec<B> {
    let said: Option<Vec<B>> = values.iter().map(say).collect();
    *whole &= said.is_some();
    said.unwrap_or_default()
}

fn say_match(text: &StringMatch) -> Option<istio::StringMatch> {
    let match_type = match text {
        StringMatch::Exact(text) => MatchType::Exact(text.to_string()),
        StringMatch::Prefix(text) => MatchType::Prefix(text.to_string()),
        StringMatch::Suffix(text) => MatchType::Suffix(text.to_string()),
        StringMatch::Present => MatchType::Presence(()),
        StringMatch::ExactIgnoreCase(_) | StringMatch::PrefixIgnoreCase(_) | StringMatch::Regex(_) => {
            return None;
        }
    };
    Some(istio::StringMatch { match_type: Some(match_type) })
}

fn say_range(range: &Cidr) -> Option<istio::Address> {
    Some(istio::Address { address: octets(range.addr()), length: range.prefix_len().into() })
}

fn say_account((namespace, account): &(Namespace, ServiceAccount)) -> Option<istio::ServiceAccountMatch> {
    Some(istio::ServiceAccountMatch {
        namespace: namespace.to_string(),
        service_account: account.to_string(),
    })
}

fn project_source(source: &Source) -> Projected {
    let mut whole = source.trust_domains.is_empty()
        && source.not_trust_domains.is_empty()
        && source.remote_ip_blocks.is_empty()
        && source.not_remote_ip_blocks.is_empty();
    let part = istio::Match {
        namespaces: all(&mut whole, &source.namespaces, say_match),
        not_namespaces: all(&mut whole, &source.not_namespaces, say_match),
        principals: all(&mut whole, &source.principals, say_match),
        not_principals: all(&mut whole, &source.not_principals, say_match),
        source_ips: all(&mut whole, &source.ip_blocks, say_range),
        not_source_ips: all(&mut whole, &source.not_ip_blocks, say_range),
        service_accounts: all(&mut whole, &source.service_accounts, say_account),
        not_service_accounts: all(&mut whole, &source.not_service_accounts, say_account),
        ..Default::default()
    };
    Projected { part, whole }
}

fn project_operation(operation: &Operation) -> Projected {
    let part = istio::Match {
        destination_ports: operation.ports.iter().copied().map(Into::into).collect(),
        not_destination_ports: operation.not_ports.iter().copied().map(Into::into).collect(),
        ..Default::default()
    };
    Projected { part, whole: !operation.needs_http() }
}

fn project_condition(condition: &Condition) -> Projected {
    let Condition { key, values, not_values, addresses } = condition;
    let mut whole = true;
    let mut part = istio::Match::default();
    match key {
        ConditionKey::SourceNamespace => {
            part.namespaces = all(&mut whole, values, say_match);
            part.not_namespaces = all(&mut whole, not_values, say_match);
        }
        ConditionKey::SourcePrincipal => {
            part.principals = all(&mut whole, values, say_match);
            part.not_principals = all(&mut whole, not_values, say_match);
        }
        ConditionKey::SourceServiceAccount => {
            part.service_accounts = all(&mut whole, values, account_of);
            part.not_service_accounts = all(&mut whole, not_values, account_of);
        }
        ConditionKey::SourceIp => {
            part.source_ips = ranges(&mut whole, values, &addresses.any);
            part.not_source_ips = ranges(&mut whole, not_values, &addresses.none);
        }
        ConditionKey::DestinationIp => {
            part.destination_ips = ranges(&mut whole, values, &addresses.any);
            part.not_destination_ips = ranges(&mut whole, not_values, &addresses.none);
        }
        ConditionKey::DestinationPort => {
            part.destination_ports = all(&mut whole, values, port_of);
            part.not_destination_ports = all(&mut whole, not_values, port_of);
        }
        ConditionKey::RequestHeader(_)
        | ConditionKey::RemoteIp
        | ConditionKey::SourceTrustDomain
        | ConditionKey::ConnectionSni => whole = false,
    }
    Projected { part, whole }
}

/// The ranges of a condition, if every value of it is one.
fn ranges(whole: &mut bool, values: &[StringMatch], ranges: &[Cidr]) -> Vec<istio::Address> {
    let complete = values.len() <= ranges.len();
    *whole &= complete;
    if complete { all(whole, ranges, say_range) } else { Vec::new() }
}

fn account_of(text: &StringMatch) -> Option<istio::ServiceAccountMatch> {
    let StringMatch::Exact(text) = text else { return None };
    let (namespace, account) = text.split_once('/')?;
    say_account(&(Namespace::parse(namespace).ok()?, ServiceAccount::parse(account).ok()?))
}

fn port_of(text: &StringMatch) -> Option<u32> {
    let StringMatch::Exact(text) = text else { return None };
    text.parse::<u16>().ok().map(Into::into)
}

/// Reads an authorization that came without our extension.
pub(super) fn from_pb(message: &istio::Authorization) -> Result<(Key, Policy)> {
    let namespace = Namespace::parse(&message.namespace)?;
    let target = match istio::Scope::try_from(message.scope) {
        Ok(istio::Scope::Global) => Target::Mesh,
        Ok(istio::Scope::Namespace) => Target::Namespace(namespace.clone()),
        Ok(istio::Scope::WorkloadSelector) => Target::Selected,
        Err(_) => return Err(Invalid::new(format!("scope {} is not known", message.scope))),
    };
    let action = match istio::Action::try_from(message.action) {
        Ok(istio::Action::Allow) => Action::Allow,
        Ok(istio::Action::Deny) => Action::Deny,
        Err(_) => return Err(Invalid::new(format!("action {} is not known", message.action))),
    };
    let key = Key::new(Origin::AuthorizationPolicy, namespace, message.name.as_str());
    let rules = each(&message.groups, "groups", rule_from_pb)?;
    let authorization = Authorization { action, rules, dry_run: message.dry_run, note: None };
    let kind = PolicyKind::Authorization(authorization);
    Ok((key.clone(), Policy { id: key, target, created: Created::UNKNOWN, kind }))
}

/// A group is an AND of ORs; a rule of ours has one OR for the source, one for the operation, and
/// conditions. A group that needs more is refused rather than bent.
fn rule_from_pb(group: &istio::Group) -> Result<AuthorizationRule> {
    let mut rule = AuthorizationRule::default();
    for rules in &group.rules {
        let matches: Vec<_> = rules.matches.iter().filter(|one| **one != istio::Match::default()).collect();
        match matches.as_slice() {
            [] if rules.matches.is_empty() => {}
            [] => return Err(Invalid::new("a rule has only empty matches, which never match")),
            many if rule.from.is_empty() && many.iter().all(|one| is_source(one)) => {
                rule.from = each(many.iter().copied(), "matches", source_from_pb)?;
            }
            many if rule.to.is_empty() && many.iter().all(|one| is_ports(one)) => {
                rule.to = each(many.iter().copied(), "matches", operation_from_pb)?;
            }
            [one] => rule.when.extend(conditions_from_pb(one)?),
            _ => return Err(Invalid::new("a group combines its rules in a way that is not supported")),
        }
    }
    Ok(rule)
}

fn is_source(one: &istio::Match) -> bool {
    one.destination_ips.is_empty()
        && one.not_destination_ips.is_empty()
        && one.destination_ports.is_empty()
        && one.not_destination_ports.is_empty()
        && one.extensions.is_empty()
}

fn is_ports(one: &istio::Match) -> bool {
    let only = istio::Match {
        destination_ports: one.destination_ports.clone(),
        not_destination_ports: one.not_destination_ports.clone(),
        ..Default::default()
    };
    *one == only
}

fn hear_matches(matches: &[istio::StringMatch]) -> Result<Vec<StringMatch>> {
    each(matches, "values", |one| {
        Ok(match need(one.match_type.as_ref(), "match_type")? {
            MatchType::Exact(text) => StringMatch::Exact(text.into()),
            MatchType::Prefix(text) => StringMatch::Prefix(text.into()),
            MatchType::Suffix(text) => StringMatch::Suffix(text.into()),
            MatchType::Presence(()) => StringMatch::Present,
        })
    })
}

fn hear_ranges(ranges: &[istio::Address]) -> Result<Vec<Cidr>> {
    each(ranges, "addresses", |one| {
        let length = u8::try_from(one.length).map_err(|_| Invalid::new("a prefix is too long"))?;
        Cidr::new(ip(&one.address)?, length).map_err(|_| Invalid::new("a prefix is too long"))
    })
}

fn hear_accounts(accounts: &[istio::ServiceAccountMatch]) -> Result<Vec<(Namespace, ServiceAccount)>> {
    each(accounts, "service_accounts", |one| {
        Ok((Namespace::parse(&one.namespace)?, ServiceAccount::parse(&one.service_account)?))
    })
}

fn hear_ports(ports: &[u32]) -> Result<Vec<u16>> {
    ports.iter().copied().map(port).collect()
}

fn source_from_pb(one: &istio::Match) -> Result<Source> {
    Ok(Source {
        principals: hear_matches(&one.principals)?,
        not_principals: hear_matches(&one.not_principals)?,
        namespaces: hear_matches(&one.namespaces)?,
        not_namespaces: hear_matches(&one.not_namespaces)?,
        service_accounts: hear_accounts(&one.service_accounts)?,
        not_service_accounts: hear_accounts(&one.not_service_accounts)?,
        ip_blocks: hear_ranges(&one.source_ips)?,
        not_ip_blocks: hear_ranges(&one.not_source_ips)?,
        ..Source::default()
    })
}

fn operation_from_pb(one: &istio::Match) -> Result<Operation> {
    Ok(Operation {
        ports: hear_ports(&one.destination_ports)?,
        not_ports: hear_ports(&one.not_destination_ports)?,
        ..Operation::default()
    })
}

/// One match as conditions: its fields are all asked for, as conditions are.
fn conditions_from_pb(one: &istio::Match) -> Result<Vec<Condition>> {
    if !one.extensions.is_empty() {
        return Err(Invalid::new("a match has extensions that are not known"));
    }
    let exact = |text: String| StringMatch::Exact(text.into());
    let port = |port: &u32| exact(port.to_string());
    let account =
        |one: &istio::ServiceAccountMatch| exact(format!("{}/{}", one.namespace, one.service_account));
    let texts = |key, values: Vec<_>, not_values: Vec<_>| Condition {
        key,
        values,
        not_values,
        addresses: AddressMatch::default(),
    };
    let as_texts = |ranges: &[Cidr]| ranges.iter().map(|range| exact(range.to_string())).collect();
    let ranges = |key, any: Vec<Cidr>, none: Vec<Cidr>| Condition {
        key,
        values: as_texts(&any),
        not_values: as_texts(&none),
        addresses: AddressMatch { any, none },
    };
    let all = [
        texts(
            ConditionKey::SourceNamespace,
            hear_matches(&one.namespaces)?,
            hear_matches(&one.not_namespaces)?,
        ),
        texts(
            ConditionKey::SourcePrincipal,
            hear_matches(&one.principals)?,
            hear_matches(&one.not_principals)?,
        ),
        texts(
            ConditionKey::SourceServiceAccount,
            one.service_accounts.iter().map(account).collect(),
            one.not_service_accounts.iter().map(account).collect(),
        ),
        texts(
            ConditionKey::DestinationPort,
            one.destination_ports.iter().map(port).collect(),
            one.not_destination_ports.iter().map(port).collect(),
        ),
        ranges(ConditionKey::SourceIp, hear_ranges(&one.source_ips)?, hear_ranges(&one.not_source_ips)?),
        ranges(
            ConditionKey::DestinationIp,
            hear_ranges(&one.destination_ips)?,
            hear_ranges(&one.not_destination_ips)?,
        ),
    ];
    let asks = |one: &Condition| {
        !(one.values.is_empty()
            && one.not_values.is_empty()
            && one.addresses.any.is_empty()
            && one.addresses.none.is_empty())
    };
    Ok(all.into_iter().filter(asks).collect())
}
