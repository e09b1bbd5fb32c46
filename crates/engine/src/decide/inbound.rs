//! Somebody calls the proxy's own workload.

use super::*;

pub(super) fn connection<T: Trace>(s: &Snapshot, facts: &ConnectionFacts, trace: &mut T) -> Decision {
    if let Err(denial) = admit(s, facts, trace) {
        return Decision::Deny(denial);
    }
    let protocol = s.inbound.protocol(facts.destination.port());
    if protocol.is_http() {
        // Each request is asked about when all of it is known; a verdict by half of it would be wrong.
        return Decision::Serve(protocol);
    }
    let bytes = match authorize(&s.inbound.authorizations, facts, None, trace) {
        Ok(()) => Decision::Forward(local(s, facts)),
        Err(denial) => Decision::Deny(denial),
    };
    if protocol == AppProtocol::Detect { Decision::Detect(Box::new(bytes)) } else { bytes }
}

pub(super) fn request<T: Trace>(
    s: &Snapshot,
    head: &Head<'_>,
    trace: &mut T,
) -> Result<RequestDecision, Denial> {
    let facts = head.connection();
    // Asked again for each request: a policy may have come since the connection did.
    admit(s, facts, trace)?;
    authorize(&s.inbound.authorizations, facts, Some(head), trace)?;
    Ok(RequestDecision::Forward(local(s, facts)))
}

fn local(s: &Snapshot, facts: &ConnectionFacts) -> Forward {
    Forward {
        to: Destination::Local(facts.destination),
        effective: s.inbound.effective(facts.destination.port()),
        matched: MatchedPath::default(),
    }
}

/// What holds for every connection: it is for us, and as encrypted as we ask.
fn admit<T: Trace>(s: &Snapshot, facts: &ConnectionFacts, trace: &mut T) -> Result<(), Denial> {
    let Some(own) = &s.inbound.own else { return Err(denial(DenialReason::OwnWorkloadUnknown)) };
    let port = facts.destination.port();
    if !own.addresses.contains(&facts.destination.ip().to_canonical()) {
        return Err(denial(DenialReason::NotOurs));
    }
    let Ruling { mode, by } = s.inbound.mtls(port);
    trace.step(|| Step::Mtls {
        port,
        mode: mode_name(*mode).to_owned(),
        by: by.as_ref().map(object),
        peer: facts.peer.as_ref().map_or_else(|| "plaintext".to_owned(), ToString::to_string),
    });
    if *mode == MtlsMode::Strict && facts.peer.is_none() {
        return Err(denial(DenialReason::PlaintextRefused { policy: by.clone() }));
    }
    Ok(())
}

fn mode_name(mode: MtlsMode) -> &'static str {
    match mode {
        MtlsMode::Unset | MtlsMode::Permissive => "PERMISSIVE",
        MtlsMode::Disable => "DISABLE",
        MtlsMode::Strict => "STRICT",
    }
}
