//! The `lateen` command: everything behind one binary.

fn main() {}
