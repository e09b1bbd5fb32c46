//! Matches on text, paths, headers and queries: parsed once.

use crate::Str;
use std::fmt;

/// A regular expression that must match the whole text, in linear time (RE2 semantics).
#[derive(Clone)]
pub struct FullRegex {
    pattern: Str,
    compiled: regex::Regex,
}

/// A pattern that is no regular expression, or too large a one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("regular expression {pattern:?} is not valid: {why}")]
pub struct InvalidRegex {
    /// The pattern, shortened to 128 characters.
    pub pattern: String,
    /// What is wrong with it.
    pub why: String,
}

impl FullRegex {
    /// Compiles a pattern; the compiled program may not pass 1 MiB.
    ///
    /// # Errors
    /// When the syntax is wrong, uses what linear time forbids (look-around, back-references), or is too large.
    pub fn parse(pattern: &str) -> Result<Self, InvalidRegex> {
        let build = |pattern: &str| {
            regex::RegexBuilder::new(pattern).size_limit(1 << 20).dfa_size_limit(1 << 20).build()
        };
        // By itself first: `a)|(b` would be an expression only between the brackets that are put around it.
        let compiled = build(pattern).and_then(|_| build(&format!("^(?:{pattern})$"))).map_err(|error| {
            InvalidRegex { pattern: pattern.chars().take(128).collect(), why: last_line(&error) }
        })?;
        Ok(Self { pattern: pattern.into(), compiled })
    }

    /// The pattern as written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether the whole text matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.compiled.is_match(text)
    }
}

/// What is wrong, without the picture before it.
pub(crate) fn last_line(error: &regex::Error) -> String {
    error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

impl PartialEq for FullRegex {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for FullRegex {}

impl fmt::Debug for FullRegex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.pattern)
    }
}

/// A match on text, as Istio's `StringMatch` and the values of an AuthorizationPolicy have it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StringMatch {
    /// The same text.
    Exact(Str),
    /// The same text in any case of ASCII letters.
    ExactIgnoreCase(Str),
    /// Begins with it.
    Prefix(Str),
    /// Begins with it in any case of ASCII letters.
    PrefixIgnoreCase(Str),
    /// Ends with it.
    Suffix(Str),
    /// Matches as a whole.
    Regex(FullRegex),
    /// Is there and not empty.
    Present,
}

impl StringMatch {
    /// Whether the text matches.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(expected) => expected == text,
            Self::ExactIgnoreCase(expected) => expected.eq_ignore_ascii_case(text),
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
            Self::PrefixIgnoreCase(prefix) => {
                text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
            }
            Self::Suffix(suffix) => text.ends_with(suffix.as_str()),
            Self::Regex(regex) => regex.is_match(text),
            Self::Present => !text.is_empty(),
        }
    }

    /// Reads the form that values of an AuthorizationPolicy have: `*` is present, `x*` a prefix, `*x` a suffix.
    pub fn from_policy_value(text: &str) -> Self {
        match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(""), _) => Self::Present,
            (Some(suffix), _) => Self::Suffix(suffix.into()),
            (None, Some(prefix)) => Self::Prefix(prefix.into()),
            (None, None) => Self::Exact(text.into()),
        }
    }
}

impl fmt::Display for StringMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "is {text:?}"),
            Self::ExactIgnoreCase(text) => write!(f, "is {text:?} in any case"),
            Self::Prefix(text) => write!(f, "begins with {text:?}"),
            Self::PrefixIgnoreCase(text) => write!(f, "begins with {text:?} in any case"),
            Self::Suffix(text) => write!(f, "ends with {text:?}"),
            Self::Regex(regex) => write!(f, "matches {regex:?}"),
            Self::Present => f.write_str("is present"),
        }
    }
}

/// A match on the path of a request, without its query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PathMatch {
    /// The path as text: Istio's exact, prefix and regex.
    Text(StringMatch),
    /// Gateway API's `PathPrefix`: whole segments; held without a trailing `/`, so `/` is empty.
    Segments(Str),
}

impl PathMatch {
    /// Gateway API's `PathPrefix`.
    pub fn segments(prefix: &str) -> Self {
        Self::Segments(prefix.strip_suffix('/').unwrap_or(prefix).into())
    }

    /// Whether the path matches.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Text(text) => text.matches(path),
            Self::Segments(prefix) => path
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "path {text}"),
            Self::Segments(prefix) => write!(f, "path under \"{prefix}/\""),
        }
    }
}

/// A match on one header or one query parameter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedMatch {
    /// The name; of a header in lower case.
    pub name: Str,
    /// What its value must be. A missing value never matches; `Present` also accepts an empty one.
    pub value: StringMatch,
}

impl NamedMatch {
    /// Whether the value found under the name matches.
    pub fn matches(&self, value: Option<&str>) -> bool {
        match (&self.value, value) {
            (_, None) => false,
            (StringMatch::Present, Some(_)) => true,
            (expected, Some(value)) => expected.matches(value),
        }
    }
}

impl fmt::Display for NamedMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regex_matches_as_a_whole() {
        let regex = FullRegex::parse("a|ab").unwrap();
        assert!(
            regex.is_match("ab") && regex.is_match("a") && !regex.is_match("xab") && !regex.is_match("abx")
        );
        assert!(FullRegex::parse("(").is_err() && FullRegex::parse("(?=a)").is_err());
        assert!(FullRegex::parse("(a{1000}){1000}").is_err() && FullRegex::parse("a)|(b").is_err());
    }

    #[test]
    fn path_segments_are_whole() {
        let shop = PathMatch::segments("/shop/");
        assert!(shop.matches("/shop") && shop.matches("/shop/") && shop.matches("/shop/cart"));
        assert!(!shop.matches("/shopping") && !shop.matches("/"));
        assert!(PathMatch::segments("/").matches("/anything"));
    }

    #[test]
    fn policy_values() {
        for (value, text, matches) in [
            ("*", "x", true),
            ("*", "", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("ab", "abc", false),
            ("ab", "ab", true),
        ] {
            assert_eq!(StringMatch::from_policy_value(value).matches(text), matches, "{value} {text}");
        }
    }

    #[test]
    fn ignoring_case_never_splits_a_character() {
        assert!(!StringMatch::PrefixIgnoreCase("ab".into()).matches("aé"));
        assert!(StringMatch::PrefixIgnoreCase("AB".into()).matches("abc"));
    }
}
