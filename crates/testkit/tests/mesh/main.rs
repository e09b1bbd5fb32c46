//! Whole meshes in one process: real control plane, real wire, real proxies, real certificates.

mod control;
mod gateway;
mod life;
mod objects;
mod policy;
mod routing;
