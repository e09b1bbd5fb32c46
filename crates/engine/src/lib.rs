//! Decisions. Compiles the model to an immutable snapshot, and answers: where to, allowed or not, which
//! endpoint. Everything here is pure: facts and a snapshot go in, a decision comes out. The proxy asks it
//! for every connection and request; the command line and the tests ask the same functions.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod decision;
mod facts;

pub use decision::{
    Accept, BackendId, Decision, Denial, DenialReason, Destination, Effective, Forward, Hop, Picked,
    RequestDecision,
};
pub use facts::{ConnectionFacts, Direction, Excluded, Headers, Load, RequestFacts, host_of};
