//! Who signs.

pub mod tokens;
