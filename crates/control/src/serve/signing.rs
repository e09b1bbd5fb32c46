//! Who gets which certificate: its own, by the one it has or by a join token.

use std::sync::Arc;

use lateen_pki::{IssueError, csr};
use lateen_wire::certificates::{Answer, Asked, Sign, SignError};
use lateen_wire::server::Caller;

use super::callers::{identify, seconds};
use crate::authority::tokens::Use;
use crate::authority::{self, Authority, VALIDITY};
use crate::control::Control;

/// Signs for proxies.
pub(crate) struct Signing {
    pub(crate) control: Arc<Control>,
    pub(crate) authority: Arc<Authority>,
}

impl Sign for Signing {
    async fn sign(&self, caller: Caller, asked: Asked) -> Result<Answer, SignError> {
        // Read before the token is spent: what is no request costs no token.
        let request =
            csr::Request::parse(&asked.csr).map_err(|error| SignError::Invalid(error.to_string()))?;
        let identity = identify(&self.control, &caller, Use::Certificate(request.public_key()))?;
        if let Some(other) = asked.impersonated.filter(|asked| *asked != identity) {
            let message = format!("`{identity}` may not ask in the name of `{other}`");
            tracing::warn!(origin = ?caller.origin, "{message}");
            return Err(SignError::Unauthenticated(message));
        }
        let signed = self.authority.sign(&asked.csr, &identity, asked.validity.unwrap_or(VALIDITY));
        let issued = signed.map_err(|error| {
            tracing::warn!(%identity, origin = ?caller.origin, %error, "certificate refused");
            code(&error)
        })?;
        let expires = seconds(issued.not_after);
        self.control.fleet.certified(caller.origin, &identity, expires, self.control.clock.unix_seconds());
        tracing::info!(%identity, expires, "signed a certificate");
        Ok(Answer { chain: issued.to_pem(), roots: self.authority.bundle().get().to_pem() })
    }
}

/// What the caller hears.
fn code(error: &authority::SignError) -> SignError {
    use authority::SignError as E;
    let message = error.to_string();
    match error {
        E::Request(_) | E::Issue(IssueError::NoValidity) => SignError::Invalid(message),
        E::Issue(IssueError::OtherIdentity { .. }) | E::Foreign(_) => SignError::Unauthenticated(message),
        E::Issue(_) => SignError::Internal(message),
    }
}
