//! What is done to requests and responses on their way: a closed list, in one order.

use lateen_model::Filter;

use super::head::{RequestHead, ResponseHead};

pub mod headers;

/// Everything that the rule does to the head of a request.
pub fn request(filters: &[Filter], head: &mut RequestHead) {
    for filter in filters {
        if let Filter::RequestHeaders(edit) = filter {
            headers::edit_request(edit, head);
        }
    }
}

/// Everything that the rule does to the head of a response.
pub fn response(filters: &[Filter], head: &mut ResponseHead) {
    for filter in filters {
        if let Filter::ResponseHeaders(edit) = filter {
            headers::edit(edit, &mut head.fields);
        }
    }
}
