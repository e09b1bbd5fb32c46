//! Answers that a rule gives itself: redirects and fixed answers.

use std::sync::Arc;

use lateen_engine::{Answered, Reply};

use super::{Exchange, Heads, Next};
use crate::http::head::{Framing, MethodKind, RequestHead, ResponseHead};
use crate::http::reply;

const LONGEST_MESSAGE: usize = 1024;

impl Exchange<'_> {
    /// Gives the answer. Envoy has one name for both kinds.
    pub(super) async fn answer_by_rule(&mut self, answered: Answered) -> Next {
        let Answered { reply, effective } = answered;
        self.trip.effective = Some(Arc::clone(&effective));
        if let Some(cors) = effective.cors()
            && let Some(next) = self.cors(cors).await
        {
            return next;
        }
        self.trip.details = Some("direct_response");
        let Heads { request, response } = &mut *self.heads;
        let body: &[u8] = match &reply {
            Reply::Direct(direct) => &direct.body,
            Reply::Redirect { .. } => &[],
        };
        let has_body = head(reply.status(), body, request, response);
        if let Reply::Redirect { location, .. } = &reply {
            response.fields.set(b"location", location.as_bytes());
        }
        if let Some(filters) = &effective.filters {
            self.edit_response(&effective, filters, None);
        }
        Box::pin(self.send_answer(if has_body { body } else { &[] })).await
    }
}

/// The head of an answer with this body; whether the body is sent. A caller of gRPC finds it in the message.
fn head(status: u16, body: &[u8], request: &RequestHead, response: &mut ResponseHead) -> bool {
    if reply::is_grpc(request) {
        // A header should not be as long as a body may be.
        let message = String::from_utf8_lossy(&body[..body.len().min(LONGEST_MESSAGE)]);
        return reply::head(reply::Reply { status, body: &message, grpc_status: None }, request, response);
    }
    response.clear();
    (response.persistent, response.status) = (true, status);
    if matches!(status, 100..200 | 204 | 304) {
        return false;
    }
    if !body.is_empty() {
        response.fields.add(b"content-type", b"text/plain");
    }
    response.framing = Framing::Length(body.len() as u64);
    if request.kind == MethodKind::Head {
        response.fields.add(b"content-length", body.len().to_string().as_bytes());
    }
    true
}
