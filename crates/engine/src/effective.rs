//! Policy layers merged once, at compile time, to one `Effective` per rule and backend.

use crate::Effective;
use crate::connections::ConnectionLimits;
use crate::rule::Resolved;
use crate::trace::Step;
use lateen_model::{
    AppProtocol, RetryConditions, RetryPolicy, Route, Rule, ServiceId, ServicePort, Str, TrafficPolicy,
};
use std::sync::Arc;

impl Effective {
    /// The rule over the defaults of the mesh.
    pub(crate) fn of_rule(
        route: &Route,
        rule: &Rule,
        service: &ServiceId,
        port: u16,
        resolved: &Resolved,
    ) -> Self {
        Self {
            route_name: route_name(route, rule),
            route: Some(route.key.clone()),
            service: Some(service.clone()),
            port,
            subset: None,
            protocol: resolved.protocol,
            filters: None,
            timeout: rule.timeout,
            retry: retry(rule.retry.as_ref(), &resolved.traffic),
            connections: resolved.connections.clone(),
            persistence: rule.persistence.clone().map(Arc::new),
            traffic: Arc::clone(&resolved.traffic),
        }
    }

    /// A copy of a request of the rule. Nobody waits for its answer, so it is not tried again.
    pub(crate) fn of_mirror(
        route: &Route,
        rule: &Rule,
        service: &ServiceId,
        port: u16,
        resolved: &Resolved,
    ) -> Self {
        Self { retry: never(), persistence: None, ..Self::of_rule(route, rule, service, port, resolved) }
    }

    /// A request that the rule answers itself.
    pub(crate) fn of_answer(route: &Route, rule: &Rule) -> Self {
        Self { route_name: route_name(route, rule), route: Some(route.key.clone()), ..Self::default() }
    }

    /// A service port that no route speaks of.
    pub(crate) fn of_port(service: &ServiceId, port: &ServicePort, traffic: &Arc<TrafficPolicy>) -> Self {
        Self {
            route_name: "default".into(),
            service: Some(service.clone()),
            port: port.number,
            protocol: port.protocol,
            retry: retry(None, traffic),
            connections: ConnectionLimits::of(service, port.number, None, traffic),
            traffic: Arc::clone(traffic),
            ..Self::default()
        }
    }

    /// A destination that nobody declared. Nothing is tried again: nobody said that it may be.
    pub(crate) fn passthrough() -> Self {
        Self { route_name: "Passthrough".into(), retry: never(), ..Self::default() }
    }

    /// A port of the proxy's own workload. A kept-alive connection to the application may close while a
    /// request is on its way; that is tried again as long as nothing was written (Istio's inbound default).
    pub(crate) fn inbound(port: u16, protocol: AppProtocol, service: Option<ServiceId>) -> Self {
        let on = RetryConditions { reset_before_request: true, ..RetryConditions::default() };
        let retry = RetryPolicy { on, ..RetryPolicy::default() };
        Self {
            route_name: Str::from(format!("inbound|{port}||")),
            service,
            port,
            protocol,
            retry,
            ..Self::default()
        }
    }

    pub(crate) fn describe_filters(&self) -> Vec<String> {
        self.filters.as_ref().map_or_else(Vec::new, |filters| filters.describe())
    }

    pub(crate) fn describe(&self) -> Step {
        Step::Treatment {
            timeout: self.timeout.map_or_else(|| "none".to_owned(), |timeout| format!("{timeout:?}")),
            retry: describe_retry(&self.retry),
            filters: self.describe_filters(),
            limits: self.connections.as_ref().map_or_else(Vec::new, |limits| limits.describe()),
        }
    }
}

/// Where a hash chooses, the same endpoint is asked again: another would not know the session.
fn retry(policy: Option<&RetryPolicy>, traffic: &TrafficPolicy) -> RetryPolicy {
    let policy = policy.cloned().unwrap_or_default();
    let hashed = traffic.balance.as_ref().is_some_and(|balance| balance.hash.is_some());
    RetryPolicy { ignore_previous_hosts: policy.ignore_previous_hosts && !hashed, ..policy }
}

fn route_name(route: &Route, rule: &Rule) -> Str {
    format!("{}.{}", route.key.name, rule.name).into()
}

fn never() -> RetryPolicy {
    RetryPolicy { attempts: 0, ..RetryPolicy::default() }
}

fn describe_retry(retry: &RetryPolicy) -> String {
    let RetryPolicy { attempts, per_try_timeout, on, .. } = retry;
    if *attempts == 0 {
        return "no retries".to_owned();
    }
    let names = [
        (on.connect_failure, "connect-failure"),
        (on.refused_stream, "refused-stream"),
        (on.reset, "reset"),
        (on.reset_before_request, "reset-before-request"),
        (on.gateway_error, "gateway-error"),
        (on.server_error, "5xx"),
        (on.conflict, "retriable-4xx"),
        (on.rate_limited, "envoy-ratelimited"),
        (on.cancelled, "cancelled"),
        (on.unavailable, "unavailable"),
        (on.deadline_exceeded, "deadline-exceeded"),
        (on.internal, "internal"),
        (on.resource_exhausted, "resource-exhausted"),
    ];
    let words = names.into_iter().filter(|(on, _)| *on).map(|(_, name)| name.to_owned());
    let on: Vec<String> = words.chain(on.statuses.iter().map(ToString::to_string)).collect();
    let per_try = per_try_timeout.map_or_else(String::new, |timeout| format!(", each {timeout:?}"));
    let tries = if *attempts == 1 { "retry" } else { "retries" };
    format!("{attempts} {tries} on {}{per_try}", on.join(", "))
}
