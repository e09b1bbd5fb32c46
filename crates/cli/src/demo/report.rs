//! What the demo tells at its end.

use std::time::Duration;

use serde::Serialize;

/// The whole walk.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `root`, `user-namespace` or `plain`.
    pub environment: String,
    /// What was tried before, with the failing call.
    pub attempts: Vec<String>,
    /// From the start of the command until the shop stood, in milliseconds.
    pub stood_up_ms: u64,
    /// Whether every step held.
    pub held: bool,
    /// The steps.
    pub steps: Vec<Step>,
}

/// One step and what it measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub story: String,
    /// Whether it held.
    pub held: bool,
    /// What was seen, in a sentence; why it did not hold, if so.
    pub seen: String,
    /// What people may want to look at themselves, line by line.
    #[serde(skip)]
    pub shown: Vec<String>,
    /// The figures.
    pub measured: serde_json::Value,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// What a step saw.
pub(super) struct Measured {
    pub(super) held: bool,
    pub(super) seen: String,
    pub(super) shown: Vec<String>,
    pub(super) figures: serde_json::Value,
}

impl Step {
    pub(super) fn new(name: &str, story: &str, measured: anyhow::Result<Measured>, took: Duration) -> Self {
        let measured = measured.unwrap_or_else(|error| Measured {
            held: false,
            seen: format!("{error:#}"),
            shown: Vec::new(),
            figures: serde_json::Value::Null,
        });
        Self {
            name: name.to_owned(),
            story: story.to_owned(),
            held: measured.held,
            seen: measured.seen,
            shown: measured.shown,
            measured: measured.figures,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }
}
