//! What is kept during an exchange for its record.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use lateen_engine::{Denial, Effective, Hop, Picked};
use lateen_model::RequestLimit;
use lateen_runtime::clock::{self, Instant};

use super::affinity::Affinity;
use super::mirror::Copies;
use super::{Entry, Heads};
use crate::fault::{Fault, Reason};
use crate::http::body::Pump;
use crate::http::head::{Known, ResponseHead};
use crate::http::reply;
use crate::observe::access::{Http, Record, What};
use crate::rate::Standing;
use crate::tcp::relay::Moved;
use crate::worker::Worker;

/// One exchange, as far as it is told.
pub(crate) struct Trip {
    pub(super) began: Instant,
    ended: Option<Instant>,
    /// Nothing was waited for since it began.
    pub(super) at_once: bool,
    head_at: Option<Duration>,
    pub(super) effective: Option<Arc<Effective>>,
    pub(super) picked: Option<Picked>,
    /// What ties the request to an endpoint; most are not tied.
    pub(super) affinity: Option<Box<Affinity>>,
    pub(super) attempts: u32,
    /// The last try used a connection that was kept.
    pub(super) reused: bool,
    /// Envoy's flag for why it was not tried again, if the policy asked for that.
    pub(super) not_retried: Option<&'static str>,
    pub(super) denial: Option<Denial>,
    fault: Option<Fault>,
    /// What `response_code_details` says, where that is not the endpoint's answer nor a fault.
    pub(super) details: Option<&'static str>,
    /// The rule's edits of the request were made, so those of the response are due.
    pub(super) edited: bool,
    /// The origin whose scripts may read the answer.
    pub(super) origin: Option<Box<[u8]>>,
    /// The request was held up on purpose.
    pub(super) delayed: bool,
    /// Copies that are to be sent once the request was read.
    pub(super) copies: Option<Box<Copies>>,
    /// Where the caller stands with the limit that has the least left.
    pub(super) rate: Option<Box<Standing>>,
    /// How large the bodies may be, where a policy says so.
    pub(super) sizes: Option<Arc<RequestLimit>>,
    pub(super) received: u64,
    sent: u64,
    status: u16,
    grpc_status: Option<u16>,
}

impl Trip {
    pub(super) fn new() -> Self {
        Self {
            began: clock::now(),
            ended: None,
            at_once: true,
            head_at: None,
            effective: None,
            picked: None,
            affinity: None,
            attempts: 0,
            reused: false,
            not_retried: None,
            denial: None,
            fault: None,
            details: None,
            edited: false,
            origin: None,
            delayed: false,
            copies: None,
            rate: None,
            sizes: None,
            received: 0,
            sent: 0,
            status: 0,
            grpc_status: None,
        }
    }

    /// A size that may not be passed, where a policy says so.
    pub(super) fn most(&self, of: impl FnOnce(&RequestLimit) -> Option<u64>) -> Option<u64> {
        of(self.sizes.as_deref()?)
    }

    pub(super) fn head_came(&mut self) {
        self.head_at = Some(self.began.elapsed());
    }

    /// When the exchange ended: now, and from then on.
    pub(super) fn end(&mut self) -> Instant {
        *self.ended.get_or_insert_with(clock::now)
    }

    /// Now, for limits. Nearly every request comes here without having waited for anything, so that the clock need
    /// not be asked again.
    pub(super) fn now(&self) -> Instant {
        if self.at_once && !self.delayed && self.attempts <= 1 { self.began } else { clock::now() }
    }

    /// This head is sent to the caller.
    pub(super) fn answered(&mut self, response: &ResponseHead) {
        self.status = response.status;
        self.grpc_status = response.fields.known(Known::GrpcStatus).and_then(number);
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent = bytes as u64;
    }

    pub(super) fn moved(&mut self, request: &Pump, response: &Pump) {
        (self.received, self.sent) = (request.bytes(), response.bytes());
        if let Some(status) = response.trailers().and_then(|trailers| trailers.known(Known::GrpcStatus)) {
            self.grpc_status = number(status);
        }
    }

    /// The answer ended with this status of our own.
    pub(super) fn grpc_ended(&mut self, status: u16) {
        self.grpc_status = Some(status);
    }

    pub(super) fn tunnelled(&mut self, (moved, fault): ((u64, u64), Option<Fault>)) {
        (self.received, self.sent) = moved;
        self.fault = fault;
    }

    pub(super) fn fail(&mut self, fault: Fault) {
        self.fault = Some(fault);
    }

    pub(super) fn refused(&mut self, fault: Fault, details: &'static str) {
        (self.fault, self.details) = (Some(fault), Some(details));
    }

    /// Envoy's response flags and `response_code_details`, if it ends so.
    pub(super) fn outcome(&self, fault: Option<&Fault>) -> (&'static str, Cow<'static, str>) {
        let details = |otherwise: &'static str| Cow::Borrowed(self.details.unwrap_or(otherwise));
        match (&self.denial, fault) {
            (Some(denial), _) => (denial.flag(), denial.to_string().into()),
            (_, Some(fault)) if self.delayed && fault.reason == Reason::Injected => {
                ("DI,FI", fault.details().into())
            }
            (_, Some(fault)) => (fault.flag(), details(fault.details())),
            _ if self.delayed => ("DI", details("via_upstream")),
            _ => ("-", details("via_upstream")),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Hands the record over.
    pub(super) fn record(&self, worker: &Worker, entry: &Entry, heads: &Heads) {
        let (facts, request) = (&entry.facts, &heads.request);
        let (flags, details) = self.outcome(self.fault.as_ref());
        let flags = match self.not_retried {
            None => Cow::Borrowed(flags),
            Some(more) if flags == "-" => Cow::Borrowed(more),
            Some(more) => Cow::Owned(format!("{flags},{more}")),
        };
        let accept = self.picked.as_ref().and_then(|picked| match &picked.hop {
            Hop::Hbone { accept, .. } => accept.0.first(),
            _ => None,
        });
        worker.sink.record(&Record {
            direction: &facts.direction,
            what: What::Http(Http {
                protocol: request.version.as_str(),
                method: request.method(),
                path: request.received_target(),
                authority: request.authority(),
                user_agent: request.fields.known_str(Known::UserAgent),
                request_id: request.fields.known_str(Known::RequestId),
                forwarded_for: request.fields.known_str(Known::ForwardedFor),
                status: self.status,
                grpc_status: self.grpc_status,
                grpc: reply::is_grpc(request),
            }),
            duration: self.ended.unwrap_or_else(clock::now) - self.began,
            upstream_time: self.head_at,
            bytes_received: self.received,
            bytes_sent: self.sent,
            counted: Moved::default(),
            client: facts.client,
            destination: facts.destination,
            peer: facts.peer.as_deref(),
            mutual_tls: facts.peer.is_some(),
            server_name: facts.sni.as_deref(),
            effective: self.effective.as_deref(),
            endpoint: self.picked.as_ref().map(|picked| picked.endpoint),
            workload: self.picked.as_ref().and_then(|picked| picked.workload.as_deref()),
            upstream_identity: accept,
            attempts: self.attempts,
            denial: self.denial.as_ref(),
            fault: self.fault.as_ref(),
            flags: &flags,
            details: &details,
        });
    }
}

fn number(value: &[u8]) -> Option<u16> {
    std::str::from_utf8(value).ok()?.parse().ok()
}
