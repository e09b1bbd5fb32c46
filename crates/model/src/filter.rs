//! `Filter`: what a rule does to a request or a response.

use crate::{BackendTarget, Format, InvalidRegex, Share, Str, StringMatch};
use std::fmt;
use std::time::Duration;

/// What a rule does to a request or a response. A closed list; the order in which filters run is fixed by the proxy,
/// not by the list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Filter {
    /// Change the head of the request.
    RequestHeaders(HeaderEdit),
    /// Change the head of the response.
    ResponseHeaders(HeaderEdit),
    /// Change where the request asks for.
    Rewrite(Rewrite),
    /// Send a copy elsewhere.
    Mirror(Mirror),
    /// Answer browsers that ask who may call.
    Cors(Cors),
    /// Delay or abort on purpose.
    Fault(FaultInjection),
}

/// Changes to a head, applied in the order remove, set, add (as Envoy does). Names are lower case; `host` and
/// `:authority` may be set only, and are the authority of the request.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HeaderEdit {
    /// Overwrite, or add where it is missing.
    pub set: Vec<(Str, Format)>,
    /// Append a further value.
    pub add: Vec<(Str, Format)>,
    /// Remove every value.
    pub remove: Vec<Str>,
}

/// Changes to the target of a request.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rewrite {
    /// To the path; the query stays.
    pub path: Option<PathRewrite>,
    /// To the authority.
    pub authority: Option<Str>,
}

/// A change to a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathRewrite {
    /// All of it (Gateway API `ReplaceFullPath`).
    Full(Str),
    /// What the rule's match on the path matched: the prefix of a prefix match, else all of it (Istio `rewrite.uri`,
    /// Gateway API `ReplacePrefixMatch`).
    Matched(Str),
    /// Every place that a regular expression matches (Istio `uriRegexRewrite`).
    Regex(RegexRewrite),
}

/// A regular expression that is searched for, and what stands in each place it was found. Linear time.
#[derive(Clone)]
pub struct RegexRewrite {
    pattern: Str,
    substitution: Str,
    compiled: regex::Regex,
    /// The substitution in the notation of the `regex` crate.
    replacement: Str,
}

impl RegexRewrite {
    /// Compiles the pattern. The substitution is RE2's: `\1` to `\9` are groups, `\0` is all, `\\` a backslash.
    ///
    /// # Errors
    /// When the pattern is none, is too large, or the substitution names a group that it has not.
    pub fn parse(pattern: &str, substitution: &str) -> Result<Self, InvalidRegex> {
        let invalid = |why: String| InvalidRegex { pattern: pattern.chars().take(128).collect(), why };
        let compiled = regex::RegexBuilder::new(pattern)
            .size_limit(1 << 20)
            .dfa_size_limit(1 << 20)
            .build()
            .map_err(|error| invalid(crate::matching::last_line(&error)))?;
        let mut replacement = String::new();
        let mut rest = substitution.chars();
        while let Some(character) = rest.next() {
            match character {
                '$' => replacement.push_str("$$"),
                '\\' => match rest.next() {
                    Some('\\') => replacement.push('\\'),
                    Some(digit) if digit.is_ascii_digit() => {
                        let group = digit as usize - '0' as usize;
                        if group >= compiled.captures_len() {
                            return Err(invalid(format!("the pattern has no group {group}")));
                        }
                        replacement.push_str(&format!("${{{group}}}"));
                    }
                    _ => return Err(invalid("a `\\` in the substitution begins no group".to_owned())),
                },
                other => replacement.push(other),
            }
        }
        Ok(Self {
            pattern: pattern.into(),
            substitution: substitution.into(),
            compiled,
            replacement: replacement.into(),
        })
    }

    /// The pattern as written.
    pub fn pattern(&self) -> &Str {
        &self.pattern
    }

    /// The substitution as written.
    pub fn substitution(&self) -> &Str {
        &self.substitution
    }

    /// The text with every match replaced.
    pub fn apply<'a>(&self, text: &'a str) -> std::borrow::Cow<'a, str> {
        self.compiled.replace_all(text, self.replacement.as_str())
    }
}

impl PartialEq for RegexRewrite {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern && self.substitution == other.substitution
    }
}

impl Eq for RegexRewrite {}

impl fmt::Debug for RegexRewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/ becomes {:?}", self.pattern, self.substitution)
    }
}

/// A copy of requests that is sent elsewhere; its answer is thrown away.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mirror {
    /// Where.
    pub target: BackendTarget,
    /// Of how many requests.
    pub share: Share,
}

/// Who may call from a browser (Fetch standard, CORS protocol).
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Cors {
    /// Origins that may. `Present` is any.
    pub allow_origins: Vec<StringMatch>,
    /// Methods that may be used; `*` is any.
    pub allow_methods: Vec<Str>,
    /// Headers that may be sent; `*` is any.
    pub allow_headers: Vec<Str>,
    /// Headers of answers that scripts may read.
    pub expose_headers: Vec<Str>,
    /// How long a browser may remember the answer.
    pub max_age: Option<Duration>,
    /// Whether requests may carry credentials.
    pub allow_credentials: bool,
    /// Whether a preflight from another origin goes to the backend (Istio's FORWARD) or is answered here without leave
    /// (IGNORE).
    pub forward_unmatched_preflights: bool,
}

/// Trouble on purpose: the delay comes before the abort.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FaultInjection {
    /// How long, and how many requests.
    pub delay: Option<(Duration, Share)>,
    /// With what, and how many requests.
    pub abort: Option<(Abort, Share)>,
}

/// How a request is aborted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Abort {
    /// With an HTTP status.
    Http(u16),
    /// With a gRPC status.
    Grpc(u16),
}

/// An answer that a rule gives itself, instead of sending the request on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Ask elsewhere.
    Redirect(Redirect),
    /// A fixed answer.
    Direct(DirectResponse),
}

/// A redirect. What is none stays as the request has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`.
    pub scheme: Option<Str>,
    /// Host, without port.
    pub host: Option<Str>,
    /// Port.
    pub port: RedirectPort,
    /// Path; the query stays.
    pub path: Option<PathRewrite>,
}

/// The port in the location of a redirect. The well-known port of the scheme is not written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum RedirectPort {
    /// The one in the request's authority, if the host is the request's too; else none.
    #[default]
    Unchanged,
    /// This one.
    Number(u16),
    /// The well-known one of the redirect's scheme (Istio FROM_PROTOCOL_DEFAULT; Gateway API with a scheme).
    OfScheme,
    /// The one the request came in by (Istio FROM_REQUEST_PORT; Gateway API without a scheme).
    OfRequest,
}

/// A fixed answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirectResponse {
    /// Its status.
    pub status: u16,
    /// Its body, at most 1 MiB.
    pub body: std::sync::Arc<[u8]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substitutions_are_those_of_re2() {
        for (pattern, substitution, text, expected) in [
            ("/v1/(.*)", r"/v2/\1", "/v1/a", "/v2/a"),
            ("(a)(b)", r"\2\1\0", "xabab", "xbaabbaab"),
            ("a", r"$1\\", "a", r"$1\"),
        ] {
            assert_eq!(
                RegexRewrite::parse(pattern, substitution).unwrap().apply(text),
                expected,
                "{pattern}"
            );
        }
        assert!(RegexRewrite::parse("a", r"\1").is_err() && RegexRewrite::parse("(", "").is_err());
        assert!(RegexRewrite::parse("a", r"\x").is_err());
    }
}
