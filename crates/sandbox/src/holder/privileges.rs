//! What a started process may do (capabilities(7)).

use lateen_capture::{During, Error};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

use crate::message::Kind;

/// Leaves an application nothing and a proxy of a pod `CAP_NET_ADMIN`, for good: no later exec, also not of a
/// set-uid program or by uid 0, brings anything back.
pub(crate) fn reduce(kind: Kind, has_namespaces: bool) -> Result<(), Error> {
    set_no_new_privs(true).during("prctl(PR_SET_NO_NEW_PRIVS)")?;
    let keep = match (kind, has_namespaces) {
        (Kind::Application, _) => CapabilitySet::empty(),
        (Kind::Proxy, true) => CapabilitySet::NET_ADMIN,
        // In plain mode our own process stays what the user made it.
        (Kind::Proxy, false) => return Ok(()),
    };
    let held = capabilities(None).during("capget()")?;
    // Without this right (an ordinary user in plain mode) there is nothing to give away either.
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().difference(keep) {
            if capability_is_in_bounding_set(capability).unwrap_or(false) {
                remove_capability_from_bounding_set(capability).during("prctl(PR_CAPBSET_DROP)")?;
            }
        }
    }
    let sets = CapabilitySets { effective: keep, permitted: keep, inheritable: keep };
    set_capabilities(None, sets).during("capset()")?;
    clear_ambient_capability_set().during("prctl(PR_CAP_AMBIENT_CLEAR_ALL)")?;
    for capability in keep {
        configure_capability_in_ambient_set(capability, true).during("prctl(PR_CAP_AMBIENT_RAISE)")?;
    }
    Ok(())
}
