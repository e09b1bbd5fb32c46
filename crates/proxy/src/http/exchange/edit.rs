//! What a rule does to the heads of an exchange.

use lateen_engine::{Effective, Filters, MatchedPath};
use lateen_model::{Cors, Format, HeaderEdit};

use super::{Exchange, Heads, Next};
use crate::fault::Fault;
use crate::http::filters::format::{Scene, fill};
use crate::http::filters::headers::{self, Filled};
use crate::http::filters::{cors, rewrite};

/// When values are filled in.
#[derive(Clone, Copy)]
enum Moment<'a> {
    /// The request is about to be sent on.
    Asked,
    /// The answer is about to be given, because of this fault if there is one.
    Answered(Option<&'a Fault>),
}

impl Exchange<'_> {
    /// Everything that the rule does to the head of the request. Edits see path and authority as they were asked for.
    pub(super) fn edit_request(&mut self, effective: &Effective, filters: &Filters, matched: MatchedPath) {
        for edit in &filters.request {
            let filled = self.fill_edit(edit, effective, Moment::Asked);
            headers::edit(edit, &filled, &mut self.heads.request.fields);
        }
        let authority = filters.authority.as_ref().map(|authority| self.fill_one(authority, effective));
        let request = &mut self.heads.request;
        rewrite::path(filters, matched, request);
        if let Some(authority) = authority {
            rewrite::authority(&authority, request);
        }
        self.trip.edited = true;
    }

    /// Everything that the rule does to the head of the response. Leave for scripts has the last word, as in Envoy,
    /// where it is a filter around the route.
    pub(super) fn edit_response(&mut self, effective: &Effective, filters: &Filters, fault: Option<&Fault>) {
        for edit in &filters.response {
            let filled = self.fill_edit(edit, effective, Moment::Answered(fault));
            headers::edit(edit, &filled, &mut self.heads.response.fields);
        }
        if let (Some(cors), Some(origin)) = (&filters.cors, &self.trip.origin) {
            cors::grant(cors, origin, &mut self.heads.response.fields);
        }
    }

    /// The same for an answer of our own, as far as the request has come.
    pub(super) fn edit_own_answer(&mut self, fault: Option<&Fault>) {
        let Some(effective) = self.trip.effective.clone() else { return };
        let Some(filters) = &effective.filters else { return };
        if self.trip.edited {
            self.edit_response(&effective, filters, fault);
        } else if let (Some(cors), Some(origin)) = (&filters.cors, &self.trip.origin) {
            cors::grant(cors, origin, &mut self.heads.response.fields);
        }
    }

    /// Leave for scripts: a preflight is answered here, any other request is remembered to be answered with it.
    pub(super) async fn cors(&mut self, cors: &Cors) -> Option<Next> {
        let Heads { request, response } = &mut *self.heads;
        let origin = cors::origin(request)?;
        let granted = cors::allows(cors, origin).then_some(origin);
        if cors::is_preflight(request) && (granted.is_some() || !cors.forward_unmatched_preflights) {
            cors::answer(cors, granted, request, response);
            self.trip.details = Some("cors_response");
            return Some(Box::pin(self.send_answer(&[])).await);
        }
        self.trip.origin = granted.map(Into::into);
        None
    }

    /// The values of an edit that are filled in anew for each request; all of them see the head as it was before it.
    fn fill_edit(&self, edit: &HeaderEdit, effective: &Effective, moment: Moment<'_>) -> Filled {
        let mut filled = Filled::default();
        let mut variable =
            edit.set.iter().chain(&edit.add).filter(|(_, value)| value.text().is_none()).peekable();
        if variable.peek().is_some() {
            self.with_scene(effective, moment, |scene| {
                variable.for_each(|(_, value)| filled.push(|out| fill(value, scene, out)));
            });
        }
        filled
    }

    fn fill_one(&self, format: &Format, effective: &Effective) -> Vec<u8> {
        let mut out = Vec::new();
        match format.text() {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => self.with_scene(effective, Moment::Asked, |scene| fill(format, scene, &mut out)),
        }
        out
    }

    fn with_scene(&self, effective: &Effective, moment: Moment<'_>, then: impl FnOnce(&Scene<'_>)) {
        let snapshot = self.worker.snapshot();
        let trip = &*self.trip;
        let answered = match moment {
            Moment::Asked => None,
            Moment::Answered(fault) => Some(trip.outcome(fault)),
        };
        then(&Scene {
            viewer: snapshot.viewer(),
            facts: &self.entry.facts,
            tls_version: self.entry.tls_version(),
            request: &self.heads.request,
            response: answered.is_some().then_some(&self.heads.response),
            effective,
            endpoint: trip.picked.as_ref().map(|picked| picked.endpoint),
            attempts: trip.attempts,
            duration: trip.elapsed(),
            received: trip.received,
            flags: answered.as_ref().map_or("-", |(flags, _)| flags),
            details: answered.as_ref().map_or("", |(_, details)| details),
        });
    }
}
