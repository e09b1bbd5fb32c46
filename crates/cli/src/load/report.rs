//! The result of a load, for people and for programs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::plan::Plan;
use super::tally::{ErrorKind, Tally};
use crate::output::{self, Table};

/// What a load found. Every request that was due in the measured time is counted once: as an answer,
/// as an error or as unsent.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub target: String,
    pub protocol: &'static str,
    pub connections: u32,
    /// Seconds measured, without the warm-up.
    pub seconds: f64,
    /// Requests per second asked for; absent in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_asked: Option<f64>,
    /// Answers per second.
    pub rate: f64,
    pub answers: u64,
    pub latency: Latency,
    pub statuses: BTreeMap<u16, u64>,
    pub errors: BTreeMap<ErrorKind, u64>,
    pub unsent: u64,
    pub reconnects: u64,
    pub bytes: u64,
}

/// Of answers, in microseconds, counted from the moment the request was due.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Latency {
    pub mean: f64,
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Report {
    pub(super) fn new(plan: &Plan, tally: &Tally, seconds: f64) -> Self {
        let answers = tally.latency.len();
        let streams = plan.http2_streams;
        Report {
            target: format!("http://{}{}", plan.target.authority, plan.target.path),
            protocol: if streams.is_some() { "HTTP/2" } else { "HTTP/1.1" },
            connections: plan.connections,
            seconds,
            rate_asked: plan.rate,
            rate: if seconds > 0.0 { answers as f64 / seconds } else { 0.0 },
            answers,
            latency: Latency::of(tally),
            statuses: tally.statuses.clone(),
            errors: tally.errors.clone(),
            unsent: tally.unsent,
            reconnects: tally.reconnects,
            bytes: tally.bytes,
        }
    }

    /// Requests without an answer, or with one of 4xx or 5xx.
    pub fn failures(&self) -> u64 {
        let refused: u64 = self.statuses.range(400..).map(|(_, count)| count).sum();
        refused + self.errors.values().sum::<u64>() + self.unsent
    }

    /// The result as a table.
    pub fn table(&self) -> Table {
        let mut table = Table::without_head();
        let asked = self.rate_asked.map(|rate| format!(" of {} asked", output::rate(rate)));
        let asked = asked.unwrap_or_default();
        table.row(["answers".to_owned(), format!("{} in {}", self.answers, time(self.seconds * 1e6))]);
        table.row(["rate".to_owned(), format!("{}{asked}", output::rate(self.rate))]);
        if self.answers > 0 {
            let Latency { p50, p90, p99, p999, max, .. } = self.latency;
            for (name, value) in [("p50", p50), ("p90", p90), ("p99", p99), ("p99.9", p999), ("max", max)] {
                table.row([format!("latency {name}"), time(value)]);
            }
        }
        table.row(["received".to_owned(), output::bytes(self.bytes)]);
        for (status, count) in &self.statuses {
            table.row([format!("status {status}"), count.to_string()]);
        }
        for (kind, count) in &self.errors {
            table.row([format!("error {}", kind.name()), count.to_string()]);
        }
        for (name, count) in [("unsent", self.unsent), ("reconnects", self.reconnects)] {
            if count > 0 {
                table.row([name.to_owned(), count.to_string()]);
            }
        }
        table
    }
}

impl Latency {
    fn of(tally: &Tally) -> Self {
        let latency = &tally.latency;
        let micros = |nanos: u64| nanos as f64 / 1e3;
        Latency {
            mean: latency.mean() / 1e3,
            min: micros(latency.min()),
            p50: micros(latency.value_at_quantile(0.5)),
            p90: micros(latency.value_at_quantile(0.9)),
            p99: micros(latency.value_at_quantile(0.99)),
            p999: micros(latency.value_at_quantile(0.999)),
            max: micros(latency.max()),
        }
    }
}

fn time(micros: f64) -> String {
    output::duration(Duration::from_secs_f64(micros / 1e6))
}
