//! Identity to certificate and back. No sockets, no clock: time is always an argument.
//!
//! A workload makes a [`PrivateKey`] and a request ([`csr`]); the [`Issuer`], which signs with a [`Root`], answers
//! with a chain; chain and key together are a [`CertifiedIdentity`]. Peers hold a [`TrustBundle`] and learn by
//! [`verify`] whose certificate they see, or a [`Refusal`]. [`tls`] puts this into rustls, reading identity and bundle
//! anew at each handshake ([`Current`]), so that [`rotation`] needs no new settings. Private keys do not leave this
//! crate, except as a [`SecretPem`] on its way to the root's own file.

#![forbid(unsafe_code)]

mod bundle;
mod chain;
pub mod csr;
mod current;
mod issuer;
mod key;
mod pem;
mod provider;
mod root;
pub mod rotation;
pub mod tls;
pub mod verify;

pub use bundle::{InvalidBundle, TrustBundle};
pub use chain::{CertifiedIdentity, InvalidChain, not_after};
pub use current::Current;
pub use issuer::{IssueError, Issued, Issuer};
pub use key::{InvalidKey, PrivateKey};
pub use pem::SecretPem;
pub use root::{InvalidRoot, Root};
pub use verify::{Refusal, Usage, peer_identity};
