//! What is done to requests and responses on their way: a closed list, in one order.

use lateen_engine::{Filters, MatchedPath};

use super::head::{RequestHead, ResponseHead};

pub mod headers;
pub mod rewrite;

/// Everything that the rule does to the head of a request. Edits see path and authority as they were asked for.
pub fn request(filters: &Filters, matched: MatchedPath, head: &mut RequestHead) {
    for edit in &filters.request {
        headers::edit(edit, &mut head.fields);
    }
    rewrite::rewrite(filters, matched, head);
    if let Some(authority) = filters.authority.as_ref().and_then(lateen_model::Format::text) {
        rewrite::authority(authority.as_bytes(), head);
    }
}

/// Everything that the rule does to the head of a response.
pub fn response(filters: &Filters, head: &mut ResponseHead) {
    for edit in &filters.response {
        headers::edit(edit, &mut head.fields);
    }
}
