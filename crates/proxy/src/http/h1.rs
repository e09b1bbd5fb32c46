//! HTTP/1.1: a codec of our own, strict and without I/O, and the connection that uses it.

mod buffers;
pub mod chunk;
pub mod connection;
pub mod parse;
pub mod write;
