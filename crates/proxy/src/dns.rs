//! Names: answered from the snapshot, or passed on.
//!
//! The application asks its resolver; the redirect brings the question here, on UDP and TCP. A name of the
//! mesh is answered with its addresses at once; any other goes to the resolver of the machine, if there is one.

mod answer;
mod serve;

pub use answer::{Names, Reply, answer};
pub use serve::{Resolver, serve_tcp, serve_udp};
