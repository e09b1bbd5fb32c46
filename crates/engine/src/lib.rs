//! Decisions. Compiles the model to an immutable snapshot, and answers: where to, allowed or not, which
//! endpoint. Everything here is pure: facts and a snapshot go in, a decision comes out. The proxy asks it
//! for every connection and request; the command line and the tests ask the same functions.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod answer;
mod authz;
mod balance;
mod compile;
mod connections;
mod decide;
mod decision;
mod describe;
mod directory;
mod effective;
mod endpoints;
mod explain;
mod facts;
mod filters;
mod gateway;
mod hosts;
mod inbound;
mod journey;
mod limits;
mod normalize;
mod paths;
mod rewrite;
mod routes;
mod rule;
mod service;
mod slots;
mod snapshot;
mod sorted;
mod spelling;
mod trace;

pub use answer::{Answered, Reply};
pub use balance::{Hashed, Session, cookie, hash_of, hash_of_client, pick_endpoint, set_cookie};
pub use compile::Compiler;
pub use connections::ConnectionLimits;
pub use decide::{decide_connection, decide_request, pick};
pub use decision::{
    Accept, BackendId, Decision, Denial, DenialReason, Destination, Effective, Forward, Hop, Picked,
    RequestDecision, TooLarge,
};
pub use explain::{Explanation, Taken, explain};
pub use facts::{
    ConnectionFacts, Direction, Excluded, Headers, LeftOut, Load, Preference, RequestFacts, host_of,
};
pub use filters::{Filters, Mirrored};
pub use journey::{CannotAsk, Journey, Leg, Question, journey};
pub use limits::{Limit, LimitsOf, RateRule, narrowest};
pub use normalize::normalize_path;
pub use rewrite::{MatchedPath, rewrite_path};
pub use snapshot::Snapshot;
pub use trace::{BackendChoice, Candidate, Step};
