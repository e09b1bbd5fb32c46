//! Text to documents to trees in which every node knows its place.
//!
//! The parser below gives events; the tree is built here without recursion, under budgets for size,
//! depth, number of nodes and expanded aliases, so hostile text ends in an error. A document that breaks
//! in the middle still gives the part before the break, from which its name and selector may be read.

mod build;
mod node;
mod split;

pub(crate) use build::{Built, build};
pub(crate) use node::{Node, Value};
pub(crate) use split::{Document, documents};

/// The longest file that is read: 16 MiB.
pub const MAX_FILE: usize = 16 << 20;
/// The most documents of one file.
pub(crate) const MAX_DOCUMENTS: usize = 20_000;
/// The deepest nesting.
pub(crate) const MAX_DEPTH: usize = 64;
/// The most nodes of one file, aliases expanded.
pub(crate) const MAX_NODES: usize = 1_000_000;
