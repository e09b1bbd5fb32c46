//! An application of ours calls somebody.

use super::*;

static PASSTHROUGH: LazyLock<Arc<Effective>> = LazyLock::new(|| Arc::new(Effective::passthrough()));

pub(super) fn connection<T: Trace>(s: &Snapshot, facts: &ConnectionFacts, trace: &mut T) -> Decision {
    match meant(s, facts, trace) {
        Meant::Port(_, port, through) => match port.protocol {
            protocol if protocol.is_http() => Decision::Serve(protocol),
            AppProtocol::Detect => {
                Decision::Detect(Box::new(Decision::Forward(bytes(port, through, facts, trace))))
            }
            // UDP on the number does not declare TCP on it.
            AppProtocol::Udp => undeclared(s, facts, trace),
            _ => Decision::Forward(bytes(port, through, facts, trace)),
        },
        Meant::Workload(_) => Decision::Forward(passthrough(facts.destination)),
        Meant::NoPort(_) | Meant::Nobody => undeclared(s, facts, trace),
    }
}

/// A destination nobody declared. Where HTTP is spoken on the port somewhere in the mesh, its host may
/// still say who is meant.
fn undeclared<T: Trace>(s: &Snapshot, facts: &ConnectionFacts, trace: &mut T) -> Decision {
    let bytes = match pass_undeclared(s, facts, trace) {
        Ok(forward) => Decision::Forward(forward),
        Err(denial) => Decision::Deny(denial),
    };
    let port = facts.destination.port();
    if s.http_ports.contains_key(&port) { Decision::Detect(Box::new(bytes)) } else { bytes }
}

fn pass_undeclared<T: Trace>(
    s: &Snapshot,
    facts: &ConnectionFacts,
    trace: &mut T,
) -> Result<Forward, Denial> {
    let allowed = s.mesh.outbound == OutboundPolicy::AllowAny;
    trace.step(|| Step::Undeclared { destination: destination(facts), allowed });
    if allowed { Ok(passthrough(facts.destination)) } else { Err(denial(DenialReason::Undeclared)) }
}

fn destination(facts: &ConnectionFacts) -> String {
    match &facts.destination_host {
        Some(host) => format!("{host}:{}", facts.destination.port()),
        None => facts.destination.to_string(),
    }
}

fn passthrough(address: SocketAddr) -> Forward {
    Forward {
        to: Destination::Passthrough(address),
        effective: Arc::clone(&PASSTHROUGH),
        matched: MatchedPath::default(),
    }
}

/// Bytes that are no requests go where the service port leads, past all routes. An endpoint that the caller
/// chose stays chosen.
fn bytes<T: Trace>(port: &PortTable, through: Through, facts: &ConnectionFacts, trace: &mut T) -> Forward {
    let mut forward = port.default.forward(facts.destination, trace);
    if through == Through::Endpoint {
        forward.to = Destination::Passthrough(facts.destination);
    }
    forward
}

/// Who is meant by the destination: by its name where it was given, else by its address.
fn meant<'a, T: Trace>(s: &'a Snapshot, facts: &ConnectionFacts, trace: &mut T) -> Meant<'a> {
    let number = facts.destination.port();
    let found = match &facts.destination_host {
        Some(host) => {
            let found = s.service_named(Lowered::new(host).as_str());
            trace.step(|| Step::Name { name: host.to_string(), found: found.map(|s| s.id.to_string()) });
            match found {
                None => Meant::Nobody,
                Some(service) => match service.port(number) {
                    Some(port) => Meant::Port(service, port, Through::Itself),
                    None => Meant::NoPort(service),
                },
            }
        }
        None => {
            let found = s.meant(facts.destination);
            trace.step(|| Step::Address { address: facts.destination.to_string(), found: who(&found) });
            found
        }
    };
    if let Meant::Port(service, ..) | Meant::NoPort(service) = &found {
        trace.step(|| describe_port(service, number));
    }
    found
}

fn who(meant: &Meant<'_>) -> Option<String> {
    match meant {
        Meant::Port(service, _, Through::Itself) | Meant::NoPort(service) => Some(service.id.to_string()),
        Meant::Port(service, _, Through::Endpoint) => Some(format!("an endpoint of {}", service.id)),
        Meant::Workload(workload) => Some(format!("workload {}/{}", workload.namespace, workload.name)),
        Meant::Nobody => None,
    }
}

