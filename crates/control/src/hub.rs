//! The one writer.

pub mod batch;
