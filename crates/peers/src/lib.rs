//! Evidence that nobody here wrote: our proxy beside Envoy, real clients and real servers.
//!
//! A [`mesh`] is written as users write it and goes the real way (world, wire, engine) into a [`proxy`] of its own
//! process; [`envoy`] is given what Istio would make of the same objects. The same [`corpus`] goes through both to a
//! [`backend`] that answers with exactly what it received, and [`compare`] says where they differ. What differs on
//! purpose stands in [`differences`], with a reason each; anything else fails.
//!
//! [`smuggling`] holds requests that are known to be read in two ways, and [`strict`] the one reading that is allowed.
//! Peers are installed by `.ci/peers`; without them the cases are ignored and say so.
#![forbid(unsafe_code)]

pub mod backend;
pub mod case;
pub mod client;
pub mod compare;
pub mod control;
pub mod corpus;
pub mod differences;
pub mod envoy;
pub mod load;
pub mod mesh;
pub mod nginx;
pub mod peers;
pub mod process;
pub mod proxy;
pub mod random;
pub mod rules;
pub mod smuggling;
pub mod strict;
