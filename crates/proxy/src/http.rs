//! HTTP: heads, bodies and exchanges.

pub mod body;
pub mod h1;
pub mod h2;
pub mod head;
pub mod session;
