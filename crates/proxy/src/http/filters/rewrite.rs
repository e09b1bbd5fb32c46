//! Rewrites of path and authority. What they were is told in the fields by which Envoy tells it.

use lateen_engine::{Filters, MatchedPath, rewrite_path};

use crate::http::h1::parse::is_authority;
use crate::http::head::RequestHead;

/// Changes the path.
pub fn path(filters: &Filters, matched: MatchedPath, head: &mut RequestHead) {
    if let Some(path) = &filters.path {
        let target = rewrite_path(path, matched, head.target());
        head.rewrite_target(&target);
    }
}

/// Changes the authority to one that is valid; a value that is none changes nothing.
pub fn authority(authority: &[u8], head: &mut RequestHead) {
    if !authority.is_empty()
        && is_authority(authority)
        && let Ok(authority) = std::str::from_utf8(authority)
    {
        head.rewrite_authority(authority);
    }
}
