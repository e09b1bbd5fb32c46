//! How traffic reaches the proxy on Linux: network namespaces and redirect rules.
//!
//! A pod is a network namespace ([`netns`]) with a loopback and one link ([`link`]). What its application
//! sends and receives is redirected to the sidecar beside it by a few rules, which are plain data ([`rules`])
//! until [`nft`] hands them to the kernel. UDP that a mesh cannot carry is refused by the same rules and told
//! through [`refused`]. Everything speaks netlink directly: neither `ip` nor `nft` is needed. All calls are
//! synchronous, act on the network namespace of the calling thread, and name the system call that failed.

#![forbid(unsafe_code)]

mod error;
pub mod link;
mod netlink;
pub mod netns;
pub mod nft;
pub mod refused;
pub mod rules;

pub use error::{During, Error};
pub use netns::Netns;
pub use rules::{MARK, Rules};
