//! The HTTP API of the control plane as data, and who calls it: shared by the server (`serve`) and by the
//! command line.

mod client;
mod convert;
pub mod types;

pub use client::{ApiClient, ClientError, ProcessWatch};
pub use convert::InvalidValue;

/// What stands in the place of the file of an object that came as a manifest by the API: the page that has it. No
/// file of a directory is called so, since their names are relative.
pub fn manifest_origin(name: &str) -> String {
    format!("/v1/manifests/{name}")
}
