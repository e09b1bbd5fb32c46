//! How planes talk: protobuf, model to protobuf and back, delta-xDS sessions, certificate requests.
//!
//! [`convert`] is the only place where a noun of the model becomes bytes and bytes become a noun; what it does
//! not fully understand it refuses by name. [`NativeView`] encodes each resource once for all proxies.
//! [`session`] is the conversation itself, without I/O; [`server`] and [`client`] move its messages, and
//! [`certificates`] travel beside it. [`json`] writes a whole catalog down for people, and reads it back.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod any;
pub mod certificates;
mod channel;
pub mod client;
pub mod convert;
pub mod json;
mod node;
pub mod pb;
pub mod server;
pub mod session;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod view;

pub use any::Any;
pub use channel::{ControlPlane, Endpoint, InvalidToken};
pub use node::Claim;
pub use view::{Name, NativeView, Shown, Version, View};
