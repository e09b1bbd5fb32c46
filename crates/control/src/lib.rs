//! The control plane: sources, world, views served; certificates; API.

#![forbid(unsafe_code)]

pub mod api;
mod app;
pub mod authority;
pub mod config;
mod control;
pub mod fleet;
pub mod hub;
mod serve;
pub mod source;
pub mod store;

pub use app::{App, Error};
pub use config::Config;
