//! What is done to requests and responses on their way: a closed list, in one order.

pub mod cors;
pub mod format;
pub mod headers;
pub mod rewrite;
