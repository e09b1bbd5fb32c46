//! Whole exchanges: real workers and sockets, snapshots of the real compiler, certificates of a real authority.
//!
//! Each test has loopback addresses of its own (127.x.y.z), so that the port of tunnels can be the one of the mesh.

mod actions;
mod choice;
mod circuit;
mod copies;
mod cross;
mod deaths;
mod debug;
mod detect;
mod doors;
mod frames;
mod grpc;
mod hostile;
mod http1;
mod http2;
mod limits;
pub(crate) mod mesh;
mod pair;
mod retries;
mod scripted;
mod semantics;
mod smuggling;
mod streams;
mod upgrades;
