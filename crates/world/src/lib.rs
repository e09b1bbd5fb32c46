//! What users wrote, to what the mesh means.
//!
//! A [`World`] takes [`Change`]s in (files with their text, instances that run) and says what they came to:
//! a [`Delta`](lateen_model::Delta) of the model for the proxies, and a [`Status`] for each author. Text
//! becomes a tree in which every node knows its place (`yaml`), the tree a typed spec under a schema that
//! names every field of the API (`schema`), and specs become resources (`translate`). Each translation
//! remembers what it asked of the other objects, and runs again only when an answer may be another.
//!
//! Nothing here does I/O or reads a clock: the same input gives the same output. What cannot be understood
//! never opens a door: a security object that is broken, or not enforced yet, denies.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod allocate;
mod manifest;
mod object;
mod offline;
mod problem;
mod read;
mod schema;
mod settings;
mod slot;
mod status;
mod translate;
mod view;
mod world;
mod yaml;

pub use allocate::Allocations;
pub use object::{Meta, ObjectKey, ObjectKind};
pub use offline::{Loaded, load};
pub use problem::{At, Problem, Severity, Span};
pub use settings::Settings;
pub use slot::StoredObject;
pub use status::{Condition, ConditionKind, Status};
pub use world::{Change, Outcome, World};
pub use yaml::MAX_FILE;
