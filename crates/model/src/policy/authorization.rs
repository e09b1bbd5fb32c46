//! Who may do what: allow and deny over identity, address and request.

use crate::{Cidr, Namespace, ServiceAccount, Str, StringMatch};

/// AuthorizationPolicy. Order of verdicts at a workload: any DENY that matches denies; without any ALLOW
/// policy all else passes; any ALLOW that matches passes; else denied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authorization {
    /// What a match means.
    pub action: Action,
    /// Any of these may match. None never matches: ALLOW without rules denies all, DENY without rules denies none.
    pub rules: Vec<AuthorizationRule>,
    /// Only logged and counted (`istio.io/dry-run`).
    pub dry_run: bool,
    /// Why it stands here other than written: it stands in for something not enforced, so it denies.
    pub note: Option<Str>,
}

/// What a match means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The request may pass.
    Allow,
    /// The request may not pass.
    Deny,
}

/// Any of `from`, and any of `to`, and all of `when`. An empty list asks for nothing.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AuthorizationRule {
    /// Who.
    pub from: Vec<Source>,
    /// What.
    pub to: Vec<Operation>,
    /// Under which further conditions.
    pub when: Vec<Condition>,
}

/// Who sends: every part that is not empty must hold; within a part any value; `not_` parts none.
/// Parts about the peer's identity fail without one; their `not_` forms then hold.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Source {
    /// `<trust domain>/ns/<namespace>/sa/<account>`.
    pub principals: Vec<StringMatch>,
    /// None of these.
    pub not_principals: Vec<StringMatch>,
    /// Namespaces.
    pub namespaces: Vec<StringMatch>,
    /// None of these.
    pub not_namespaces: Vec<StringMatch>,
    /// Accounts with their namespace.
    pub service_accounts: Vec<(Namespace, ServiceAccount)>,
    /// None of these.
    pub not_service_accounts: Vec<(Namespace, ServiceAccount)>,
    /// Trust domains.
    pub trust_domains: Vec<StringMatch>,
    /// None of these.
    pub not_trust_domains: Vec<StringMatch>,
    /// Address of the direct peer.
    pub ip_blocks: Vec<Cidr>,
    /// None of these.
    pub not_ip_blocks: Vec<Cidr>,
    /// Address of the client as `x-forwarded-for` tells it through trusted proxies.
    pub remote_ip_blocks: Vec<Cidr>,
    /// None of these.
    pub not_remote_ip_blocks: Vec<Cidr>,
}

/// What is asked for. A connection that is not HTTP has no host, method and path: an ALLOW rule that
/// asks for them does not match it, a DENY rule leaves them out.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Operation {
    /// Host without port, any case.
    pub hosts: Vec<StringMatch>,
    /// None of these.
    pub not_hosts: Vec<StringMatch>,
    /// Port of the workload.
    pub ports: Vec<u16>,
    /// None of these.
    pub not_ports: Vec<u16>,
    /// Method.
    pub methods: Vec<StringMatch>,
    /// None of these.
    pub not_methods: Vec<StringMatch>,
    /// Path, normalised, without query; templates are held as regular expressions.
    pub paths: Vec<StringMatch>,
    /// None of these.
    pub not_paths: Vec<StringMatch>,
}

impl Operation {
    /// Whether it asks for something only HTTP has.
    pub fn needs_http(&self) -> bool {
        ![&self.hosts, &self.not_hosts, &self.methods, &self.not_methods, &self.paths, &self.not_paths]
            .into_iter()
            .all(Vec::is_empty)
    }
}

/// One `when`: any of the values, none of the `not_values`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// What is looked at.
    pub key: ConditionKey,
    /// Any of these, unless empty.
    pub values: Vec<StringMatch>,
    /// None of these.
    pub not_values: Vec<StringMatch>,
    /// The same values as address ranges, for keys that are addresses.
    pub addresses: AddressMatch,
}

/// Address ranges of a condition.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct AddressMatch {
    /// Any of these, unless empty.
    pub any: Vec<Cidr>,
    /// None of these.
    pub none: Vec<Cidr>,
}

/// What a condition looks at: the keys that need no token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConditionKey {
    /// `request.headers[name]`, name in lower case.
    RequestHeader(Str),
    /// `source.ip`: the direct peer.
    SourceIp,
    /// `remote.ip`: the client behind trusted proxies.
    RemoteIp,
    /// `source.namespace`.
    SourceNamespace,
    /// `source.principal`.
    SourcePrincipal,
    /// `source.serviceAccount`.
    SourceServiceAccount,
    /// `source.trustDomain`.
    SourceTrustDomain,
    /// `destination.ip`.
    DestinationIp,
    /// `destination.port`.
    DestinationPort,
    /// `connection.sni`.
    ConnectionSni,
}

impl ConditionKey {
    /// Whether only HTTP has it.
    pub fn needs_http(&self) -> bool {
        matches!(self, Self::RequestHeader(_))
    }
}
