//! The data plane: one library, four roles. Knows no user-facing schema.
#![forbid(unsafe_code)]

pub mod fault;
pub mod http;
pub mod observe;

pub mod config;
pub mod connect;
pub mod dns;
pub mod enter;
pub mod health;
pub mod tcp;
mod watch;
pub mod worker;

#[cfg(test)]
mod tests;
