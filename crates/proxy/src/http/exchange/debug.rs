//! What happened, in the body of an answer of our own, where the workload asks for it.
//!
//! A stranger learns no more from an answer than it must. While a mesh is being built the callers are its builders: the
//! label `lateen.dev/debug: "true"` on a workload (or on what runs a gateway) makes its proxy say what the access log says.

use std::fmt::Write;

use super::Exchange;
use crate::fault::Fault;

/// The label that asks for it.
const LABEL: &str = "lateen.dev/debug";

impl Exchange<'_> {
    /// The body with what happened behind it; none where nobody asks for it.
    pub(super) fn explained(&self, body: &str, fault: Option<&Fault>) -> Option<String> {
        let snapshot = self.worker.snapshot();
        let wanted = snapshot.viewer().labels.get(LABEL).is_some_and(|value| value.as_str() == "true");
        wanted.then(|| self.story(body, snapshot.viewer().name.as_str(), fault))
    }

    fn story(&self, body: &str, proxy: &str, fault: Option<&Fault>) -> String {
        let mut text = format!("{body}\n\nproxy     {proxy}\n");
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{name:<9} {value}");
        };
        if let Some(denial) = &self.trip.denial {
            line("why", &format_args!("{} {denial}", denial.flag()));
            if let Some(policy) = denial.policy() {
                line("policy", policy);
            }
        }
        if let Some(fault) = fault {
            line("why", &format_args!("{} {}: {fault}", fault.flag(), fault.details()));
        }
        let effective = self.trip.effective.as_deref();
        let denial = self.trip.denial.as_ref();
        let route = effective.and_then(|effective| effective.route.as_ref());
        if let Some(route) = route.or_else(|| denial.and_then(|denial| denial.route.as_ref())) {
            line("route", route);
        }
        let service = effective.and_then(|effective| effective.service.as_ref());
        if let Some(service) = service.or_else(|| denial.and_then(|denial| denial.service.as_ref())) {
            line("service", service);
        }
        if let Some(picked) = &self.trip.picked {
            line("endpoint", &format_args!("{} after {} tries", picked.endpoint, self.trip.attempts));
        }
        let peer = self.entry.facts.peer.as_deref();
        line("caller", &peer.map_or_else(|| "plaintext".to_owned(), ToString::to_string));
        text
    }
}
