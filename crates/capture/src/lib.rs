//! How traffic reaches the proxy on Linux: network namespaces and redirect rules.
