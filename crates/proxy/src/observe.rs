//! What is told of the traffic.

pub mod access;
