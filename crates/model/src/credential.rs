//! `Credential`: certificate and key of a listener; its `Debug` shows neither.

use crate::Str;
use std::fmt;
use std::sync::Arc;

/// A certificate chain and its private key, as a Secret of type `kubernetes.io/tls` holds them.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The chain, PEM, leaf first (`tls.crt`).
    pub certificate_chain: Str,
    /// The private key, PEM (`tls.key`).
    pub private_key: Secret,
    /// Roots that client certificates must chain to, PEM (`ca.crt`), when clients are asked for one.
    pub client_roots: Option<Str>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes the text in.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Gives the text out, where it is really needed.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
