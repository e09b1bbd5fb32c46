//! `Trace`: where a decision leaves its reasons. The data plane passes one that is nothing, so that it costs
//! nothing; `explain` passes one that keeps them. There is one walk, so the reasons cannot differ from the deeds.

use lateen_model::Key;
use std::fmt;

/// Takes the reasons of a decision as it is made.
pub(crate) trait Trace {
    /// Whether anybody listens. Work that is only for the listener is done when it is true.
    const ON: bool;

    /// One more step.
    fn step(&mut self, make: impl FnOnce() -> Step);
}

/// Nobody listens.
pub(crate) struct Silent;

impl Trace for Silent {
    const ON: bool = false;

    #[inline(always)]
    fn step(&mut self, _: impl FnOnce() -> Step) {}
}

impl Trace for Vec<Step> {
    const ON: bool = true;

    fn step(&mut self, make: impl FnOnce() -> Step) {
        self.push(make());
    }
}

/// An object as people name it.
pub(crate) fn object(key: &Key) -> String {
    format!("{} {}/{}", key.origin.group_kind().1, key.namespace, key.name)
}

/// One step of a decision, with its reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A name was looked up.
    Name {
        /// The name, as asked for.
        name: String,
        /// The service or the route host that has it.
        found: Option<String>,
    },
    /// An address was looked up.
    Address {
        /// The address.
        address: String,
        /// The service or workload that has it.
        found: Option<String>,
    },
    /// The port of the service that was meant.
    Port {
        /// The service.
        service: String,
        /// The port.
        port: u16,
        /// What is spoken there; none when the service has no such port.
        protocol: Option<String>,
    },
    /// A listener of a gateway took the request.
    Listener {
        /// The port.
        port: u16,
        /// The host of the listener, and the host of the routes in it.
        host: Option<String>,
    },
    /// Nobody declared the destination.
    Undeclared {
        /// The destination.
        destination: String,
        /// Whether the mesh lets such through.
        allowed: bool,
    },
    /// The routes that decide here.
    Routes {
        /// Them, in order of precedence; empty means the default route.
        routes: Vec<String>,
    },
    /// A rule does not match.
    Skipped {
        /// The route.
        route: String,
        /// The rule.
        rule: String,
        /// What of the request it does not match.
        why: String,
    },
    /// A rule matches.
    Matched {
        /// The route.
        route: String,
        /// The rule.
        rule: String,
        /// What it asks for.
        because: String,
    },
    /// The backends of the rule.
    Backends {
        /// Them.
        choices: Vec<BackendChoice>,
    },
    /// How the request is treated on the way.
    Treatment {
        /// Total timeout.
        timeout: String,
        /// Retries.
        retry: String,
        /// Filters.
        filters: Vec<String>,
        /// Limits of connections, one in words each.
        limits: Vec<String>,
    },
    /// The rule answers itself.
    Answer {
        /// With what.
        what: String,
        /// Filters.
        filters: Vec<String>,
    },
    /// The endpoints that may be chosen.
    Candidates {
        /// The group.
        backend: String,
        /// How one is chosen.
        balance: String,
        /// How many endpoints there are in all.
        total: usize,
        /// How localities are preferred; empty where they are not.
        tiers: Vec<String>,
        /// The first of them (at most 32), with what speaks against them.
        endpoints: Vec<Candidate>,
    },
    /// The endpoint that is chosen.
    Endpoint {
        /// Its address.
        address: String,
        /// Its workload.
        workload: Option<String>,
        /// The way there.
        hop: String,
    },
    /// Whether the workload takes plaintext.
    Mtls {
        /// The port.
        port: u16,
        /// The mode.
        mode: String,
        /// The policy that says so.
        by: Option<String>,
        /// Who calls: an identity or `plaintext`.
        peer: String,
    },
    /// A policy was asked.
    Policy {
        /// The policy.
        policy: String,
        /// ALLOW or DENY.
        action: String,
        /// Whether it is only reported.
        dry_run: bool,
        /// The rule that matched, if one did.
        matched: Option<usize>,
    },
    /// A limit holds.
    Limit {
        /// The policy.
        policy: String,
        /// What it says.
        text: String,
        /// Whether it counts this request.
        counts: bool,
    },
    /// What comes of it.
    Verdict {
        /// Whether it may pass.
        passes: bool,
        /// In words.
        text: String,
    },
}

