//! The HTTP API, over a unix socket that answers its owner only.

mod answer;
mod instances;
mod manifests;
mod objects;
mod processes;
mod status;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use lateen_runtime::drain::Drain;
use lateen_runtime::metrics::Format;
use tokio::net::UnixListener;

use crate::control::Control;
use answer::Failure;

/// The largest request body, in bytes.
const MOST_BODY: usize = 1 << 20;
/// Connections at a time.
const MOST_CONNECTIONS: usize = 256;

pub(crate) type Shared = State<Arc<Control>>;

/// Serves until the drain begins and the last answer is given.
///
/// # Errors
/// When the listener fails for good.
pub(crate) async fn serve(
    listener: UnixListener,
    control: Arc<Control>,
    drain: Drain,
) -> std::io::Result<()> {
    let listener = super::owners::Owners::new(listener, MOST_CONNECTIONS);
    let begun = drain.clone();
    axum::serve(listener, routes(control)).with_graceful_shutdown(async move { begun.begun().await }).await
}

fn routes(control: Arc<Control>) -> Router {
    Router::new()
        .route("/v1/status", get(status::status))
        .route("/v1/objects", get(objects::objects))
        .route("/v1/catalog", get(objects::catalog))
        .route("/v1/processes", get(processes::processes))
        .route("/v1/instances", get(instances::list))
        .route("/v1/instances/{namespace}/{name}", put(instances::set))
        .route("/v1/instances/{namespace}/{name}", delete(instances::remove))
        .route("/v1/manifests", get(manifests::list))
        .route("/v1/manifests/{name}", put(manifests::set))
        .route("/v1/manifests/{name}", delete(manifests::remove))
        .route("/v1/tokens", post(tokens::mint))
        .route("/metrics", get(metrics))
        .route("/healthz/ready", get(ready))
        .route("/logging", get(filter).put(set_filter).post(set_filter))
        .fallback(async || Failure::not_found("there is no such page"))
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .with_state(control)
}

async fn metrics(State(control): Shared, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    ([(header::CONTENT_TYPE, format.content_type())], control.metrics.render(format)).into_response()
}

async fn ready(State(control): Shared) -> Result<&'static str, Failure> {
    let missing = control.ready.missing();
    if missing.is_empty() { Ok("ready\n") } else { Err(Failure::not_ready(&missing)) }
}

async fn filter(State(control): Shared) -> Result<String, Failure> {
    let filter = control.log.as_ref().ok_or_else(|| Failure::not_found("the log is not ours to change"))?;
    filter.get().map(|text| text + "\n").map_err(|error| Failure::internal(&error))
}

async fn set_filter(State(control): Shared, text: String) -> Result<String, Failure> {
    let filter = control.log.as_ref().ok_or_else(|| Failure::not_found("the log is not ours to change"))?;
    filter.set(text.trim()).map_err(|error| Failure::bad_request(&error))?;
    tracing::info!(filter = text.trim(), "log filter changed");
    filter.get().map(|text| text + "\n").map_err(|error| Failure::internal(&error))
}
