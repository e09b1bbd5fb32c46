//! What authors are told.

use super::{Outcome, World};
use crate::manifest::Manifest;
use crate::object::{ObjectKey, ObjectKind};
use crate::problem::{Draft, Problem, Severity};
use crate::schema::Spec;
use crate::slot::StoredObject;
use crate::status::{Condition, ConditionKind, Status};
use crate::view::{Derived, Fact, is_older};
use std::collections::BTreeSet;

/// Notes a last good version that is new, or gone.
pub(super) fn stored(
    key: &ObjectKey,
    before: Option<&Manifest>,
    after: Option<&Manifest>,
    outcome: &mut Outcome,
) {
    match (before, after) {
        (before, Some(after)) if before != Some(after) => outcome.stored.push(StoredObject {
            key: key.clone(),
            file: after.file.clone(),
            line: after.line,
            text: after.text(),
        }),
        (Some(_), None) => outcome.unstored.push(key.clone()),
        _ => {}
    }
}

impl World {
    /// The statuses of these objects, as far as they changed.
    pub(super) fn report(&mut self, mut dirty: BTreeSet<ObjectKey>, outcome: &mut Outcome) {
        if dirty.iter().any(|key| key.kind == ObjectKind::Mesh) {
            dirty.extend(self.statuses.keys().filter(|key| key.kind == ObjectKind::Mesh).cloned());
        }
        for key in dirty {
            match self.status_of(&key) {
                Some(status) if self.statuses.get(&key) == Some(&status) => {}
                Some(status) => {
                    self.statuses.insert(key, status.clone());
                    outcome.statuses.push(status);
                }
                None => {
                    if self.statuses.remove(&key).is_some() {
                        outcome.gone.push(key);
                    }
                }
            }
        }
    }

    fn status_of(&self, key: &ObjectKey) -> Option<Status> {
        let slot = self.slots.get(key)?;
        let in_force = self.state.objects.get(key);
        let written = slot.current().or(in_force)?;
        let nothing = Derived::default();
        let derived = self.graph.derived.get(key).filter(|_| in_force.is_some()).unwrap_or(&nothing);
        let mut problems: Vec<Problem> = written.problems.clone();
        if let Some(in_force) = in_force {
            problems.extend(derived.drafts.iter().map(|draft| in_force.problem(draft.clone())));
            problems.extend(self.selects_nothing(in_force).map(|draft| in_force.problem(draft)));
        }
        for ((file, _), other) in slot.written.iter().skip(1) {
            let message =
                format!("{key} is written in {}:{} already, and that one counts", written.file, written.line);
            debug_assert_eq!(*file, other.file);
            problems.push(other.problem(Draft::error(other.meta.name_span, message)));
        }
        let conflict = self.older_mesh(written).map(|message| ("OlderWins", message));
        let conflict = conflict.or_else(|| derived.conflict.clone());
        if key.kind == ObjectKind::Mesh {
            problems.extend(
                self.older_mesh(written)
                    .map(|message| written.problem(Draft::warning(written.meta.name_span, message))),
            );
        }
        problems.sort_by(|a, b| {
            (&a.file, a.line, a.column, &a.message).cmp(&(&b.file, b.line, b.column, &b.message))
        });
        problems.dedup();
        let stale = self.stale.contains(key);
        let conditions = conditions(written, slot.written.is_empty(), stale, derived, conflict, &problems);
        Some(Status {
            object: key.clone(),
            file: written.file.clone(),
            line: written.line,
            conditions,
            problems,
        })
    }

    /// A selector that no workload has.
    fn selects_nothing(&self, manifest: &Manifest) -> Option<Draft> {
        let at = match manifest.spec.as_ref()? {
            Spec::Service(spec) => spec.selector.as_ref()?,
            Spec::ServiceEntry(spec) => spec.selector.as_ref()?,
            spec => spec.policy_selector()?,
        };
        if at.is_empty() || self.graph.selected.contains_key(&manifest.key) {
            return None;
        }
        let labels: Vec<_> = at.labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
        let place = match self.state.mesh.root_namespace == manifest.key.namespace
            && (manifest.key.kind.is_security() || manifest.key.kind.is_limit())
        {
            true => "the mesh".to_owned(),
            false => manifest.key.namespace.to_string(),
        };
        Some(Draft::warning(
            at.span,
            format!("no workload or process in {place} has the labels {}", labels.join(", ")),
        ))
    }

    /// Of several Mesh objects the oldest counts.
    fn older_mesh(&self, manifest: &Manifest) -> Option<String> {
        if manifest.key.kind != ObjectKind::Mesh {
            return None;
        }
        let others = self.state.stating.get(&Fact::Kind(ObjectKind::Mesh)).into_iter().flatten();
        let mut older =
            others.filter_map(|key| self.state.objects.get(key)).filter(|other| is_older(other, manifest));
        older.next().map(|other| format!("{} is older, and a mesh has one Mesh", other.key))
    }
}

fn conditions(
    written: &Manifest,
    missing: bool,
    stale: bool,
    derived: &Derived,
    conflict: Option<(&'static str, String)>,
    problems: &[Problem],
) -> Vec<Condition> {
    use ConditionKind as K;
    let mut conditions = Vec::new();
    let mut push = |kind, holds, reason, message: String| {
        conditions.push(Condition { kind, holds, reason, message });
    };
    let errors: Vec<_> =
        written.problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
    match (&derived.rejected, errors.first()) {
        _ if missing => {
            push(K::Accepted, false, "Unreadable", "its file has text that cannot be read".to_owned());
        }
        (Some((reason, message)), _) => push(K::Accepted, false, reason, message.clone()),
        (None, None) if derived.not_enforced.is_some() => {
            push(K::Accepted, false, "NotEnforced", String::new());
        }
        (None, Some(error)) => push(K::Accepted, false, "Invalid", error.message.clone()),
        (None, None) => push(K::Accepted, true, "Accepted", String::new()),
    }
    if let Some((reason, message)) = &derived.unresolved {
        push(K::ResolvedRefs, false, reason, message.clone());
    } else if written.key.kind.has_references() && !written.broken {
        push(K::ResolvedRefs, true, "ResolvedRefs", String::new());
    }
    if let Some((reason, message)) = conflict {
        push(K::Conflicted, true, reason, message);
    }
    if stale {
        push(K::Stale, true, "LastGood", "the last good version is in force".to_owned());
    }
    let fields: BTreeSet<String> = problems
        .iter()
        .filter(|problem| problem.severity == Severity::Unsupported)
        .map(|problem| problem.field.as_deref().unwrap_or(&problem.text).to_owned())
        .collect();
    if let Some(message) = &derived.not_enforced {
        push(K::NotEnforced, true, "NotEnforced", message.clone());
    } else if !fields.is_empty() {
        push(K::Unsupported, true, "Unsupported", fields.into_iter().collect::<Vec<_>>().join(", "));
    }
    conditions.sort_by_key(|condition| condition.kind);
    conditions
}
