//! `/v1/processes`: what should run, now or each time it changes.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::Shared;
use super::answer::Failure;
use crate::api::types::{Process, Processes};
use crate::control::Control;
use crate::hub::Published;

#[derive(Deserialize)]
pub(crate) struct Wish {
    #[serde(default)]
    watch: Option<String>,
}

pub(crate) async fn processes(State(control): Shared, Query(wish): Query<Wish>) -> Result<Response, Failure> {
    if wish.watch.is_some_and(|watch| !matches!(&*watch, "" | "0" | "false")) {
        return Ok(watch(control));
    }
    match control.published() {
        Some(published) => Ok(Json(list(&published)).into_response()),
        None => Err(Failure::not_ready(&control.ready.missing())),
    }
}

fn list(published: &Published) -> Processes {
    Processes {
        revision: published.catalog.revision().0,
        processes: published.processes.iter().map(Process::from).collect(),
    }
}

/// One line now (or as soon as there is something to say), one more at each change.
fn watch(control: Arc<Control>) -> Response {
    // Room for one: who reads slowly misses states in between, never the last.
    let (sender, lines) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        tokio::select! {
            () = control.drain.begun() => {}
            () = sender.closed() => {}
            () = tell(&control, &sender) => {}
        }
    });
    let lines = ReceiverStream::new(lines).map(Ok::<_, Infallible>);
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

async fn tell(control: &Control, sender: &mpsc::Sender<Bytes>) {
    let mut changes = control.hub.follow();
    let mut told = None;
    loop {
        let published = changes.borrow_and_update().clone();
        if let Some(published) = published
            && told.as_ref().is_none_or(|told| !Arc::ptr_eq(told, &published.processes))
        {
            told = Some(Arc::clone(&published.processes));
            let Ok(mut line) = serde_json::to_vec(&list(&published)) else { return };
            line.push(b'\n');
            if sender.send(line.into()).await.is_err() {
                return;
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}
