//! The control plane: sources, world, views served; certificates; API.

#![forbid(unsafe_code)]

pub mod authority;
pub mod hub;
pub mod source;
pub mod store;
