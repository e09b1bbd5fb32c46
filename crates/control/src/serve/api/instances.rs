//! `/v1/instances`: what runs.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use lateen_model::{Namespace, ObjectName};

use super::Shared;
use super::answer::Failure;
use crate::api::types::{Instance, NamedInstance};
use crate::source::registration::Error;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => Self::internal(&error),
            Error::TooMany | Error::Busy => Self::busy(&error),
        }
    }
}

pub(crate) async fn list(State(control): Shared) -> Json<Vec<NamedInstance>> {
    let instances = control.registrations.all();
    Json(instances.iter().map(NamedInstance::from).collect())
}

pub(crate) async fn set(
    State(control): Shared,
    Path((namespace, name)): Path<(String, String)>,
    Json(instance): Json<Instance>,
) -> Result<StatusCode, Failure> {
    let instance = instance.to_model(&namespace, &name).map_err(|error| Failure::bad_request(&error))?;
    control.registrations.set(instance)?;
    Ok(StatusCode::NO_CONTENT)
}

/// One that is not known is no failure: whoever asks again after a broken connection gets what it wants.
pub(crate) async fn remove(
    State(control): Shared,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    let namespace = Namespace::parse(&namespace).map_err(|error| Failure::bad_request(&error))?;
    let name = ObjectName::parse(&name).map_err(|error| Failure::bad_request(&error))?;
    control.registrations.remove(&(namespace, name.as_shared().clone()))?;
    Ok(StatusCode::NO_CONTENT)
}
