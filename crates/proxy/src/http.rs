//! HTTP: heads, bodies and exchanges.

pub mod body;
pub(crate) mod exchange;
pub mod filters;
pub mod grpc;
pub mod grpc_web;
pub mod h1;
pub mod h2;
pub mod head;
pub mod reply;
pub mod retry;
pub(crate) mod serve;
pub mod session;
pub(crate) mod upgrade;
