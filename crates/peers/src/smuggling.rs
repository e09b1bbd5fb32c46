//! Requests that are known to be read in two ways, and what of them may reach a backend.
//!
//! Each attack is followed by an innocent request on the same connection. Whatever the proxy makes of it: the backend
//! must see a beginning of what `reads` says (nothing at all is a refusal), as every parser reads the bytes.

use std::collections::BTreeMap;

use crate::strict::{self, Body, Head};

mod http1;
mod http2;

pub use http1::ATTACKS;
pub use http2::{ATTACKS as HTTP2_ATTACKS, Attack2, send as send_http2};

/// An attack of HTTP/1.
pub struct Attack {
    /// Its name, the family first.
    pub name: &'static str,
    /// Its bytes: `{n}` is its number, `{after}` the innocent request (behind everything where it is not said).
    pub bytes: &'static str,
    /// What a backend may see of it: method, the last part of the target, body.
    pub reads: Reads,
}

/// Requests that may be seen, in order.
pub type Reads = &'static [(&'static str, &'static str, &'static str)];

/// A request as a parser has read it: method, target, body.
pub type Seen = (String, String, Vec<u8>);

impl Attack {
    /// What is sent.
    #[must_use]
    pub fn bytes(&self, number: usize) -> Vec<u8> {
        let after = format!("GET /{number}/after HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n");
        let mut text = self.bytes.replace("{n}", &number.to_string());
        if text.contains("{after}") {
            text = text.replace("{after}", &after);
        } else {
            text.push_str(&after);
        }
        // Characters above ASCII stand for single bytes.
        text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect()
    }
}

/// The complete requests of a connection, strictly read; a last one that is cut off is left out.
///
/// # Errors
/// When something is ambiguous.
pub fn complete(mut bytes: &[u8]) -> Result<Vec<Seen>, strict::Ambiguous> {
    let mut seen = Vec::new();
    while let Some((head, length)) = strict::head(bytes)? {
        let Some((body, more)) = strict::body(&head, &bytes[length..])? else { break };
        bytes = &bytes[length + more..];
        let (Head { method, target, .. }, Body { bytes: body, .. }) = (head, body);
        seen.push((method, target, body));
    }
    Ok(seen)
}

/// Requests by the number of their attack. Others are under none.
#[must_use]
pub fn by_number(seen: impl IntoIterator<Item = Seen>) -> BTreeMap<Option<usize>, Vec<Seen>> {
    let mut by_number = BTreeMap::<_, Vec<Seen>>::new();
    for request in seen {
        let number = request.1.split('/').nth(1).and_then(|number| number.parse().ok());
        by_number.entry(number).or_default().push(request);
    }
    by_number
}

/// What of it was not to be seen.
#[must_use]
pub fn unwanted(number: usize, reads: Reads, seen: &[Seen]) -> Option<String> {
    let wanted: Vec<Seen> = reads
        .iter()
        .map(|(method, last, body)| {
            ((*method).to_owned(), format!("/{number}/{last}"), body.as_bytes().to_vec())
        })
        .collect();
    let show = |seen: &[Seen]| -> Vec<String> {
        let one = |(method, target, body): &Seen| {
            format!("{method} {target} {:?}", body.escape_ascii().to_string())
        };
        seen.iter().map(one).collect()
    };
    (!wanted.starts_with(seen)).then(|| format!("the backend saw {:?}, not {:?}", show(seen), show(&wanted)))
}
