//! Where changes come from: first everything, then differences.

pub mod files;
pub mod manifest;
pub mod registration;
