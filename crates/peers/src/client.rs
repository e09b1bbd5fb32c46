//! Callers that send exactly what a case says.

pub mod h1;
pub mod h2;

use std::time::Duration;

/// Where callers come from: Envoy takes 127.0.0.1 for itself, and would tell another address.
pub const CALLER: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 9)), 0);

/// Longer than anything takes that works.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What a caller was answered.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: Vec<(String, String)>,
    /// Whether another request may follow on the connection.
    pub persistent: bool,
}

impl Response {
    /// The first value of a field, by its name in lower case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unanswered {
    /// The connection or the stream was ended.
    Closed,
    /// Nothing came.
    Silent,
    /// What came is no answer.
    Garbled,
}

/// What came of a request.
pub type Answered = Result<Response, Unanswered>;
