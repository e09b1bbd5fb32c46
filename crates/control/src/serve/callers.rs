//! Who calls, and what it may see: its certificate or a join token says who it is, its registration says what it
//! is like. What it claims itself decides nothing but which of its own it means.

use lateen_model::{Identity, Labels, NetworkId, NodeName, ProxyRole, Run, Str, Viewer};

use super::listen::Caller;
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

impl From<Refused> for tonic::Status {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::Nobody | Refused::Token(_) | Refused::Expired(_) => Self::unauthenticated(message),
            Refused::OtherNamespace { .. } | Refused::OtherAccount { .. } | Refused::NoGateway(_) => {
                Self::permission_denied(message)
            }
        }
    }
}

/// Who calls: by certificate if it showed one, else by the token.
pub(crate) fn identify(
    control: &Control,
    caller: &Caller,
    token: Option<&str>,
    wish: Use<'_>,
) -> Result<Identity, Refused> {
    match (&caller.certified, token) {
        (Some((identity, until)), _) if *until > control.clock.unix_seconds() => Ok(identity.clone()),
        (Some((identity, _)), _) => Err(Refused::Expired(identity.clone())),
        (None, Some(token)) => Ok(control.tokens.redeem(token, wish)?),
        (None, None) => Err(Refused::Nobody),
    }
}

/// The token of a call, if it brought one.
pub(crate) fn bearer(metadata: &tonic::metadata::MetadataMap) -> Option<&str> {
    metadata.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}

/// The name that a proxy gives itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Claimed {
    pub(crate) role: ProxyRole,
    pub(crate) name: Str,
    pub(crate) namespace: Str,
}

impl Claimed {
    /// Reads `role~ip~name.namespace~domain`, in which Istio calls a gateway `router` and a node proxy `ztunnel`.
    pub(crate) fn parse(node_id: &str) -> Option<Self> {
        let mut parts = node_id.split('~');
        let role = match parts.next()? {
            "sidecar" => ProxyRole::Sidecar,
            "gateway" | "router" => ProxyRole::Gateway,
            "waypoint" => ProxyRole::Waypoint,
            "node" | "ztunnel" => ProxyRole::Node,
            _ => return None,
        };
        let (name, namespace) = parts.nth(1)?.rsplit_once('.')?;
        (!name.is_empty()).then(|| Self { role, name: name.into(), namespace: namespace.into() })
    }

    /// How it is called in lists.
    pub(crate) fn node(&self) -> Str {
        format!("{}.{}", self.name, self.namespace).into()
    }
}

/// What this proxy sees. Asked again at each change of the mesh: its labels may have changed.
pub(crate) fn viewer(control: &Control, identity: &Identity, claimed: &Claimed) -> Result<Viewer, Refused> {
    let Claimed { role, name, namespace } = claimed;
    if *namespace != *identity.namespace.as_shared() {
        return Err(Refused::OtherNamespace { claimed: claimed.node().to_string(), identity: identity.clone() });
    }
    let instance = control.registrations.get(&(identity.namespace.clone(), name.clone()));
    if let Some(instance) = instance.as_ref().filter(|found| found.service_account != identity.service_account) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_of_ours_and_of_istio_are_read() {
        let check = |id: &str, expected: Option<(ProxyRole, &str, &str)>| {
            let read = Claimed::parse(id);
            let read = read.as_ref().map(|claimed| (claimed.role, &*claimed.name, &*claimed.namespace));
            assert_eq!(read, expected, "{id}");
        };
        check("sidecar~10.0.0.1~cart-0.shop~shop.svc.cluster.local", Some((ProxyRole::Sidecar, "cart-0", "shop")));
        check("router~10.0.0.1~gate.v2-0.shop~x", Some((ProxyRole::Gateway, "gate.v2-0", "shop")));
        check("ztunnel~10.0.0.1~z.istio-system", Some((ProxyRole::Node, "z", "istio-system")));
        for wrong in ["", "sidecar", "sidecar~~", "sidecar~~.shop~", "envoy~1~a.b~c", "sidecar~a.b"] {
            check(wrong, None);
        }
    }
}
