//! HTTP: heads, bodies and exchanges.

pub mod h1;
pub mod head;
