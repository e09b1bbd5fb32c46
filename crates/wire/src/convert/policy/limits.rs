//! How many requests are taken, and how large they may be.

use super::super::Invalid;
use super::super::common::{Context, Result, duration_from_pb, duration_to_pb, each, header_name, need};
use super::super::route::{match_from_pb, match_to_pb};
use crate::pb::lateen::v1 as pb;
use lateen_model::{Descriptor, LimitRule, RateLimit, RequestLimit};

pub(super) fn rate_to_pb(limit: &RateLimit) -> pb::RateLimit {
    let rule = |rule: &LimitRule| pb::LimitRule {
        name: rule.name.to_string(),
        matches: rule.matches.iter().map(match_to_pb).collect(),
        key: rule.key.iter().map(descriptor_to_pb).collect(),
        requests: rule.requests,
        per: Some(duration_to_pb(rule.per)),
        burst: rule.burst,
    };
    pb::RateLimit { rules: limit.rules.iter().map(rule).collect() }
}

pub(super) fn rate_from_pb(context: &Context, message: &pb::RateLimit) -> Result<RateLimit> {
    let rule = |rule: &pb::LimitRule| {
        let per = duration_from_pb(need(rule.per, "per")?)?;
        if per.is_zero() {
            return Err(Invalid::new("per is no time at all"));
        }
        Ok(LimitRule {
            name: rule.name.as_str().into(),
            matches: each(rule.matches.clone(), "matches", |one| match_from_pb(context, one))?,
            key: each(&rule.key, "key", descriptor_from_pb)?,
            requests: rule.requests,
            per,
            burst: rule.burst,
        })
    };
    Ok(RateLimit { rules: each(&message.rules, "rules", rule)? })
}

fn descriptor_to_pb(descriptor: &Descriptor) -> pb::Descriptor {
    use pb::descriptor::{Attribute, Descriptor as Wire};
    let attribute = |attribute: Attribute| Wire::Attribute(attribute as i32);
    let wire = match descriptor {
        Descriptor::Header(name) => Wire::Header(name.to_string()),
        Descriptor::Path => attribute(Attribute::Path),
        Descriptor::Method => attribute(Attribute::Method),
        Descriptor::Host => attribute(Attribute::Host),
        Descriptor::Principal => attribute(Attribute::Principal),
        Descriptor::ClientAddress => attribute(Attribute::ClientAddress),
    };
    pb::Descriptor { descriptor: Some(wire) }
}

fn descriptor_from_pb(message: &pb::Descriptor) -> Result<Descriptor> {
    use pb::descriptor::{Attribute, Descriptor as Wire};
    let attribute = match need(message.descriptor.as_ref(), "descriptor")? {
        Wire::Header(name) => return Ok(Descriptor::Header(header_name(name)?)),
        Wire::Attribute(attribute) => *attribute,
    };
    match Attribute::try_from(attribute) {
        Ok(Attribute::Path) => Ok(Descriptor::Path),
        Ok(Attribute::Method) => Ok(Descriptor::Method),
        Ok(Attribute::Host) => Ok(Descriptor::Host),
        Ok(Attribute::Principal) => Ok(Descriptor::Principal),
        Ok(Attribute::ClientAddress) => Ok(Descriptor::ClientAddress),
        Ok(Attribute::Unspecified) | Err(_) => {
            Err(Invalid::new(format!("attribute {attribute} is not known")))
        }
    }
}

pub(super) fn request_to_pb(limit: &RequestLimit) -> pb::RequestLimit {
    pb::RequestLimit {
        request_body: limit.request_body,
        response_body: limit.response_body,
        request_head: limit.request_head,
        request_headers: limit.request_headers,
    }
}

pub(super) fn request_from_pb(message: &pb::RequestLimit) -> RequestLimit {
    RequestLimit {
        request_body: message.request_body,
        response_body: message.response_body,
        request_head: message.request_head,
        request_headers: message.request_headers,
    }
}
