//! The HTTP API of the control plane as data, and who calls it: shared by the server ([`crate::serve`]) and by the
//! command line.

mod client;
mod convert;
pub mod types;

pub use client::{ApiClient, ClientError, ProcessWatch};
pub use convert::InvalidValue;
