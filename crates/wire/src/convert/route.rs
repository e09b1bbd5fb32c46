//! Routes: parents, rules, matches, filters and backends.

use super::Invalid;
use super::common::{
    Context, Result, check_requires, created_from_pb, duration_from_pb, duration_to_pb, each, hosts_from_pb,
    hosts_to_pb, key, mirror, named_matches_from_pb, named_matches_to_pb, need, object_from_pb, object_to_pb,
    optional_namespace, port, ports, selector_from_pb, selector_to_pb, service_id_from_pb, service_id_to_pb,
    string_match_from_pb, string_match_to_pb, strs, texts, visibility_from_pb, visibility_to_pb,
};
use crate::pb::lateen::v1 as pb;
use lateen_model::{
    Backend, BackendTarget, Filter, HeaderEdit, Key, Parent, PathMatch, Precedence, RequestMatch, Resource,
    RetryConditions, RetryPolicy, Route, Rule, Str,
};

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
        filters: rule.filters.iter().map(filter_to_pb).collect(),
        backends: rule.backends.iter().map(backend_to_pb).collect(),
        timeout: rule.timeout.map(duration_to_pb),
        retry: rule.retry.as_ref().map(retry_to_pb),
    }
}

fn rule_from_pb(context: &Context, message: pb::Rule) -> Result<Rule> {
    Ok(Rule {
        name: message.name.into(),
        matches: each(message.matches, "matches", |one| match_from_pb(context, one))?,
        filters: each(message.filters, "filters", filter_from_pb)?,
        backends: each(message.backends, "backends", backend_from_pb)?,
        timeout: message.timeout.map(duration_from_pb).transpose()?,
        retry: message.retry.map(retry_from_pb).transpose()?,
    })
}

fn match_to_pb(one: &RequestMatch) -> pb::RequestMatch {
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
    }
}

fn match_from_pb(context: &Context, message: pb::RequestMatch) -> Result<RequestMatch> {
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

fn filter_to_pb(filter: &Filter) -> pb::Filter {
    use pb::filter::Filter as Wire;
    let wire = match filter {
        Filter::RequestHeaders(edit) => Wire::RequestHeaders(edit_to_pb(edit)),
        Filter::ResponseHeaders(edit) => Wire::ResponseHeaders(edit_to_pb(edit)),
    };
    pb::Filter { filter: Some(wire) }
}

fn filter_from_pb(message: pb::Filter) -> Result<Filter> {
    use pb::filter::Filter as Wire;
    Ok(match need(message.filter, "filter")? {
        Wire::RequestHeaders(edit) => Filter::RequestHeaders(edit_from_pb(edit)?),
        Wire::ResponseHeaders(edit) => Filter::ResponseHeaders(edit_from_pb(edit)?),
    })
}

fn edit_to_pb(edit: &HeaderEdit) -> pb::HeaderEdit {
    let header = |(name, value): &(Str, Str)| pb::Header { name: name.to_string(), value: value.to_string() };
    pb::HeaderEdit {
        set: edit.set.iter().map(header).collect(),
        add: edit.add.iter().map(header).collect(),
        remove: texts(&edit.remove),
    }
}

/// Header names and values go into requests as they are, so neither may hold what ends a header.
fn edit_from_pb(message: pb::HeaderEdit) -> Result<HeaderEdit> {
    let name = |text: &str| match text.strip_prefix(':').unwrap_or(text) {
        name if http::HeaderName::from_lowercase(name.as_bytes()).is_ok() => Ok(()),
        _ => Err(Invalid::new("a header name is not one in lower case")),
    };
    let header = |header: pb::Header| {
        name(&header.name)?;
        if http::HeaderValue::from_bytes(header.value.as_bytes()).is_err() {
            return Err(Invalid::new("a header value holds a control character"));
        }
        Ok((header.name.into(), header.value.into()))
    };
    message.remove.iter().try_for_each(|text| name(text))?;
    Ok(HeaderEdit {
        set: each(message.set, "set", header)?,
        add: each(message.add, "add", header)?,
        remove: strs(message.remove),
    })
}

fn backend_to_pb(backend: &Backend) -> pb::Backend {
    use pb::backend::Target;
    let target = match &backend.target {
        BackendTarget::Service { service, port, subset } => Target::Service(pb::ServiceBackend {
            service: Some(service_id_to_pb(service)),
            port: (*port).into(),
            subset: subset.as_ref().map(ToString::to_string),
        }),
        BackendTarget::Invalid { status, reason } => {
            Target::Invalid(pb::InvalidBackend { status: (*status).into(), reason: reason.to_string() })
        }
    };
    pb::Backend {
        target: Some(target),
        weight: backend.weight,
        filters: backend.filters.iter().map(filter_to_pb).collect(),
    }
}

fn backend_from_pb(message: pb::Backend) -> Result<Backend> {
    use pb::backend::Target;
    let target = match need(message.target, "target")? {
        Target::Service(target) => BackendTarget::Service {
            service: service_id_from_pb(&need(target.service, "service")?)?,
            port: port(target.port)?,
            subset: target.subset.map(Into::into),
        },
        Target::Invalid(target) => {
            BackendTarget::Invalid { status: status(target.status)?, reason: target.reason.into() }
        }
    };
    let filters = each(message.filters, "filters", filter_from_pb)?;
    Ok(Backend { target, weight: message.weight, filters })
}

fn status(number: u32) -> Result<u16> {
    match u16::try_from(number) {
        Ok(status) if (100..=999).contains(&status) => Ok(status),
        _ => Err(Invalid::new(format!("{number} is not an HTTP status"))),
    }
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
    cancelled = Cancelled,
    unavailable = Unavailable,
    deadline_exceeded = DeadlineExceeded,
    internal = Internal,
    resource_exhausted = ResourceExhausted,
}

fn retry_to_pb(retry: &RetryPolicy) -> pb::Retry {
    pb::Retry {
        attempts: retry.attempts,
        per_try_timeout: retry.per_try_timeout.map(duration_to_pb),
        on: conditions_to_pb(&retry.on),
        statuses: retry.on.statuses.iter().copied().map(Into::into).collect(),
        backoff: Some(duration_to_pb(retry.backoff)),
    }
}

fn retry_from_pb(message: pb::Retry) -> Result<RetryPolicy> {
    Ok(RetryPolicy {
        attempts: message.attempts,
        per_try_timeout: message.per_try_timeout.map(duration_from_pb).transpose()?,
        on: conditions_from_pb(message.on, ports(message.statuses)?)?,
        backoff: duration_from_pb(need(message.backoff, "backoff")?)?,
    })
}
