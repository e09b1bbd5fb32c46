//! Compiled authorization: deny before allow, and dry runs on the side.

use crate::spelling::freest;
use crate::trace::{Step, Trace, object};
use crate::{ConnectionFacts, Denial, DenialReason, RequestFacts};
use lateen_model::{
    Action, Authorization, AuthorizationRule, Cidr, Condition, ConditionKey, Entry, Identity, Namespace,
    Operation, Policy, PolicyId, PolicyKind, Resource, ServiceAccount, Source, StringMatch,
};
use smallvec::SmallVec;
use std::fmt::Write as _;
use std::net::IpAddr;

/// The policies that hold at one place.
#[derive(Clone, Default, Debug)]
pub(crate) struct Authorizations {
    deny: Vec<Compiled>,
    allow: Vec<Compiled>,
    dry_run: Vec<Compiled>,
    /// A policy that the workload lists but nobody sent: what it says is unknown, so all is denied.
    missing: Option<PolicyId>,
}

#[derive(Clone, Debug)]
struct Compiled {
    id: PolicyId,
    authorization: Authorization,
}

/// What policies look at. Without a request it is a connection whose bytes are not looked at.
pub(crate) struct Subject<'a> {
    connection: &'a ConnectionFacts,
    request: Option<Http<'a>>,
    principal: SmallVec<[u8; 160]>,
}

#[derive(Clone, Copy)]
pub(crate) struct Http<'a> {
    pub(crate) request: &'a RequestFacts<'a>,
    /// The authority as sent, in lower case.
    pub(crate) authority: &'a str,
    /// The host of it, without port.
    pub(crate) host: &'a str,
}

impl Authorizations {
    /// Takes the policies of a place, in any order, and the listed ones that are missing.
    pub(crate) fn new<'a>(
        entries: impl Iterator<Item = &'a std::sync::Arc<Entry>>,
        missing: Option<PolicyId>,
    ) -> Self {
        let mut all = Self { missing, ..Self::default() };
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        for entry in entries {
            if let Resource::Policy(Policy { id, kind: PolicyKind::Authorization(written), .. }) =
                &entry.resource
            {
                let compiled = Compiled { id: id.clone(), authorization: compile(written) };
                match (written.dry_run, written.action) {
                    (true, _) => all.dry_run.push(compiled),
                    (false, Action::Deny) => all.deny.push(compiled),
                    (false, Action::Allow) => all.allow.push(compiled),
                }
            }
        }
        all
    }

    /// Whether there is nothing to ask.
    pub(crate) fn is_empty(&self) -> bool {
        self.deny.is_empty() && self.allow.is_empty() && self.dry_run.is_empty() && self.missing.is_none()
    }

    /// Whether this may pass.
    pub(crate) fn check<T: Trace>(&self, subject: &Subject<'_>, trace: &mut T) -> Result<(), Denial> {
        if T::ON {
            self.dry_run.iter().for_each(|policy| {
                policy.ask(subject, trace);
            });
        }
        let deny = |reason| Err(Denial { reason, route: None, service: None });
        if let Some(policy) = &self.missing {
            return deny(DenialReason::PolicyMissing { policy: policy.clone() });
        }
        for policy in &self.deny {
            if let Some(rule) = policy.ask(subject, trace) {
                return deny(DenialReason::DeniedBy { policy: policy.id.clone(), rule });
            }
        }
        let Some(first) = self.allow.first() else { return Ok(()) };
        if self.allow.iter().any(|policy| policy.ask(subject, trace).is_some()) {
            return Ok(());
        }
        deny(DenialReason::NotAllowed { policy: first.id.clone() })
    }
}

/// Hosts are compared in lower case, so that their patterns are brought to it here.
fn compile(written: &Authorization) -> Authorization {
    let mut compiled = written.clone();
    for operation in compiled.rules.iter_mut().flat_map(|rule| &mut rule.to) {
        for host in operation.hosts.iter_mut().chain(&mut operation.not_hosts) {
            if let StringMatch::Exact(text) | StringMatch::Prefix(text) | StringMatch::Suffix(text) = host {
                *text = text.to_ascii_lowercase().into();
            }
        }
    }
    compiled
}

