//! What a rule does to requests and responses.

use super::super::Invalid;
use super::super::common::{
    Context, Result, duration_from_pb, duration_to_pb, each, header_name, header_text, need,
    optional_from_pb, optional_to_pb, share_from_pb, status, string_matches_from_pb, string_matches_to_pb,
    strs, target_text, texts,
};
use super::backend::{target_from_pb, target_to_pb};
use crate::pb::lateen::v1 as pb;
use lateen_model::{
    Abort, Cors, FaultInjection, Filter, Format, HeaderEdit, Mirror, PathRewrite, RegexRewrite, Rewrite, Str,
};

pub(super) fn to_pb(filter: &Filter) -> pb::Filter {
    use pb::filter::Filter as Wire;
    let wire = match filter {
        Filter::RequestHeaders(edit) => Wire::RequestHeaders(edit_to_pb(edit)),
        Filter::ResponseHeaders(edit) => Wire::ResponseHeaders(edit_to_pb(edit)),
        Filter::Rewrite(rewrite) => Wire::Rewrite(pb::Rewrite {
            path: rewrite.path.as_ref().map(path_to_pb),
            authority: rewrite.authority.as_ref().map(ToString::to_string),
        }),
        Filter::Mirror(mirror) => Wire::Mirror(pb::Mirror {
            target: Some(target_to_pb(&mirror.target)),
            parts_per_million: mirror.share.parts(),
        }),
        Filter::Cors(cors) => Wire::Cors(cors_to_pb(cors)),
        Filter::Fault(fault) => Wire::Fault(fault_to_pb(fault)),
    };
    pb::Filter { filter: Some(wire) }
}

pub(super) fn from_pb(context: &Context, message: pb::Filter) -> Result<Filter> {
    use pb::filter::Filter as Wire;
    Ok(match need(message.filter, "filter")? {
        Wire::RequestHeaders(edit) => Filter::RequestHeaders(edit_from_pb(edit)?),
        Wire::ResponseHeaders(edit) => Filter::ResponseHeaders(edit_from_pb(edit)?),
        Wire::Rewrite(rewrite) => Filter::Rewrite(Rewrite {
            path: rewrite.path.map(|path| path_from_pb(context, path)).transpose()?,
            authority: rewrite.authority.map(target_text).transpose()?,
        }),
        Wire::Mirror(mirror) => Filter::Mirror(Mirror {
            target: target_from_pb(need(mirror.target, "target")?)?,
            share: share_from_pb(mirror.parts_per_million)?,
        }),
        Wire::Cors(cors) => Filter::Cors(cors_from_pb(context, cors)?),
        Wire::Fault(fault) => Filter::Fault(fault_from_pb(fault)?),
    })
}

fn edit_to_pb(edit: &HeaderEdit) -> pb::HeaderEdit {
    let header = |(name, value): &(Str, Format)| pb::Header {
        name: name.to_string(),
        value: value.source().to_string(),
        formatted: !value.is_literal(),
    };
    pb::HeaderEdit {
        set: edit.set.iter().map(header).collect(),
        add: edit.add.iter().map(header).collect(),
        remove: texts(&edit.remove),
    }
}

/// Header names and values go into requests as they are, so neither may hold what ends a header.
fn edit_from_pb(message: pb::HeaderEdit) -> Result<HeaderEdit> {
    let name = |text: &str| header_name(text.strip_prefix(':').unwrap_or(text)).map(drop);
    let header = |header: pb::Header| {
        name(&header.name)?;
        let value = header_text(header.value)?;
        let value = match header.formatted {
            true => Format::parse(&value).map_err(|error| Invalid::new(error.to_string()))?,
            false => Format::literal(value),
        };
        Ok((header.name.into(), value))
    };
    message.remove.iter().try_for_each(|text| name(text))?;
    Ok(HeaderEdit {
        set: each(message.set, "set", header)?,
        add: each(message.add, "add", header)?,
        remove: strs(message.remove),
    })
}

