//! `Problem`: what is wrong in what a user wrote, and where.

use crate::ObjectKey;
use lateen_model::Str;
use std::fmt;

/// How bad a problem is, from mild to bad.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// It works, and is likely not what was meant.
    Warning,
    /// A field or kind that exists and is not enforced yet.
    Unsupported,
    /// The object, or the part of it, cannot be used.
    Error,
}

impl Severity {
    /// The word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Unsupported => "unsupported",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where something stands in a document.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Span {
    /// Line in the file, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// First byte, in the text of the document.
    pub start: u32,
    /// The byte after the last, in the text of the document.
    pub end: u32,
}

/// A value and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

impl<T> At<T> {
    /// The same place with another value.
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At { value: change(self.value), span: self.span }
    }
}

impl<T> std::ops::Deref for At<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// Something wrong in what a user wrote, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The object it is in, where that could be read.
    pub object: Option<ObjectKey>,
    /// The file.
    pub file: Str,
    /// Line in the file, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// How many characters of that line are meant.
    pub length: u32,
    /// The path of the field within the object (`spec.http[0].route`), where it is known.
    pub field: Option<Str>,
    /// The offending text, its first line, at most 120 characters.
    pub text: Str,
    /// What is wrong: a lower-case fragment.
    pub message: String,
    /// What was expected.
    pub expected: Option<String>,
    /// The nearest right text.
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}: {}", self.file, self.line, self.column, self.severity, self.message)?;
        if let Some(expected) = &self.expected {
            write!(f, "; expected {expected}")?;
        }
        match &self.suggestion {
            Some(suggestion) => write!(f, "; did you mean {suggestion:?}?"),
            None => Ok(()),
        }
    }
}

/// A problem before it knows its file and text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Draft {
    pub(crate) severity: Severity,
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) expected: Option<String>,
    pub(crate) suggestion: Option<String>,
}

impl Draft {
    pub(crate) fn new(severity: Severity, span: Span, message: impl Into<String>) -> Self {
        Self { severity, span, message: message.into(), expected: None, suggestion: None }
    }

    pub(crate) fn error(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, span, message)
    }

    pub(crate) fn warning(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, span, message)
    }

    pub(crate) fn unsupported(span: Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Unsupported, span, message)
    }

    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub(crate) fn suggest(mut self, suggestion: Option<String>) -> Self {
        self.suggestion = suggestion;
        self
    }

    /// The problem, in this document of this file.
    pub(crate) fn finish(self, file: &Str, document: &str, object: Option<&ObjectKey>) -> Problem {
        let slice = document.get(self.span.start as usize..self.span.end as usize).unwrap_or_default();
        let line: String = slice.lines().next().unwrap_or_default().trim_end().chars().take(120).collect();
        Problem {
            severity: self.severity,
            object: object.cloned(),
            file: file.clone(),
            line: self.span.line,
            column: self.span.column,
            length: u32::try_from(line.chars().count()).unwrap_or(1).max(1),
            field: None,
            text: line.into(),
            message: self.message,
            expected: self.expected,
            suggestion: self.suggestion,
        }
    }
}

/// The candidate that was most likely meant, if one is near enough.
pub(crate) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.len().min(text.len()) / 3))
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_a_far_one_is_not() {
        let words = ["timeout", "retries", "route", "rewrite"];
        for (text, expected) in
            [("timout", Some("timeout")), ("Route", Some("route")), ("rout", Some("route")), ("cors", None)]
        {
            assert_eq!(nearest(text, words).as_deref(), expected, "{text}");
        }
    }
}
