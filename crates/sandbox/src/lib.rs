//! One machine as a cluster: each process in a network namespace of its own, with an address, a name and an
//! identity.
//!
//! [`probe()`] finds the best [`Environment`] that the machine allows by building a throw-away pod in each.
//! [`Sandbox::start`] then starts the [`holder`], one process that owns the namespaces and a bridge; on its
//! word pods are made, processes are started inside them, and sockets opened there. All of it lives exactly as
//! long as the supervisor: when that ends, in whatever way, the kernel takes the rest.
//! Where namespaces are refused the same calls start plain processes, and [`plain`] gives them addresses on
//! the loopback instead. The [`address`] book remembers who has which address, a [`broker`] per pod opens what
//! the pod cannot reach, and [`restart`] and [`output`] do for processes what their names say.

#![deny(unsafe_code)]

pub mod address;
pub mod broker;
pub mod holder;
pub mod output;
pub mod plain;
pub mod restart;

mod channel;
mod client;
mod environment;
mod message;
mod namespace;
mod pod;
mod probe;
mod process;

pub use client::{Error, RefusedNews, Sandbox};
pub use environment::Environment;
pub use message::{Exit, Kind, PodSpec, ProcessId, ProcessSpec, Resolver, SocketKind};
pub use pod::{Descriptors, Pod};
pub use probe::{Attempt, Probe, probe, try_environment};
pub use process::Process;