impl Compiled {
    /// The rule that matches, if one does.
    fn ask<T: Trace>(&self, subject: &Subject<'_>, trace: &mut T) -> Option<usize> {
        let Authorization { action, rules, dry_run, .. } = &self.authorization;
        let matched = rules.iter().position(|rule| subject.matches(rule, *action));
        trace.step(|| Step::Policy {
            policy: object(&self.id),
            action: if *action == Action::Allow { "ALLOW" } else { "DENY" }.to_owned(),
            dry_run: *dry_run,
            matched,
        });
        matched
    }
}

impl<'a> Subject<'a> {
    pub(crate) fn new(connection: &'a ConnectionFacts, request: Option<Http<'a>>) -> Self {
        let mut principal = Principal::default();
        if let Some(peer) = connection.peer.as_deref() {
            write!(principal, "{}", peer.principal()).expect("writing to memory does not fail");
        }
        Self { connection, request, principal: principal.0 }
    }

    fn peer(&self) -> Option<&Identity> {
        self.connection.peer.as_deref()
    }

    fn principal(&self) -> Option<&str> {
        self.peer().and_then(|_| std::str::from_utf8(&self.principal).ok())
    }

    fn client(&self) -> IpAddr {
        self.connection.client.ip().to_canonical()
    }

    fn matches(&self, rule: &AuthorizationRule, action: Action) -> bool {
        any_or_empty(&rule.from, |source| self.from(source))
            && any_or_empty(&rule.to, |operation| self.to(operation, action))
            && rule.when.iter().all(|condition| self.when(condition, action))
    }

    fn from(&self, source: &Source) -> bool {
        let Source {
            principals,
            not_principals,
            namespaces,
            not_namespaces,
            service_accounts,
            not_service_accounts,
            trust_domains,
            not_trust_domains,
            ip_blocks,
            not_ip_blocks,
            remote_ip_blocks,
            not_remote_ip_blocks,
        } = source;
        let peer = self.peer();
        let namespace = peer.map(|peer| peer.namespace.as_str());
        let domain = peer.map(|peer| peer.trust_domain.as_str());
        // No proxy before us is trusted yet, so the client is the direct peer.
        let (direct, remote) = (self.client(), self.client());
        text_passes(principals, not_principals, self.principal())
            && text_passes(namespaces, not_namespaces, namespace)
            && text_passes(trust_domains, not_trust_domains, domain)
            && passes(service_accounts, not_service_accounts, |account| is_account(account, peer))
            && passes(ip_blocks, not_ip_blocks, |block| block.contains(&direct))
            && passes(remote_ip_blocks, not_remote_ip_blocks, |block| block.contains(&remote))
    }

