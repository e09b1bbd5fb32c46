//! What is done to requests and responses on their way: a closed list, in one order.

use lateen_engine::Filters;

use super::head::{RequestHead, ResponseHead};

pub mod headers;

/// Everything that the rule does to the head of a request.
pub fn request(filters: &Filters, head: &mut RequestHead) {
    for edit in &filters.request {
        headers::edit(edit, &mut head.fields);
    }
    if let Some(authority) = filters.authority.as_ref().and_then(lateen_model::Format::text) {
        head.set_authority(authority);
    }
}

/// Everything that the rule does to the head of a response.
pub fn response(filters: &Filters, head: &mut ResponseHead) {
    for edit in &filters.response {
        headers::edit(edit, &mut head.fields);
    }
}
