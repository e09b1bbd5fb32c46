//! `Status`: what the author of an object is told.

use crate::{ObjectKey, Problem};
use lateen_model::Str;
use std::fmt;

/// What the author of an object is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// The object.
    pub object: ObjectKey,
    /// Where it stands.
    pub file: Str,
    /// Its line there.
    pub line: u32,
    /// What holds of it, in the order of the kinds.
    pub conditions: Vec<Condition>,
    /// What is wrong with it, by place.
    pub problems: Vec<Problem>,
}

impl Status {
    /// Whether this condition is there and holds.
    pub fn holds(&self, kind: ConditionKind) -> bool {
        self.conditions.iter().any(|condition| condition.kind == kind && condition.holds)
    }
}

/// One statement about an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// What it is about.
    pub kind: ConditionKind,
    /// Whether it holds.
    pub holds: bool,
    /// One word in CamelCase for machines.
    pub reason: &'static str,
    /// A sentence for people; may be empty.
    pub message: String,
}

/// What a condition is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConditionKind {
    /// The object as it is written is in force.
    Accepted,
    /// All it refers to was found and may be referred to.
    ResolvedRefs,
    /// Another object wants the same, and came first.
    Conflicted,
    /// An older version is in force, since the text is broken.
    Stale,
    /// Some of its fields are not enforced yet.
    Unsupported,
    /// Nothing of it is enforced yet.
    NotEnforced,
}

impl fmt::Display for ConditionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
