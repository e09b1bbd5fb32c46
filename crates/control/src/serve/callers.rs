//! Who calls, and what it may see: its certificate or a join token says who it is, its registration says what it
//! is like. What it claims itself decides nothing but which of its own it means.

use std::time::SystemTime;

use lateen_model::{Identity, Labels, NetworkId, NodeName, ProxyRole, Run, Str, Viewer};
use lateen_wire::Claim;
use lateen_wire::certificates::SignError;
use lateen_wire::server::{Caller, Denied};

use crate::authority::tokens::{self, Use};
use crate::control::Control;

/// Why somebody is not served.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// It showed nothing.
    #[error("show a client certificate, or a join token as `authorization: Bearer`")]
    Nobody,
    /// Its token is no good.
    #[error(transparent)]
    Token(#[from] tokens::Refused),
    /// Its certificate ended while it was connected.
    #[error("the certificate of `{0}` has expired; connect again with a new one")]
    Expired(Identity),
    /// It does not say who it is.
    #[error("the node's id is not role~address~name.namespace~domain")]
    NoClaim,
    /// It says that it is somebody else.
    #[error("the proxy calls itself {claimed}, and is `{identity}`")]
    OtherNamespace {
        /// What it calls itself.
        claimed: String,
        /// Who it is.
        identity: Identity,
    },
    /// It says that it is an instance of another account.
    #[error("{name} acts as the account {account}, and the proxy is `{identity}`")]
    OtherAccount {
        /// The instance.
        name: Str,
        /// Whose it is.
        account: String,
        /// Who it is.
        identity: Identity,
    },
    /// Only proxies that gateways run in are shown what gateways see.
    #[error("{0} is no gateway: its Process runs a command, or there is none")]
    NoGateway(Str),
}

impl Refused {
    fn is_about_identity(&self) -> bool {
        matches!(self, Self::Nobody | Self::Token(_) | Self::Expired(_))
    }
}

impl From<Refused> for Denied {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        if refused.is_about_identity() { Self::Unauthenticated(message) } else { Self::NotAllowed(message) }
    }
}

impl From<Refused> for SignError {
    fn from(refused: Refused) -> Self {
        Self::Unauthenticated(refused.to_string())
    }
}

/// Who calls: by certificate if it showed one, else by the token.
pub(crate) fn identify(control: &Control, caller: &Caller, wish: Use<'_>) -> Result<Identity, Refused> {
    match (&caller.identity, &caller.token) {
        // The handshake checked the time too; the connection may be older than that.
        (Some(identity), _) if caller.until.is_none_or(|until| until <= control.clock.wall()) => {
            Err(Refused::Expired(identity.clone()))
        }
        (Some(identity), _) => Ok(identity.clone()),
        (None, Some(token)) => Ok(control.tokens.redeem(token.expose(), wish)?),
        (None, None) => Err(Refused::Nobody),
    }
}

/// What this proxy sees. Asked again at each change of the mesh: its labels may have changed.
pub(crate) fn viewer(control: &Control, identity: &Identity, claim: &Claim) -> Result<Viewer, Refused> {
    let Claim { role, name, namespace, .. } = claim;
    if *namespace != identity.namespace {
        let claimed = format!("{name}.{namespace}");
        return Err(Refused::OtherNamespace { claimed, identity: identity.clone() });
    }
    let instance = control.registrations.get(&(namespace.clone(), name.clone()));
    if let Some(instance) =
        instance.as_ref().filter(|found| found.service_account != identity.service_account)
    {
        let account = instance.service_account.to_string();
        return Err(Refused::OtherAccount { name: name.clone(), account, identity: identity.clone() });
    }
    let process = instance.as_ref().map_or(name, |instance| &instance.process);
    if *role != ProxyRole::Sidecar && !runs_gateway(control, identity, process) {
        return Err(Refused::NoGateway(name.clone()));
    }
    let (labels, node) = instance.map_or_else(
        || (Labels::default(), NodeName::default()),
        |instance| (instance.labels, instance.node),
    );
    Ok(Viewer {
        role: *role,
        name: name.clone(),
        identity: identity.clone(),
        labels,
        node,
        network: NetworkId::default(),
    })
}

/// Whether a Process of this name runs a gateway as this account.
fn runs_gateway(control: &Control, identity: &Identity, name: &Str) -> bool {
    let Some(published) = control.published() else { return false };
    published.processes.iter().any(|process| {
        process.run == Run::Gateway
            && process.namespace == identity.namespace
            && process.service_account == identity.service_account
            && process.name == *name
    })
}

/// Seconds since 1970, as the API has them.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
