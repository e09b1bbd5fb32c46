//! The control plane, as the life of a change tells it.
//!
//! Somebody saves a file. [`source::files`] hears of it from the kernel, waits until it is closed, and tells the
//! [`hub`] its new text; what runs tells itself through [`source::registration`]. The hub waits until the burst is
//! over, applies it to the world on its own thread, and publishes the next state of the mesh, but none before every
//! source has told all that it had at the start. From there `serve` shows each proxy what is its own, as a
//! conversation that goes on where it stopped, and signs the certificates that the [`authority`] is asked for. The
//! [`fleet`] knows who is connected and which state each has in force. What must not be forgotten is in the
//! [`store`]: a control plane that was killed comes back with the same root, addresses and registrations, and with a
//! higher revision.
//!
//! [`App`] builds all of it, then runs it, then drains. Its [`api`] is for the command line and for whoever starts
//! processes; it is plain data, so that both ends share it.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod api;
mod app;
pub mod authority;
pub mod config;
mod control;
pub mod fleet;
pub mod hub;
mod serve;
pub mod source;
pub mod store;

pub use app::{App, Error};
pub use config::Config;