pub(super) fn path_to_pb(path: &PathRewrite) -> pb::PathRewrite {
    use pb::path_rewrite::Rewrite as Wire;
    let rewrite = match path {
        PathRewrite::Full(path) => Wire::Full(path.to_string()),
        PathRewrite::Matched(text) => Wire::Matched(text.to_string()),
        PathRewrite::Regex(regex) => Wire::Regex(pb::RegexRewrite {
            pattern: regex.pattern().to_string(),
            substitution: regex.substitution().to_string(),
        }),
    };
    pb::PathRewrite { rewrite: Some(rewrite) }
}

pub(super) fn path_from_pb(context: &Context, message: pb::PathRewrite) -> Result<PathRewrite> {
    use pb::path_rewrite::Rewrite as Wire;
    Ok(match need(message.rewrite, "rewrite")? {
        Wire::Full(path) => PathRewrite::Full(target_text(path)?),
        Wire::Matched(text) => PathRewrite::Matched(target_text(text)?),
        Wire::Regex(regex) => {
            context.one_more_regex()?;
            let substitution = target_text(regex.substitution)?;
            PathRewrite::Regex(RegexRewrite::parse(&regex.pattern, &substitution)?)
        }
    })
}

fn cors_to_pb(cors: &Cors) -> pb::Cors {
    pb::Cors {
        allow_origins: string_matches_to_pb(&cors.allow_origins),
        allow_methods: texts(&cors.allow_methods),
        allow_headers: texts(&cors.allow_headers),
        expose_headers: texts(&cors.expose_headers),
        max_age: optional_to_pb(cors.max_age),
        allow_credentials: cors.allow_credentials,
        forward_unmatched_preflights: cors.forward_unmatched_preflights,
    }
}

fn cors_from_pb(context: &Context, message: pb::Cors) -> Result<Cors> {
    let values = |list: Vec<String>, name| each(list, name, header_text);
    Ok(Cors {
        allow_origins: string_matches_from_pb(context, &message.allow_origins, "allow_origins")?,
        allow_methods: values(message.allow_methods, "allow_methods")?,
        allow_headers: values(message.allow_headers, "allow_headers")?,
        expose_headers: values(message.expose_headers, "expose_headers")?,
        max_age: optional_from_pb(message.max_age)?,
        allow_credentials: message.allow_credentials,
        forward_unmatched_preflights: message.forward_unmatched_preflights,
    })
}

fn fault_to_pb(fault: &FaultInjection) -> pb::FaultInjection {
    use pb::fault_injection::{Abort as WireAbort, Delay, abort::Status};
    let status = |abort| match abort {
        Abort::Http(status) => Status::Http(u32::from(status)),
        Abort::Grpc(status) => Status::Grpc(u32::from(status)),
    };
    pb::FaultInjection {
        delay: fault.delay.map(|(fixed, share)| Delay {
            fixed: Some(duration_to_pb(fixed)),
            parts_per_million: share.parts(),
        }),
        abort: fault.abort.map(|(abort, share)| WireAbort {
            status: Some(status(abort)),
            parts_per_million: share.parts(),
        }),
    }
}

fn fault_from_pb(message: pb::FaultInjection) -> Result<FaultInjection> {
    use pb::fault_injection::{Abort as WireAbort, Delay, abort::Status};
    let delay = |delay: Delay| {
        let fixed = duration_from_pb(need(delay.fixed, "fixed")?)?;
        Ok::<_, Invalid>((fixed, share_from_pb(delay.parts_per_million)?))
    };
    let abort = |abort: WireAbort| {
        let status = match need(abort.status, "status")? {
            Status::Http(number) => Abort::Http(status(number)?),
            Status::Grpc(number) if number <= 16 => Abort::Grpc(u16::try_from(number).unwrap_or(2)),
            Status::Grpc(number) => return Err(Invalid::new(format!("{number} is not a gRPC status"))),
        };
        Ok::<_, Invalid>((status, share_from_pb(abort.parts_per_million)?))
    };
    Ok(FaultInjection {
        delay: message.delay.map(delay).transpose()?,
        abort: message.abort.map(abort).transpose()?,
    })
}
