//! Tests only: a whole mesh in one process, and the tools to watch it.

#![forbid(unsafe_code)]
