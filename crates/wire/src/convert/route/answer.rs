//! What a rule answers itself, and how it keeps a session with an endpoint.

use super::super::Invalid;
use super::super::common::{
    Context, Result, header_name, header_text, need, optional_from_pb, optional_to_pb, port, status,
    target_text,
};
use super::filter::{path_from_pb, path_to_pb};
use crate::pb::lateen::v1 as pb;
use lateen_model::{Answer, DirectResponse, Redirect, RedirectPort, SessionPersistence, SessionToken};

/// The longest body of a fixed answer, in bytes (Envoy's bound as well).
const MAX_BODY: usize = 1 << 20;

pub(super) fn to_pb(answer: &Answer) -> pb::Answer {
    use pb::answer::Answer as Wire;
    let answer = match answer {
        Answer::Redirect(redirect) => Wire::Redirect(redirect_to_pb(redirect)),
        Answer::Direct(direct) => {
            Wire::Direct(pb::DirectResponse { status: direct.status.into(), body: direct.body.to_vec() })
        }
    };
    pb::Answer { answer: Some(answer) }
}

pub(super) fn from_pb(context: &Context, message: pb::Answer) -> Result<Answer> {
    use pb::answer::Answer as Wire;
    Ok(match need(message.answer, "answer")? {
        Wire::Redirect(redirect) => Answer::Redirect(redirect_from_pb(context, redirect)?),
        Wire::Direct(direct) if direct.body.len() > MAX_BODY => {
            return Err(Invalid::new("the body of a direct response is longer than 1 MiB"));
        }
        Wire::Direct(direct) => {
            Answer::Direct(DirectResponse { status: status(direct.status)?, body: direct.body.into() })
        }
    })
}

fn redirect_to_pb(redirect: &Redirect) -> pb::Redirect {
    use pb::redirect_port::{OfRequest, OfScheme, Port, Unchanged};
    let port = match redirect.port {
        RedirectPort::Unchanged => Port::Unchanged(Unchanged {}),
        RedirectPort::Number(number) => Port::Number(number.into()),
        RedirectPort::OfScheme => Port::OfScheme(OfScheme {}),
        RedirectPort::OfRequest => Port::OfRequest(OfRequest {}),
    };
    pb::Redirect {
        status: redirect.status.into(),
        scheme: redirect.scheme.as_ref().map(ToString::to_string),
        host: redirect.host.as_ref().map(ToString::to_string),
        port: Some(pb::RedirectPort { port: Some(port) }),
        path: redirect.path.as_ref().map(path_to_pb),
    }
}

fn redirect_from_pb(context: &Context, message: pb::Redirect) -> Result<Redirect> {
    use pb::redirect_port::Port;
    let port = match need(message.port.and_then(|port| port.port), "port")? {
        Port::Unchanged(_) => RedirectPort::Unchanged,
        Port::Number(number) => RedirectPort::Number(port(number)?),
        Port::OfScheme(_) => RedirectPort::OfScheme,
        Port::OfRequest(_) => RedirectPort::OfRequest,
    };
    Ok(Redirect {
        status: match message.status {
            301 | 302 | 303 | 307 | 308 => status(message.status)?,
            other => return Err(Invalid::new(format!("{other} is no status of a redirect"))),
        },
        scheme: message.scheme.map(target_text).transpose()?,
        host: message.host.map(target_text).transpose()?,
        port,
        path: message.path.map(|path| path_from_pb(context, path)).transpose()?,
    })
}

pub(super) fn persistence_to_pb(persistence: &SessionPersistence) -> pb::SessionPersistence {
    use pb::session_persistence::By;
    let by = match &persistence.by {
        SessionToken::Cookie { name, path, permanent } => By::Cookie(pb::SessionCookie {
            name: name.to_string(),
            path: path.to_string(),
            permanent: *permanent,
        }),
        SessionToken::Header(name) => By::Header(name.to_string()),
    };
    pb::SessionPersistence {
        by: Some(by),
        absolute_timeout: optional_to_pb(persistence.absolute_timeout),
        idle_timeout: optional_to_pb(persistence.idle_timeout),
    }
}

pub(super) fn persistence_from_pb(message: pb::SessionPersistence) -> Result<SessionPersistence> {
    use pb::session_persistence::By;
    let by = match need(message.by, "by")? {
        By::Cookie(cookie) => SessionToken::Cookie {
            name: header_text(cookie.name)?,
            path: header_text(cookie.path)?,
            permanent: cookie.permanent,
        },
        By::Header(name) => SessionToken::Header(header_name(&name)?),
    };
    Ok(SessionPersistence {
        by,
        absolute_timeout: optional_from_pb(message.absolute_timeout)?,
        idle_timeout: optional_from_pb(message.idle_timeout)?,
    })
}
