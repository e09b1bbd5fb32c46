//! Answers that say no.

use std::fmt::Display;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::api::types::ApiError;

/// An answer that is not 2xx.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    error: String,
}

impl Failure {
    pub(crate) fn bad_request(error: &impl Display) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error: error.to_string() }
    }

    pub(crate) fn not_found(error: &str) -> Self {
        Self { status: StatusCode::NOT_FOUND, error: error.to_owned() }
    }

    pub(crate) fn internal(error: &impl Display) -> Self {
        tracing::error!(%error, "api request failed");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, error: error.to_string() }
    }

    pub(crate) fn busy(error: &impl Display) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, error: error.to_string() }
    }

    pub(crate) fn not_ready(missing: &[String]) -> Self {
        Self::busy(&format!("waiting for: {}", missing.join(", ")))
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(ApiError { error: self.error })).into_response()
    }
}
