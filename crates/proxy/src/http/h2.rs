//! HTTP/2 over the `h2` crate: its connections are driven by local tasks of the worker, its streams become the same
//! heads and bodies as those of HTTP/1.1.

pub mod flow;
pub mod heads;
pub(crate) mod server;
pub mod tunnel;
pub(crate) mod upgrade;
