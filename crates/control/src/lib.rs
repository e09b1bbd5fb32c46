//! The control plane: sources, world, views served; certificates; API.

#![forbid(unsafe_code)]

pub mod source;
