//! `/v1/manifests`: objects that are no file of the directory.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;

use super::Shared;
use super::answer::Failure;
use crate::source::manifest::ManifestName;

pub(crate) async fn list(State(control): Shared) -> Json<Vec<String>> {
    Json(control.manifests.names())
}

pub(crate) async fn set(
    State(control): Shared,
    Path(name): Path<String>,
    text: String,
) -> Result<StatusCode, Failure> {
    let name = ManifestName::parse(&name).map_err(|error| Failure::bad_request(&error))?;
    control.manifests.set(name, text)?;
    Ok(StatusCode::NO_CONTENT)
}

/// One that is not known is no failure: whoever asks again after a broken connection gets what it wants.
pub(crate) async fn remove(State(control): Shared, Path(name): Path<String>) -> Result<StatusCode, Failure> {
    let name = ManifestName::parse(&name).map_err(|error| Failure::bad_request(&error))?;
    control.manifests.remove(&name)?;
    Ok(StatusCode::NO_CONTENT)
}
