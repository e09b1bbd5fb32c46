//! `Filter`: what a rule does to a request or a response.

use crate::Str;

/// What a rule does to a request or a response. A closed list; it grows with the traffic API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Filter {
    /// Change the head of the request.
    RequestHeaders(HeaderEdit),
    /// Change the head of the response.
    ResponseHeaders(HeaderEdit),
}

/// Changes to a head, applied in the order set, add, remove. Names are lower case.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HeaderEdit {
    /// Overwrite, or add where it is missing.
    pub set: Vec<(Str, Str)>,
    /// Append a further value.
    pub add: Vec<(Str, Str)>,
    /// Remove every value.
    pub remove: Vec<Str>,
}
