//! The authority of the control plane.

use std::time::Duration;

use lateen_runtime::live::LiveHandle;
use lateen_wire::certificates;

use super::{Answer, AskError, Authority, Holding};
use crate::plane::Plane;

/// How long certificates should last; the authority may give less.
const VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// Asks the control plane: with the token while nothing is held, with the certificate from then on.
pub struct PlaneAuthority {
    plane: Plane,
    holding: LiveHandle<Option<Holding>>,
}

impl PlaneAuthority {
    /// The authority of `plane`; `holding` is where what it gives is published.
    #[must_use]
    pub fn new(plane: Plane, holding: LiveHandle<Option<Holding>>) -> Self {
        Self { plane, holding }
    }
}

impl Authority for PlaneAuthority {
    async fn certify(&self, request: String, valid: bool) -> Result<Answer, AskError> {
        let held = self.holding.current();
        let plane = match &*held {
            // With one that has expired nobody would even talk to us; the token may still be good.
            Some(held) if valid => self.plane.by_certificate(held),
            _ => self.plane.by_token().map_err(|error| AskError::Refused(error.to_string()))?,
        };
        let answer =
            certificates::ask(&plane, request, VALIDITY, None).await.map_err(|error| match error {
                certificates::Error::Unanswered(why) => AskError::Unreachable(why),
                refused => AskError::Refused(refused.to_string()),
            })?;
        Ok(Answer { chain: answer.chain, roots: answer.roots })
    }
}
