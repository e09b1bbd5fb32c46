//! The control plane: sources, world, views served; certificates; API.

#![forbid(unsafe_code)]

pub mod api;
pub mod authority;
pub mod fleet;
pub mod hub;
pub mod source;
pub mod store;
