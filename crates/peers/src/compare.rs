//! What a proxy made of a case, and where two proxies differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use serde_json::Value;

use crate::case::{Case, Version};
use crate::client::{Answered, Response, Unanswered, h1, h2};

/// Headers that are not compared, and why.
pub const NOT_COMPARED: &[(&str, &str)] = &[
    ("x-request-id", "random on both sides"),
    ("x-envoy-expected-rq-timeout-ms", "Envoy tells its timeout to a next Envoy"),
    ("x-envoy-upstream-service-time", "a duration"),
    ("date", "a time"),
    ("server", "names who answered"),
];

/// What can differ.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Aspect {
    /// The status, or that there was no answer.
    Status,
    /// The application that was asked.
    Backend,
    /// The route by the access log.
    Route,
    /// A part of the forwarded request.
    Request(String),
    /// A part of the answer.
    Response(String),
    /// A part of an answer that both proxies gave themselves.
    Own(String),
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aspect::Status => f.write_str("status"),
            Aspect::Backend => f.write_str("backend"),
            Aspect::Route => f.write_str("route"),
            Aspect::Request(part) => write!(f, "request {part}"),
            Aspect::Response(part) => write!(f, "response {part}"),
            Aspect::Own(part) => write!(f, "own answer's {part}"),
        }
    }
}

/// One difference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// In what.
    pub aspect: Aspect,
    /// What Envoy did.
    pub envoy: String,
    /// What we did.
    pub ours: String,
}

/// What came of a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The answer.
    pub answered: Answered,
    /// The request as the application received it, if one did.
    pub received: Option<Value>,
}

impl Outcome {
    fn new(answered: Answered) -> Self {
        let body = answered.as_ref().map(|response| response.body.as_slice()).unwrap_or_default();
        let received = serde_json::from_slice::<Value>(body).ok().filter(|json| json["backend"].is_string());
        Self { answered, received }
    }

    /// The status in words.
    #[must_use]
    pub fn status(&self) -> String {
        match &self.answered {
            Ok(response) => response.status.to_string(),
            Err(Unanswered::Closed) => "closed".to_owned(),
            Err(Unanswered::Silent) => "silent".to_owned(),
            Err(Unanswered::Garbled) => "garbled".to_owned(),
        }
    }

    /// The application that was asked.
    #[must_use]
    pub fn backend(&self) -> &str {
        self.received.as_ref().and_then(|received| received["backend"].as_str()).unwrap_or("none")
    }
}

/// Sends cases over connections that are kept while they can be.
pub struct Asker {
    at: SocketAddr,
    h1: Option<h1::Connection>,
    h2: h2::Connection,
}

impl Asker {
    /// Asks at an address.
    ///
    /// # Errors
    /// When the machine refuses.
    pub fn new(at: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { at, h1: None, h2: h2::Connection::new(at)? })
    }

    /// Sends one and reads its answer.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn ask(&mut self, case: &Case) -> anyhow::Result<Outcome> {
        if case.version == Version::Http2 {
            return Ok(Outcome::new(self.h2.ask(case)));
        }
        let kept = self.h1.take();
        let reused = kept.is_some();
        let (answered, connection) = self.send(kept, case)?;
        // A connection that was kept may have been closed meanwhile, which says nothing of this case.
        let again = reused && answered == Err(Unanswered::Closed);
        let (answered, connection) = if again { self.send(None, case)? } else { (answered, connection) };
        self.h1 = connection.filter(|_| answered.as_ref().is_ok_and(|response| response.persistent));
        Ok(Outcome::new(answered))
    }

    fn send(
        &self,
        kept: Option<h1::Connection>,
        case: &Case,
    ) -> anyhow::Result<(Answered, Option<h1::Connection>)> {
        let mut connection = match kept {
            Some(connection) => connection,
            None => h1::Connection::open(self.at)?,
        };
        connection.send(&case.bytes());
        let answered = connection.read(case.method == "HEAD");
        Ok((answered, Some(connection)))
    }
}

/// Everything in which two outcomes differ.
#[must_use]
pub fn differences(envoy: &Outcome, ours: &Outcome) -> Vec<Difference> {
    let mut found = Found(Vec::new());
    found.compare(Aspect::Status, envoy.status(), ours.status());
    found.compare(Aspect::Backend, envoy.backend(), ours.backend());
    if let (Some(envoy), Some(ours)) = (&envoy.received, &ours.received) {
        for part in ["protocol", "method", "target", "authority", "body", "trailers"] {
            found.compare(Aspect::Request(part.to_owned()), &envoy[part], &ours[part]);
        }
        let (envoy, ours) = (received_fields(envoy), received_fields(ours));
        found.fields(|name| Aspect::Request(name.to_owned()), &envoy, &ours);
    }
    if let (Ok(from_envoy), Ok(from_us)) = (&envoy.answered, &ours.answered) {
        let own = is_own(from_envoy) && is_own(from_us);
        let aspect = |part: &str| {
            let part = part.to_owned();
            if own { Aspect::Own(part) } else { Aspect::Response(part) }
        };
        let (envoy_fields, our_fields) = (answer_fields(envoy, from_envoy), answer_fields(ours, from_us));
        found.fields(aspect, &envoy_fields, &our_fields);
        let (a, b) = (&from_envoy.trailers, &from_us.trailers);
        found.compare(aspect("trailers"), format!("{a:?}"), format!("{b:?}"));
        if envoy.received.is_none() && ours.received.is_none() {
            let text = |body: &[u8]| body.escape_ascii().to_string();
            found.compare(aspect("body"), text(&from_envoy.body), text(&from_us.body));
        }
    }
    found.0
}

/// A name to its values, in order.
type Fields = BTreeMap<String, Vec<String>>;

fn fields(pairs: &[(String, String)]) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in pairs {
        fields.entry(name.clone()).or_default().push(value.clone());
    }
    fields
}

/// Whether no application gave it: they say what theirs is.
fn is_own(response: &Response) -> bool {
    response.field("content-type") != Some("application/json")
}

/// The fields of an answer. A length is not compared where the body is compared by itself, or where there is none to
/// measure: the description of the request is longer when the request is.
fn answer_fields(outcome: &Outcome, response: &Response) -> Fields {
    let mut fields = fields(&response.fields);
    let right = |length: &str| response.body.is_empty() || length == response.body.len().to_string();
    if let Some(lengths) = fields.get_mut("content-length")
        && (outcome.received.is_some() || response.body.is_empty())
        && lengths.iter().all(|length| right(length))
    {
        *lengths = vec!["right".to_owned()];
    }
    fields
}

fn received_fields(received: &Value) -> Fields {
    let pairs = received["fields"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    fields(&pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect::<Vec<_>>())
}

struct Found(Vec<Difference>);

impl Found {
    fn compare<T: PartialEq + fmt::Display>(&mut self, aspect: Aspect, envoy: T, ours: T) {
        if envoy != ours {
            self.0.push(Difference { aspect, envoy: envoy.to_string(), ours: ours.to_string() });
        }
    }

    fn fields(&mut self, aspect: impl Fn(&str) -> Aspect, envoy: &Fields, ours: &Fields) {
        let names: BTreeSet<&String> = envoy.keys().chain(ours.keys()).collect();
        for name in names.into_iter().filter(|name| !NOT_COMPARED.iter().any(|(not, _)| not == name)) {
            let show =
                |fields: &Fields| fields.get(name).map_or("none".to_owned(), |values| format!("{values:?}"));
            self.compare(aspect(name), show(envoy), show(ours));
        }
    }
}
