//! Connections whose bytes are moved as they are.

pub mod relay;
