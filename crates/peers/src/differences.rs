//! The differences from Envoy that are meant, each with its reason. `docs/reference/differences-from-envoy.md` is
//! written from this table, and an entry that never occurs fails the comparison.

use std::fmt::Write as _;

use crate::case::{Body, Case, Version};
use crate::compare::{Aspect, Difference, NOT_COMPARED};

/// A difference that is meant.
pub struct Meant {
    /// What differs, in a few words.
    pub name: &'static str,
    /// What Envoy does.
    pub envoy: &'static str,
    /// What we do.
    pub ours: &'static str,
    /// Why.
    pub reason: &'static str,
    /// Whether a difference is this one.
    pub covers: fn(&Case, &Difference) -> bool,
}

/// All of them.
pub const MEANT: &[Meant] = &[
    Meant {
        name: "methods that are not registered",
        envoy: "400 in HTTP/1",
        ours: "forwarded",
        reason: "any token is a method (RFC 9110 section 9.1); backends know which they serve",
        covers: |case, _| {
            case.version != Version::Http2 && matches!(&*case.method, "get" | "M-SEARCH" | "PURGE")
        },
    },
    Meant {
        name: "a host with a trailing dot",
        envoy: "another host: 404",
        ours: "the same host",
        reason: "an absolute name is the same name",
        covers: |case, _| case.host.ends_with('.'),
    },
    Meant {
        name: "a path that climbs above its root",
        envoy: "taken for the root",
        ours: "400",
        reason: "no honest client sends it, and who is asked next may read it otherwise",
        covers: |case, _| climbs(case.path()),
    },
    Meant {
        name: "answers of the proxy itself",
        envoy: "some have no body",
        ours: "say in plain text what happened",
        reason: "who reads a 404 shall know whose it is",
        covers: |_, difference| matches!(&difference.aspect, Aspect::Own(part) if part != "connection"),
    },
    Meant {
        name: "`expect: 100-continue`",
        envoy: "answered by the proxy",
        ours: "forwarded; the answer of the backend comes back",
        reason: "only the backend knows whether it wants the body",
        covers: |_, difference| request(difference) == Some("expect"),
    },
    Meant {
        name: "several fields of one name",
        envoy: "some names are joined by a comma",
        ours: "forwarded as they came",
        reason: "both mean the same (RFC 9110 section 5.3); nothing is rewritten without need",
        covers: |_, difference| {
            let ours = joined(&difference.ours).filter(|_| request(difference).is_some());
            ours.is_some() && ours == joined(&difference.envoy)
        },
    },
    Meant {
        name: "`te: trailers` in HTTP/1.1",
        envoy: "without `connection`",
        ours: "with `connection: te`",
        reason: "RFC 9110 section 10.1.4 asks for it",
        covers: |_, difference| request(difference) == Some("connection") && difference.ours == "[\"te\"]",
    },
    Meant {
        name: "`content-length: 0` of a request without a body",
        envoy: "added to every method but GET and HEAD",
        ours: "added to POST, PUT and PATCH",
        reason: "only those mean something without a body (RFC 9110 section 8.6)",
        covers: |case, difference| {
            request(difference) == Some("content-length")
                && case.body == Body::None
                && !matches!(&*case.method, "POST" | "PUT" | "PATCH")
        },
    },
    Meant {
        name: "characters that no path may hold, such as `{`",
        envoy: "escaped",
        ours: "left as they are",
        reason: "the backend sees what the caller wrote; to a backend that speaks HTTP/2 they are escaped, since it could not be said there",
        covers: |case, difference| {
            request(difference) == Some("target")
                && case.path().contains(['|', '{', '}', '<', '>', '"', '^', '`'])
        },
    },
    Meant {
        name: "escapes in small letters, such as `%2f`",
        envoy: "left as they are",
        ours: "`%2F`",
        reason: "both mean the same (RFC 3986 section 6.2.2.1), and rules and policies see one spelling",
        covers: |_, difference| {
            request(difference) == Some("target") && difference.envoy.eq_ignore_ascii_case(&difference.ours)
        },
    },
    Meant {
        name: "headers of a rule and of its destination",
        envoy: "the destination's first, then the rule's",
        ours: "the rule's first, then the destination's",
        reason: "the more specific one has the last word",
        covers: |case, difference| request(difference) == Some("x-level") && case.host == "edits.test",
    },
    Meant {
        name: "`transfer-encoding` of an answer to HEAD",
        envoy: "added",
        ours: "left out",
        reason: "there is no body to frame",
        covers: |case, difference| case.method == "HEAD" && response(difference) == Some("transfer-encoding"),
    },
    Meant {
        name: "the connection after an answer of the proxy itself",
        envoy: "closed when a body was announced, in HTTP/1.0, and after 400",
        ours: "kept when nothing is left unread that could be long",
        reason: "a new connection costs more than reading on",
        covers: |case, difference| {
            let reasons =
                case.body != Body::None || case.version == Version::Http10 || case.path().contains("%00");
            reasons && difference.aspect == Aspect::Own("connection".to_owned())
        },
    },
];

fn request(difference: &Difference) -> Option<&str> {
    match &difference.aspect {
        Aspect::Request(part) => Some(part),
        _ => None,
    }
}

fn response(difference: &Difference) -> Option<&str> {
    match &difference.aspect {
        Aspect::Response(part) => Some(part),
        _ => None,
    }
}

/// The values of a list of fields as one list.
fn joined(values: &str) -> Option<String> {
    let values = values.strip_prefix("[\"")?.strip_suffix("\"]")?;
    Some(values.replace("\", \"", ",").replace(", ", ","))
}

/// Whether more segments are left than were entered, whatever way they are spelt.
fn climbs(path: &str) -> bool {
    let path = path.to_ascii_lowercase().replace("%2e", ".").replace('\\', "/");
    let mut depth = 0_i32;
    for segment in path.split('/').skip(1) {
        depth += match segment {
            "." => 0,
            ".." => -1,
            _ => 1,
        };
        if depth < 0 {
            return true;
        }
    }
    false
}

/// The page of the reference.
#[must_use]
pub fn page() -> String {
    let mut page = PREFACE.to_owned();
    for Meant { name, envoy, ours, reason, .. } in MEANT {
        let _ = writeln!(page, "| {name} | {envoy} | {ours} | {reason} |");
    }
    page.push_str("\nNot compared: ");
    let names: Vec<String> = NOT_COMPARED.iter().map(|(name, why)| format!("`{name}` ({why})")).collect();
    page.push_str(&names.join(", "));
    page.push_str(".\n");
    page
}

const PREFACE: &str = "\
# Differences from Envoy

The same requests go through Envoy, configured as Istio would for the same objects, and through `lateen proxy`
(`cargo test -p lateen-peers`). Status, chosen backend, forwarded head, body and answer are the same but for this list,
which is written from `crates/peers/src/differences.rs`; an entry that no request of the corpus shows any more fails the
test.

| what | Envoy | Lateen | why |
| --- | --- | --- | --- |
";

#[cfg(test)]
mod tests {
    use super::*;

    /// After a change of the table: `RENEW=1 cargo test -p lateen-peers --lib`, and commit the result.
    #[test]
    fn the_reference_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/differences-from-envoy.md");
        if std::env::var_os("RENEW").is_some() {
            std::fs::write(path, page()).expect("write the page");
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == page(), "renew it: RENEW=1 cargo test -p lateen-peers --lib");
    }
}
