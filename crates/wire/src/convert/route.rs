//! Routes: parents, rules, matches, filters and backends.

use super::Invalid;
use super::common::{
    Context, Result, check_requires, created_from_pb, duration_from_pb, duration_to_pb, each, hosts_from_pb,
    hosts_to_pb, key, mirror, named_matches_from_pb, named_matches_to_pb, need, object_from_pb, object_to_pb,
    optional_from_pb, optional_namespace, optional_to_pb, port, ports, selector_from_pb, selector_to_pb,
    service_id_from_pb, service_id_to_pb, string_match_from_pb, string_match_to_pb, visibility_from_pb,
    visibility_to_pb,
};
use crate::pb::lateen::v1 as pb;
use lateen_model::{
    Backend, Key, Parent, PathMatch, Precedence, RequestMatch, Resource, RetryConditions, RetryPolicy, Route,
    Rule,
};

mod answer;
mod backend;
mod filter;

mirror!(precedence_to_pb, precedence_from_pb: Precedence = pb::route::Precedence {
    Listed = Listed, MostSpecific = MostSpecific,
});

pub(super) fn to_pb(key: &Key, route: &Route) -> pb::Route {
    pb::Route {
        key: key.to_string(),
        requires: Vec::new(),
        object: object_to_pb(key, &route.key),
        parents: route.parents.iter().map(parent_to_pb).collect(),
        hosts: hosts_to_pb(&route.hosts),
        rules: route.rules.iter().map(rule_to_pb).collect(),
        precedence: precedence_to_pb(route.precedence),
        created: route.created.seconds(),
        visibility: Some(visibility_to_pb(&route.visibility)),
    }
}

pub(super) fn from_pb(context: &Context, message: pb::Route) -> Result<(Key, Resource)> {
    check_requires(&message.requires)?;
    let own = key(&message.key)?;
    let route = Route {
        key: object_from_pb(&own, &message.object)?,
        parents: each(message.parents, "parents", parent_from_pb)?,
        hosts: hosts_from_pb(message.hosts)?,
        rules: each(message.rules, "rules", |rule| rule_from_pb(context, rule))?,
        precedence: precedence_from_pb(message.precedence)?,
        created: created_from_pb(message.created),
        visibility: visibility_from_pb(message.visibility)?,
    };
    Ok((own, Resource::Route(route)))
}

fn parent_to_pb(parent: &Parent) -> pb::Parent {
    use pb::parent::Parent as Wire;
    let wire = match parent {
        Parent::Mesh => Wire::Mesh(pb::MeshParent {}),
        Parent::Service { service, port } => Wire::Service(pb::ServiceParent {
            service: Some(service_id_to_pb(service)),
            port: port.map(Into::into),
        }),
        Parent::Gateway { gateway, listener, port } => Wire::Gateway(pb::GatewayParent {
            gateway: gateway.to_string(),
            listener: listener.as_ref().map(ToString::to_string),
            port: port.map(Into::into),
        }),
    };
    pb::Parent { parent: Some(wire) }
}

fn parent_from_pb(message: pb::Parent) -> Result<Parent> {
    use pb::parent::Parent as Wire;
    Ok(match need(message.parent, "parent")? {
        Wire::Mesh(_) => Parent::Mesh,
        Wire::Service(parent) => Parent::Service {
            service: service_id_from_pb(&need(parent.service, "service")?)?,
            port: parent.port.map(port).transpose()?,
        },
        Wire::Gateway(parent) => Parent::Gateway {
            gateway: key(&parent.gateway)?,
            listener: parent.listener.map(Into::into),
            port: parent.port.map(port).transpose()?,
        },
    })
}

fn rule_to_pb(rule: &Rule) -> pb::Rule {
    pb::Rule {
        name: rule.name.to_string(),
        matches: rule.matches.iter().map(match_to_pb).collect(),
        filters: rule.filters.iter().map(filter::to_pb).collect(),
        backends: rule.backends.iter().map(backend_to_pb).collect(),
        timeout: optional_to_pb(rule.timeout),
        retry: rule.retry.as_ref().map(retry_to_pb),
        answer: rule.answer.as_ref().map(answer::to_pb),
        persistence: rule.persistence.as_ref().map(answer::persistence_to_pb),
    }
}

fn rule_from_pb(context: &Context, message: pb::Rule) -> Result<Rule> {
    Ok(Rule {
        name: message.name.into(),
        matches: each(message.matches, "matches", |one| match_from_pb(context, one))?,
        filters: each(message.filters, "filters", |one| filter::from_pb(context, one))?,
        answer: message.answer.map(|answer| answer::from_pb(context, answer)).transpose()?,
        backends: each(message.backends, "backends", |one| backend_from_pb(context, one))?,
        timeout: optional_from_pb(message.timeout)?,
        retry: message.retry.map(retry_from_pb).transpose()?,
        persistence: message.persistence.map(answer::persistence_from_pb).transpose()?,
    })
}