    fn to(&self, operation: &Operation, action: Action) -> bool {
        let Operation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } =
            operation;
        let port = self.connection.destination.port();
        if !passes(ports, not_ports, |number| *number == port) {
            return false;
        }
        let Some(Http { request, authority, host }) = self.request else {
            return without_http(operation.needs_http(), action);
        };
        passes(hosts, not_hosts, |expected| expected.matches(host) || expected.matches(authority))
            && text_passes(methods, not_methods, Some(request.method))
            && path_passes((paths, not_paths), request.path(), action)
    }

    fn when(&self, condition: &Condition, action: Action) -> bool {
        let Condition { key, values, not_values, addresses } = condition;
        let peer = self.peer();
        let text = |value: Option<&str>| text_passes(values, not_values, value);
        let ip = |ip: IpAddr| passes::<Cidr>(&addresses.any, &addresses.none, |block| block.contains(&ip));
        match key {
            ConditionKey::RequestHeader(name) => match self.request {
                Some(http) => {
                    let holds = |value: Option<&str>| text_or_present(values, not_values, value);
                    header_passes(http.request.headers, name, action, holds)
                }
                None => without_http(true, action),
            },
            ConditionKey::SourceIp | ConditionKey::RemoteIp => ip(self.client()),
            ConditionKey::DestinationIp => ip(self.connection.destination.ip().to_canonical()),
            ConditionKey::SourceNamespace => text(peer.map(|peer| peer.namespace.as_str())),
            ConditionKey::SourcePrincipal => text(self.principal()),
            ConditionKey::SourceTrustDomain => text(peer.map(|peer| peer.trust_domain.as_str())),
            ConditionKey::SourceServiceAccount => self.account_passes(values, not_values),
            ConditionKey::DestinationPort => {
                let port = self.connection.destination.port().to_string();
                text(Some(&port))
            }
            ConditionKey::ConnectionSni => text(self.connection.sni.as_deref()),
        }
    }

    /// `namespace/account`, as a condition has it.
    fn account_passes(&self, values: &[StringMatch], not_values: &[StringMatch]) -> bool {
        let account = self.peer().map(|peer| format!("{}/{}", peer.namespace, peer.service_account));
        text_passes(values, not_values, account.as_deref())
    }
}

/// A connection has nothing of HTTP: a rule that allows must not match by it, one that denies leaves it out.
fn without_http(needed: bool, action: Action) -> bool {
    !needed || action == Action::Deny
}

fn any_or_empty<T>(all: &[T], test: impl FnMut(&T) -> bool) -> bool {
    all.is_empty() || all.iter().any(test)
}

/// Any of these (unless there are none), and none of those.
fn passes<T>(any: &[T], none: &[T], mut test: impl FnMut(&T) -> bool) -> bool {
    any_or_empty(any, &mut test) && !none.iter().any(test)
}

/// The same for text that may be missing: then nothing matches it.
fn text_passes(any: &[StringMatch], none: &[StringMatch], text: Option<&str>) -> bool {
    passes(any, none, |expected| text.is_some_and(|text| expected.matches(text)))
}

/// The same for a path, in both readings: neither may open what the other keeps closed.
fn path_passes((any, none): (&[StringMatch], &[StringMatch]), path: &str, action: Action) -> bool {
    if any.is_empty() && none.is_empty() {
        return true;
    }
    let written = text_passes(any, none, Some(path));
    let decided = match action {
        Action::Deny => written,
        Action::Allow => !written,
    };
    if decided {
        return written;
    }
    freest(path).map_or(written, |other| text_passes(any, none, Some(&other)))
}

/// The same for headers, where an empty value is present too.
fn text_or_present(any: &[StringMatch], none: &[StringMatch], text: Option<&str>) -> bool {
    let holds = |expected: &StringMatch, text| *expected == StringMatch::Present || expected.matches(text);
    passes(any, none, |expected| text.is_some_and(|text| holds(expected, text)))
}

/// A header that comes several times: one value is enough to deny, alone or in the list that all of them are; to
/// allow, each of them must do. Who adds a value gains nothing by it.
fn header_passes(
    headers: &dyn crate::Headers,
    name: &str,
    action: Action,
    holds: impl Fn(Option<&str>) -> bool,
) -> bool {
    let mut values = 0;
    let failed = action == Action::Allow;
    let found = headers.any(name, &mut |value| {
        values += 1;
        holds(Some(value)) != failed
    });
    match (values, action) {
        (0, _) => holds(None),
        (_, Action::Allow) => !found,
        (1, Action::Deny) => found,
        (_, Action::Deny) => found || holds(headers.get(name).as_deref()),
    }
}

fn is_account((namespace, account): &(Namespace, ServiceAccount), peer: Option<&Identity>) -> bool {
    peer.is_some_and(|peer| peer.namespace == *namespace && peer.service_account == *account)
}

#[derive(Default)]
struct Principal(SmallVec<[u8; 160]>);

impl std::fmt::Write for Principal {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
