//! The data plane: one library, four roles. Knows no user-facing schema.
//!
//! The life of a connection. A [`worker::Worker`] accepts a socket at one of its [`enter::Door`]s. `enter` says who
//! comes and where to: facts. The engine decides by them and the snapshot of the moment: look at requests, look at the
//! first bytes, move bytes, or refuse. Requests become exchanges ([`http`]): one head of one shape whatever the
//! protocol, decided, filtered, sent along a hop, and answered, both bodies moving at the same time in the task that
//! accepted the connection. Bytes are relayed ([`tcp`]). A hop becomes a stream or a session in [`connect`]: plain, or
//! through HBONE, where the requests of HTTP/1.1 run inside pooled CONNECT streams of one TLS connection. What goes
//! wrong is a [`fault::Fault`], said where it is known: it decides the answer, the flag in the log, and whether another
//! endpoint is asked. At the end of every request and connection there is one [`observe::access::Record`].
//!
//! Nothing is shared between workers but the snapshot, the certificates and the drain; no task waits for another
//! within a request; no timer of the event loop is armed for one.
#![forbid(unsafe_code)]

pub mod fault;
pub mod http;
pub mod observe;

pub mod admin;
pub mod app;
pub mod config;
pub mod connect;
pub mod dns;
pub mod enter;
pub mod follow;
pub mod gateways;
pub mod health;
pub mod identity;
pub mod listen;
pub mod plane;
pub mod rate;
pub mod role;
pub mod tcp;
mod watch;
pub mod worker;

#[cfg(test)]
mod tests;
