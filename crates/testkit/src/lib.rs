//! Tests only: a whole mesh in one process, and the tools to watch it.
//!
//! [`Mesh::from_yaml`] reads the documents a user would write, starts a real control plane over them, and for each
//! Process a real proxy and an application that says what it saw. Nothing in between is made easier: objects are
//! files that are watched, resources and certificates travel over the control plane's own socket, proxies are whole
//! ones with workers of their own, in plain mode on loopback addresses that nobody else uses.
//!
//! ```ignore
//! let mesh = Mesh::from_yaml(SHOP).await;
//! let answer = mesh.request("client", "GET http://cart/items").header("end-user", "jason").await;
//! assert_eq!((answer.status, answer.app()), (200, "cart-0"));
//! ```
//!
//! No test waits for a time: what takes a while is asked for again until it holds ([`eventually`]), and what must not
//! change is counted.

#![forbid(unsafe_code)]

mod application;
mod broker;
mod certificates;
mod mesh;
mod request;
mod wait;

pub use application::Manner;
pub use certificates::{Certificate, CertificateAuthority};
pub use mesh::Mesh;
pub use request::{Answer, Request};
pub use wait::{DEADLINE, eventually, in_time};
