//! Where a backend or a mirror leads.

use super::super::common::{Result, need, port, service_id_from_pb, service_id_to_pb, status};
use crate::pb::lateen::v1 as pb;
use lateen_model::BackendTarget;

/// The target of whichever message holds one.
pub(super) enum Wire {
    Service(pb::ServiceBackend),
    Invalid(pb::InvalidBackend),
}

pub(super) fn to_pb(target: &BackendTarget) -> Wire {
    match target {
        BackendTarget::Service { service, port, subset } => Wire::Service(pb::ServiceBackend {
            service: Some(service_id_to_pb(service)),
            port: (*port).into(),
            subset: subset.as_ref().map(ToString::to_string),
        }),
        BackendTarget::Invalid { status, reason } => {
            Wire::Invalid(pb::InvalidBackend { status: (*status).into(), reason: reason.to_string() })
        }
    }
}

pub(super) fn from_pb(target: Wire) -> Result<BackendTarget> {
    Ok(match target {
        Wire::Service(target) => BackendTarget::Service {
            service: service_id_from_pb(&need(target.service, "service")?)?,
            port: port(target.port)?,
            subset: target.subset.map(Into::into),
        },
        Wire::Invalid(target) => {
            BackendTarget::Invalid { status: status(target.status)?, reason: target.reason.into() }
        }
    })
}

pub(super) fn target_to_pb(target: &BackendTarget) -> pb::BackendTarget {
    use pb::backend_target::Target;
    let target = match to_pb(target) {
        Wire::Service(target) => Target::Service(target),
        Wire::Invalid(target) => Target::Invalid(target),
    };
    pb::BackendTarget { target: Some(target) }
}

pub(super) fn target_from_pb(message: pb::BackendTarget) -> Result<BackendTarget> {
    use pb::backend_target::Target;
    from_pb(match need(message.target, "target")? {
        Target::Service(target) => Wire::Service(target),
        Target::Invalid(target) => Wire::Invalid(target),
    })
}
