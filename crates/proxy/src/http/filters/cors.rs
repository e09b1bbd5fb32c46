//! Browsers that ask who may call (Fetch standard, CORS protocol), answered as Envoy does: the origin that asked is
//! named, never `*`, and `*` among methods and headers means what was asked for, so that leave holds with credentials
//! and without. No `vary` is added: what an application answers to different origins it has to say itself.

use lateen_model::{Cors, Str};

use crate::http::head::{Fields, Framing, RequestHead, ResponseHead, is_value};

const METHOD: &str = "access-control-request-method";
const HEADERS: &str = "access-control-request-headers";

/// The origin that a request says to come from, unless it is empty.
#[must_use]
pub fn origin(request: &RequestHead) -> Option<&[u8]> {
    request.fields.get("origin").filter(|origin| !origin.is_empty())
}

/// Whether a request with an origin asks for leave before the real one.
#[must_use]
pub fn is_preflight(request: &RequestHead) -> bool {
    request.method() == "OPTIONS" && request.fields.get(METHOD).is_some_and(|method| !method.is_empty())
}

/// Whether scripts from there may call.
#[must_use]
pub fn allows(cors: &Cors, origin: &[u8]) -> bool {
    std::str::from_utf8(origin)
        .is_ok_and(|origin| cors.allow_origins.iter().any(|allowed| allowed.matches(origin)))
}

/// Tells the browser that scripts from `origin` may read the answer.
pub fn grant(cors: &Cors, origin: &[u8], fields: &mut Fields) {
    fields.set(b"access-control-allow-origin", origin);
    if cors.allow_credentials {
        fields.set(b"access-control-allow-credentials", b"true");
    }
    list(fields, b"access-control-expose-headers", &cors.expose_headers);
}

/// Makes the answer to a preflight; without leave, an empty one, which the browser takes for a no.
pub fn answer(cors: &Cors, granted: Option<&[u8]>, request: &RequestHead, response: &mut ResponseHead) {
    response.clear();
    (response.persistent, response.status, response.framing) = (true, 200, Framing::Length(0));
    let Some(origin) = granted else { return };
    let fields = &mut response.fields;
    grant(cors, origin, fields);
    asked_or_listed(fields, b"access-control-allow-methods", &cors.allow_methods, request.fields.get(METHOD));
    asked_or_listed(
        fields,
        b"access-control-allow-headers",
        &cors.allow_headers,
        request.fields.get(HEADERS),
    );
    if let Some(age) = cors.max_age {
        fields.set(b"access-control-max-age", age.as_secs().to_string().as_bytes());
    }
}

/// `*` allows what is asked for.
fn asked_or_listed(fields: &mut Fields, name: &[u8], listed: &[Str], asked: Option<&[u8]>) {
    match asked.filter(|asked| is_value(asked)) {
        Some(asked) if listed.iter().any(|allowed| allowed == "*") => fields.set(name, asked),
        _ => list(fields, name, listed),
    }
}

fn list(fields: &mut Fields, name: &[u8], values: &[Str]) {
    let values = values.iter().map(Str::as_str).filter(|value| is_value(value.as_bytes()));
    let joined = values.collect::<Vec<_>>().join(",");
    if !joined.is_empty() {
        fields.set(name, joined.as_bytes());
    }
}
