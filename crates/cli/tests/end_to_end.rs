//! The test service and the load generator over real sockets on free ports of the loopback, and the
//! binary as its users call it.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "end_to_end/binary.rs"]
mod binary;
#[path = "end_to_end/check.rs"]
mod check;
#[path = "end_to_end/completions.rs"]
mod completions;
#[path = "end_to_end/dump.rs"]
mod dump;
#[path = "end_to_end/echo.rs"]
mod echo;
#[path = "end_to_end/explain.rs"]
mod explain;
#[path = "end_to_end/load.rs"]
mod load;
#[path = "end_to_end/mesh.rs"]
mod mesh;
#[path = "end_to_end/run.rs"]
mod run;
#[path = "end_to_end/service.rs"]
mod service;
#[path = "end_to_end/status.rs"]
mod status;