fn describe_port(service: &ServiceTable, port: u16) -> Step {
    Step::Port {
        service: service.id.to_string(),
        port,
        protocol: service.port(port).map(|port| port.protocol.to_string()),
    }
}

pub(super) fn request<T: Trace>(
    s: &Snapshot,
    head: &Head<'_>,
    trace: &mut T,
) -> Result<RequestDecision, Denial> {
    let facts = head.connection();
    if let Some((service, port)) = named(s, head, trace) {
        let through = reached(s, service, facts);
        return through_port(service, port, through, head, trace);
    }
    if let Some(table) = s.hosts.find(head.host) {
        trace.step(|| Step::Name { name: head.host.to_owned(), found: Some("a host of routes".to_owned()) });
        trace.step(|| Step::Routes { routes: table.keys().map(object).collect() });
        let asked = head.asked(facts.destination.port());
        let found = table.find(&asked, trace).ok_or_else(|| denial(DenialReason::NoRoute))?;
        return found.decide(head.request, trace);
    }
    let forward = match meant(s, facts, trace) {
        Meant::Port(service, port, through) if port.may_be_http() => {
            return through_port(service, port, through, head, trace);
        }
        Meant::Port(_, port, through) => bytes(port, through, facts, trace),
        Meant::Workload(_) => passthrough(facts.destination),
        Meant::NoPort(_) | Meant::Nobody => pass_undeclared(s, facts, trace)?,
    };
    Ok(RequestDecision::Forward(forward))
}

/// The service port that the authority names. The port of the connection comes first: callers that go
/// through a port of another number (a forward proxy) say theirs in the authority.
fn named<'a, T: Trace>(
    s: &'a Snapshot,
    head: &Head<'_>,
    trace: &mut T,
) -> Option<(&'a ServiceTable, &'a PortTable)> {
    let service = s.service_named(head.host);
    trace.step(|| Step::Name { name: head.host.to_owned(), found: service.map(|s| s.id.to_string()) });
    let service = service?;
    let connected = head.connection().destination.port();
    let mut port = service.port(connected);
    if port.is_none() {
        port = said_port(head).and_then(|said| service.port(said));
    }
    trace.step(|| describe_port(service, port.map_or(connected, |port| port.number)));
    port.filter(|port| port.may_be_http()).map(|port| (&**service, port))
}

/// The port of the authority, else the well-known one of the scheme.
fn said_port(head: &Head<'_>) -> Option<u16> {
    let default = if head.request.scheme == "https" { 443 } else { 80 };
    if head.authority.len() == head.host.len() { Some(default) } else { head.request.said_port() }
}

/// A headless service was reached by an endpoint's address, or by name.
fn reached(s: &Snapshot, service: &ServiceTable, facts: &ConnectionFacts) -> Through {
    if !service.is_headless() || facts.destination_host.is_some() {
        return Through::Itself;
    }
    match s.meant(facts.destination) {
        Meant::Port(by_address, _, Through::Endpoint) if by_address.id == service.id => Through::Endpoint,
        _ => Through::Itself,
    }
}

fn through_port<T: Trace>(
    service: &ServiceTable,
    port: &PortTable,
    through: Through,
    head: &Head<'_>,
    trace: &mut T,
) -> Result<RequestDecision, Denial> {
    let facts = head.connection();
    let Some(table) = &port.routes else {
        trace.step(|| Step::Routes { routes: Vec::new() });
        return Ok(RequestDecision::Forward(bytes(port, through, facts, trace)));
    };
    trace.step(|| Step::Routes { routes: table.keys().map(object).collect() });
    let no_route = || Denial {
        reason: DenialReason::NoRoute,
        route: table.keys().next().cloned(),
        service: Some(service.id.clone()),
    };
    let found = table.find(&head.asked(port.number), trace).ok_or_else(no_route)?;
    found
        .decide(head.request, trace)
        .map_err(|denial| Denial { service: denial.service.or_else(|| Some(service.id.clone())), ..denial })
}
