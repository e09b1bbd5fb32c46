//! How a process of ours lives: workers, snapshots, drain, readiness, sockets, logs, metrics. Knows nothing
//! of meshes.
//!
//! A process starts its [`workers`]: one thread and one event loop per core, which share nothing but immutable
//! values that they follow through [`live::Live`]. Each worker counts into cells of its own ([`metrics`]) and
//! keeps its request limits in its own coarse sweep ([`deadline`]). Time comes through [`clock`], dice through
//! [`random`]. The process says when it is [`ready`], learns from [`signal`] that it must go, and leaves through
//! [`drain`]. What it tells others goes through [`log`] and [`admin`]; the world outside its network namespace is
//! reached through [`broker`]. `unsafe` is allowed in [`sock`] alone.

#![deny(unsafe_code)]

pub mod admin;
pub mod backoff;
pub mod broker;
pub mod clock;
pub mod deadline;
pub mod drain;
pub mod limits;
pub mod live;
pub mod log;
pub mod metrics;
pub mod random;
pub mod ready;
pub mod signal;
pub mod sock;
pub mod stream;
pub mod workers;
