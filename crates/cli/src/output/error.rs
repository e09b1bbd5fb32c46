//! Errors at the edge: the chain of causes on one line, and the way out on the next.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use super::{BAD, STRONG, styled};

/// The command was called in a way that clap cannot see to be wrong: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongUsage(pub String);

/// An error that knows the way out.
struct Hinted {
    error: anyhow::Error,
    hint: String,
}

impl fmt::Debug for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl fmt::Display for Hinted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl StdError for Hinted {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

/// Adds a hint at the cure to whatever failed.
pub trait WithHint<T> {
    /// `hint` is a sentence in lower case without a full stop: `start it with: lateen up DIR`.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithHint<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| Hinted { error: error.into(), hint: hint.into() }.into())
    }
}

/// Whether the reader of stdout went away.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(io::ErrorKind::BrokenPipe)
    })
}

/// `error: what: why: why` and, when there is one, `hint: what to do`.
pub(super) fn describe(error: &anyhow::Error) -> String {
    let mut lines = format!("{} {}", styled(BAD, "error:"), causes(error));
    for hint in hints(error) {
        lines.push_str(&format!("\n{} {hint}", styled(STRONG, "hint:")));
    }
    lines
}

/// `what: why: why`.
pub fn causes(error: &anyhow::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Many errors repeat their source in their own text.
        if !causes.last().is_some_and(|last| last.ends_with(&text)) {
            causes.push(text);
        }
    }
    causes.join(": ")
}

/// What to do about it, as far as anybody knew.
pub fn hints(error: &anyhow::Error) -> impl Iterator<Item = &str> {
    error.chain().filter_map(|cause| cause.downcast_ref::<Hinted>()).map(|hinted| hinted.hint.as_str())
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    fn plain(error: &anyhow::Error) -> String {
        anstream::adapter::strip_str(&describe(error)).to_string()
    }

    #[test]
    fn the_chain_stands_on_one_line_and_the_hint_below() {
        let refused: Result<(), _> = Err(io::Error::new(io::ErrorKind::ConnectionRefused, "refused"));
        let error = refused.hint("is it running?").context("connect to 127.0.0.1:1").unwrap_err();
        assert_eq!(plain(&error), "error: connect to 127.0.0.1:1: refused\nhint: is it running?");
    }

    #[test]
    fn a_repeated_cause_is_said_once() {
        let error = anyhow::anyhow!("refused").context("connect: refused");
        assert_eq!(plain(&error), "error: connect: refused");
    }

    #[test]
    fn a_closed_pipe_is_known_through_its_context() {
        let closed = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_broken_pipe(&anyhow::Error::from(closed).context("write the result")));
        assert!(!is_broken_pipe(&anyhow::anyhow!("something else")));
    }
}
