//! Delta xDS as two state machines without I/O: subscriptions, versions, acknowledgements.
//!
//! [`ServerSession`] is asked what to send, [`ClientSession`] what to answer; whoever holds one moves the
//! messages. A batch is taken from one state of the view: types in the order of shipping, at most
//! [`RESPONSE_BYTES`] a response and one unacknowledged response a type, and last the mark
//! `lateen.v1.Revision`. Only at the mark the client hands out what it collected, so a route never comes
//! before its service. While a batch is under way newer states wait; of a thing that changed three times
//! meanwhile only the last is sent.

mod client;
mod server;

pub use client::{Batch, ClientSession, Received};
pub use server::{Progress, ServerSession};

use crate::convert::TypeUrl;

/// The name of the one mark.
pub const MARK: &str = "revision";

/// The most bytes of resources in a response; a single larger resource travels alone.
pub const RESPONSE_BYTES: usize = 1 << 20;

/// The longest message that is taken in.
pub const MESSAGE_BYTES: usize = 16 << 20;

/// How many resources one conversation may be about.
const MAX_NAMES: usize = 1 << 20;

/// How many refusals are remembered and told, and how long each text may be.
const MAX_REFUSALS: usize = 1000;
const MAX_TEXT: usize = 512;

/// A message that the other side should not have sent; the conversation ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// More names than one conversation may be about.
    #[error("more than {MAX_NAMES} names")]
    TooManyNames,
    /// A response of a type that was not asked for.
    #[error("a response of type {0:?}, which was not asked for")]
    Unasked(String),
    /// A mark that cannot be read.
    #[error("a mark that cannot be read: {0}")]
    Mark(String),
}

/// Text of the other side, cut to what is kept.
fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// The types that are about resources: all but the mark.
fn resource_types() -> impl Iterator<Item = TypeUrl> {
    TypeUrl::SHIPPED.into_iter().filter(|type_url| *type_url != TypeUrl::Revision)
}

#[cfg(test)]
mod tests;
