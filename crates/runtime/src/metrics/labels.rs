//! Label sets.

use std::sync::Arc;

/// A label set, in the order it was given. Names are the program's own; values may be any text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(&'static str, Arc<str>)]>);

impl Labels {
    /// No labels.
    pub fn none() -> Self {
        Self::default()
    }

    /// Labels from names and values. Values must come from the mesh's own nouns, never from request text.
    ///
    /// # Panics
    /// In debug builds, when a name is not a label name or stands twice.
    pub fn new<V: Into<Arc<str>>>(labels: impl IntoIterator<Item = (&'static str, V)>) -> Self {
        let labels: Arc<[_]> = labels.into_iter().map(|(name, value)| (name, value.into())).collect();
        debug_assert!(labels.iter().all(|(name, _)| is_label_name(name)), "label names: {labels:?}");
        debug_assert!(
            (1..labels.len()).all(|at| labels[..at].iter().all(|(name, _)| *name != labels[at].0)),
            "a label name stands twice: {labels:?}"
        );
        Self(labels)
    }

    pub(super) fn overflow() -> Self {
        Self::new([("overflow", "true")])
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, &**value))
    }
}

/// `[a-zA-Z_:][a-zA-Z0-9_:]*`, as the exposition format has it.
pub(super) fn is_metric_name(name: &str) -> bool {
    is_name(name, |byte| byte == b':')
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`; `le` belongs to histograms.
fn is_label_name(name: &str) -> bool {
    is_name(name, |_| false) && name != "le"
}

fn is_name(name: &str, also: impl Fn(u8) -> bool) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || also(byte);
    name.bytes().next().is_some_and(letter) && name.bytes().all(|byte| letter(byte) || byte.is_ascii_digit())
}
