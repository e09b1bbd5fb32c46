//! What is told of the traffic: one record per request and connection, counted and written down.

pub mod access;
pub mod line;
pub mod log;
pub mod metrics;
pub mod observer;
pub mod trouble;
pub mod view;
