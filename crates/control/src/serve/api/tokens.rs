//! `/v1/tokens`: join tokens for proxies that are about to start.

use axum::Json;
use axum::extract::State;
use lateen_model::Identity;

use super::Shared;
use super::answer::Failure;
use crate::api::types::{TokenAnswer, TokenRequest};

pub(crate) async fn mint(
    State(control): Shared,
    Json(request): Json<TokenRequest>,
) -> Result<Json<TokenAnswer>, Failure> {
    let identity = Identity::parse(&request.identity).map_err(|error| Failure::bad_request(&error))?;
    // Without the roots a proxy could not know us, so there is nothing to answer before.
    let authority = control.authority().ok_or_else(|| Failure::not_ready(&control.ready.missing()))?;
    let bundle = authority.bundle().get();
    if !bundle.is_own(&identity.trust_domain) {
        let (theirs, own) = (&identity.trust_domain, bundle.own());
        return Err(Failure::bad_request(&format!(
            "{theirs} is not the trust domain of this mesh, which is {own}"
        )));
    }
    let minted = control.tokens.mint(&identity).map_err(|error| Failure::busy(&error))?;
    tracing::info!(%identity, uid = request.uid, "minted a join token");
    Ok(Json(TokenAnswer {
        token: minted.token,
        expires: minted.expires,
        roots: bundle.to_pem(),
        control_identity: authority.server().get().identity().to_string(),
    }))
}
