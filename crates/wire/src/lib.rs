//! How planes talk: protobuf, model to protobuf and back, delta-xDS sessions, certificate requests.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod any;
pub mod convert;
pub mod pb;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use any::Any;
