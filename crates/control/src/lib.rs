//! The control plane: sources, world, views served; certificates; API.
