//! `/v1/objects` and `/v1/catalog`: what users wrote and what the mesh makes of it.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use lateen_world::{ConditionKind, Status};

use super::Shared;
use super::answer::Failure;
use crate::api::types::{Condition, Object, ObjectState, Objects, Problem};
use crate::hub::Published;

pub(crate) async fn objects(State(control): Shared) -> Result<Json<Objects>, Failure> {
    let published = control.published().ok_or_else(|| Failure::not_ready(&control.ready.missing()))?;
    Ok(Json(Objects {
        revision: published.catalog.revision().0,
        objects: published.statuses.values().map(|status| object(status)).collect(),
        problems: homeless(&published).collect(),
    }))
}

pub(crate) async fn catalog(State(control): Shared) -> Result<Response, Failure> {
    let published = control.published().ok_or_else(|| Failure::not_ready(&control.ready.missing()))?;
    // Thousands of resources take longer than others should wait.
    let text = tokio::task::spawn_blocking(move || lateen_wire::json::to_yaml(&published.catalog)).await;
    let text = text.map_err(|error| Failure::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, "application/yaml")], text).into_response())
}

/// Problems that belong to no object.
pub(crate) fn homeless(published: &Published) -> impl Iterator<Item = Problem> + '_ {
    published.problems.values().flat_map(|problems| problems.iter()).map(problem)
}

pub(crate) fn object(status: &Status) -> Object {
    Object {
        kind: kind(status),
        namespace: status.object.namespace.to_string(),
        name: status.object.name.to_string(),
        file: status.file.to_string(),
        line: status.line,
        state: state(status),
        conditions: status.conditions.iter().map(condition).collect(),
        problems: status.problems.iter().map(problem).collect(),
    }
}

fn kind(status: &Status) -> String {
    match status.object.kind.group() {
        "" => status.object.kind.name().to_owned(),
        group => format!("{group}/{}", status.object.kind.name()),
    }
}

fn state(status: &Status) -> ObjectState {
    let denied = |kind| status.conditions.iter().any(|each| each.kind == kind && !each.holds);
    [
        (status.holds(ConditionKind::Stale), ObjectState::Stale),
        (status.holds(ConditionKind::Conflicted), ObjectState::Conflicted),
        (denied(ConditionKind::Accepted), ObjectState::Rejected),
        (status.holds(ConditionKind::NotEnforced), ObjectState::NotEnforced),
        (status.holds(ConditionKind::Unsupported), ObjectState::Unsupported),
        (denied(ConditionKind::ResolvedRefs), ObjectState::Unresolved),
    ]
    .into_iter()
    .find_map(|(holds, state)| holds.then_some(state))
    .unwrap_or(ObjectState::Accepted)
}

fn condition(condition: &lateen_world::Condition) -> Condition {
    Condition {
        kind: condition.kind.to_string(),
        status: condition.holds,
        reason: condition.reason.to_owned(),
        message: condition.message.clone(),
    }
}

fn problem(problem: &lateen_world::Problem) -> Problem {
    let mut message = problem.message.clone();
    if let Some(expected) = &problem.expected {
        message.push_str(&format!("; expected {expected}"));
    }
    if let Some(suggestion) = &problem.suggestion {
        message.push_str(&format!("; did you mean {suggestion:?}?"));
    }
    Problem {
        severity: problem.severity.as_str().to_owned(),
        file: problem.file.to_string(),
        line: problem.line,
        column: problem.column,
        message,
    }
}
