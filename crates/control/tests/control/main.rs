//! Whole control planes over directories and sockets of their own, as files, tools and proxies see them.

mod api;
mod common;
mod measure;
mod proxies;
mod proxy;