pub(super) fn match_to_pb(one: &RequestMatch) -> pb::RequestMatch {
    use pb::path_match::Form;
    let path = |path: &PathMatch| pb::PathMatch {
        form: Some(match path {
            PathMatch::Text(text) => Form::Text(string_match_to_pb(text)),
            PathMatch::Segments(prefix) => Form::Segments(prefix.to_string()),
        }),
    };
    pb::RequestMatch {
        path: one.path.as_ref().map(path),
        method: one.method.as_ref().map(string_match_to_pb),
        authority: one.authority.as_ref().map(string_match_to_pb),
        headers: named_matches_to_pb(&one.headers),
        without_headers: named_matches_to_pb(&one.without_headers),
        query: named_matches_to_pb(&one.query),
        port: one.port.map(Into::into),
        source_labels: selector_to_pb(&one.source_labels),
        source_namespace: one.source_namespace.as_ref().map(ToString::to_string).unwrap_or_default(),
        scheme: one.scheme.as_ref().map(string_match_to_pb),
    }
}

pub(super) fn match_from_pb(context: &Context, message: pb::RequestMatch) -> Result<RequestMatch> {
    use pb::path_match::Form;
    let text = |text: pb::StringMatch| string_match_from_pb(context, &text);
    let path = |path: pb::PathMatch| -> Result<PathMatch> {
        Ok(match need(path.form, "path")? {
            Form::Text(form) => PathMatch::Text(text(form)?),
            Form::Segments(prefix) => PathMatch::Segments(prefix.into()),
        })
    };
    Ok(RequestMatch {
        path: message.path.map(path).transpose()?,
        scheme: message.scheme.map(text).transpose()?,
        method: message.method.map(text).transpose()?,
        authority: message.authority.map(text).transpose()?,
        headers: named_matches_from_pb(context, message.headers, "headers")?,
        without_headers: named_matches_from_pb(context, message.without_headers, "without_headers")?,
        query: named_matches_from_pb(context, message.query, "query")?,
        port: message.port.map(port).transpose()?,
        source_labels: selector_from_pb(message.source_labels),
        source_namespace: optional_namespace(&message.source_namespace)?,
    })
}

fn backend_to_pb(backend: &Backend) -> pb::Backend {
    use pb::backend::Target;
    let target = match backend::to_pb(&backend.target) {
        backend::Wire::Service(target) => Target::Service(target),
        backend::Wire::Invalid(target) => Target::Invalid(target),
    };
    pb::Backend {
        target: Some(target),
        weight: backend.weight,
        filters: backend.filters.iter().map(filter::to_pb).collect(),
    }
}

fn backend_from_pb(context: &Context, message: pb::Backend) -> Result<Backend> {
    use pb::backend::Target;
    let target = backend::from_pb(match need(message.target, "target")? {
        Target::Service(target) => backend::Wire::Service(target),
        Target::Invalid(target) => backend::Wire::Invalid(target),
    })?;
    let filters = each(message.filters, "filters", |one| filter::from_pb(context, one))?;
    Ok(Backend { target, weight: message.weight, filters })
}

/// Each retry condition with its like on the wire, once for both directions.
macro_rules! retry_conditions {
    ($($field:ident = $wire:ident),* $(,)?) => {
        fn conditions_to_pb(on: &RetryConditions) -> Vec<i32> {
            let mut wire = Vec::new();
            $(if on.$field { wire.push(pb::RetryOn::$wire as i32); })*
            wire
        }
        fn conditions_from_pb(wire: Vec<i32>, statuses: Vec<u16>) -> Result<RetryConditions> {
            let mut on = RetryConditions { statuses, ..RetryConditions::default() };
            for value in wire {
                match pb::RetryOn::try_from(value) {
                    $(Ok(pb::RetryOn::$wire) => on.$field = true,)*
                    Ok(pb::RetryOn::Unspecified) | Err(_) => {
                        return Err(Invalid::new(format!("retry condition {value} is not known")));
                    }
                }
            }
            Ok(on)
        }
    };
}

retry_conditions! {
    connect_failure = ConnectFailure,
    refused_stream = RefusedStream,
    reset = Reset,
    reset_before_request = ResetBeforeRequest,
    gateway_error = GatewayError,
    server_error = ServerError,
    conflict = Conflict,
    rate_limited = RateLimited,
    cancelled = Cancelled,
    unavailable = Unavailable,
    deadline_exceeded = DeadlineExceeded,
    internal = Internal,
    resource_exhausted = ResourceExhausted,
}

fn retry_to_pb(retry: &RetryPolicy) -> pb::Retry {
    pb::Retry {
        attempts: retry.attempts,
        per_try_timeout: optional_to_pb(retry.per_try_timeout),
        on: conditions_to_pb(&retry.on),
        statuses: retry.on.statuses.iter().copied().map(Into::into).collect(),
        backoff: Some(duration_to_pb(retry.backoff)),
        allow_previous_hosts: !retry.ignore_previous_hosts,
        remote_localities: retry.remote_localities,
    }
}

fn retry_from_pb(message: pb::Retry) -> Result<RetryPolicy> {
    Ok(RetryPolicy {
        attempts: message.attempts,
        per_try_timeout: optional_from_pb(message.per_try_timeout)?,
        on: conditions_from_pb(message.on, ports(message.statuses)?)?,
        backoff: duration_from_pb(need(message.backoff, "backoff")?)?,
        ignore_previous_hosts: !message.allow_previous_hosts,
        remote_localities: message.remote_localities,
    })
}
