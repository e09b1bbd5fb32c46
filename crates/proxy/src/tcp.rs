//! Connections whose bytes are moved as they are.

pub(crate) mod forward;
pub mod relay;