/// A backend of a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackendChoice {
    /// Where it leads.
    pub target: String,
    /// Its weight.
    pub weight: u32,
    /// Its share in percent of all, rounded.
    pub percent: u32,
    /// Whether the die chose it this time.
    pub chosen: bool,
}

/// An endpoint that may be chosen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Its address.
    pub address: String,
    /// Its workload.
    pub workload: String,
    /// Its weight.
    pub weight: u32,
    /// What speaks against it.
    pub against: Option<String>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { name, found: Some(found) } => write!(f, "name        {name} is {found}"),
            Self::Name { name, found: None } => write!(f, "name        nobody declared {name}"),
            Self::Address { address, found: Some(found) } => write!(f, "address     {address} is {found}"),
            Self::Address { address, found: None } => write!(f, "address     nobody declared {address}"),
            Self::Port { service, port, protocol: Some(protocol) } => {
                write!(f, "port        {port} of {service} speaks {protocol}")
            }
            Self::Port { service, port, protocol: None } => {
                write!(f, "port        {service} has no port {port}")
            }
            Self::Listener { port, host: Some(host) } => write!(f, "listener    port {port}, host {host}"),
            Self::Listener { port, host: None } => write!(f, "listener    none on port {port} for this host"),
            Self::Undeclared { destination, allowed } => {
                let what = if *allowed { "passes through" } else { "is refused: the mesh is REGISTRY_ONLY" };
                write!(f, "undeclared  {destination} {what}")
            }
            Self::Routes { routes } if routes.is_empty() => {
                f.write_str("routes      none, so the default route")
            }
            Self::Routes { routes } => write!(f, "routes      {}", routes.join(", ")),
            Self::Skipped { route, rule, why } => write!(f, "  no        {route} rule {rule}: {why}"),
            Self::Matched { route, rule, because } => write!(f, "  MATCH     {route} rule {rule}: {because}"),
            Self::Backends { choices } => {
                f.write_str("backends    ")?;
                for (n, choice) in choices.iter().enumerate() {
                    let separator = if n == 0 { "" } else { "\n            " };
                    let mark = if choice.chosen { " <- this time" } else { "" };
                    write!(f, "{separator}{:>3} % {}{mark}", choice.percent, choice.target)?;
                }
                Ok(())
            }
            Self::Treatment { timeout, retry, filters, limits } => {
                write!(f, "treatment   timeout {timeout}; {retry}")?;
                filters.iter().chain(limits).try_for_each(|filter| write!(f, "\n            {filter}"))
            }
            Self::Answer { what, filters } => {
                write!(f, "answer      {what}")?;
                filters.iter().try_for_each(|filter| write!(f, "\n            {filter}"))
            }
            Self::Candidates { backend, balance, total, tiers, endpoints } => {
                write!(f, "endpoints   {backend}: {total}, chosen by {balance}")?;
                tiers.iter().try_for_each(|tier| write!(f, "\n            {tier}"))?;
                for endpoint in endpoints {
                    let Candidate { address, workload, weight, against } = endpoint;
                    write!(f, "\n            {address} {workload}")?;
                    if *weight != 1 {
                        write!(f, " weight {weight}")?;
                    }
                    if let Some(against) = against {
                        write!(f, " ({against})")?;
                    }
                }
                if *total > endpoints.len() {
                    write!(f, "\n            and {} more", total - endpoints.len())?;
                }
                Ok(())
            }
            Self::Endpoint { address, workload, hop } => {
                write!(f, "endpoint    {address}")?;
                if let Some(workload) = workload {
                    write!(f, " {workload}")?;
                }
                write!(f, " by {hop}")
            }
            Self::Mtls { port, mode, by, peer } => {
                write!(f, "mtls        port {port} is {mode}")?;
                match by {
                    Some(by) => write!(f, " by {by}")?,
                    None => f.write_str(" by default")?,
                }
                write!(f, "; the caller is {peer}")
            }
            Self::Policy { policy, action, dry_run, matched } => {
                let dry = if *dry_run { " (dry run)" } else { "" };
                match matched {
                    Some(rule) => write!(f, "policy      {action} {policy}{dry}: rule {rule} matches"),
                    None => write!(f, "policy      {action} {policy}{dry}: no rule matches"),
                }
            }
            Self::Limit { policy, text, counts } => {
                let not = if *counts { "" } else { " (not this request)" };
                write!(f, "limit       {policy} {text}{not}")
            }
            Self::Verdict { passes: true, text } => write!(f, "=> {text}"),
            Self::Verdict { passes: false, text } => write!(f, "=> DENIED {text}"),
        }
    }
}
