//! How planes talk: protobuf, model to protobuf and back, delta-xDS sessions, certificate requests.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod any;
pub mod convert;
pub mod json;
pub mod pb;
pub mod session;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod view;

pub use any::Any;
pub use view::{Name, NativeView, Shown, Version, View};
