//! Where changes come from.

pub mod files;
pub mod registration;
