//! `Labels` and the `Selector` that matches them.

use crate::Str;
use std::collections::BTreeMap;

/// Key and value pairs that users put on objects.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Labels(BTreeMap<Str, Str>);

impl Labels {
    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&Str> {
        self.0.get(key)
    }

    /// Sets one label.
    pub fn insert(&mut self, key: impl Into<Str>, value: impl Into<Str>) {
        self.0.insert(key.into(), value.into());
    }

    /// All labels in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&Str, &Str)> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl<K: Into<Str>, V: Into<Str>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

/// Labels that must all be there with these values (`matchLabels`). Empty matches everything.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Selector(Labels);

impl Selector {
    /// A selector that asks for all of these labels.
    pub fn new(labels: Labels) -> Self {
        Self(labels)
    }

    /// Whether these labels satisfy it.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What it asks for.
    pub fn labels(&self) -> &Labels {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_asks_for_all_its_labels() {
        let labels: Labels = [("app", "reviews"), ("version", "v1")].into_iter().collect();
        let select = |pairs: &[(&str, &str)]| Selector::new(pairs.iter().copied().collect()).matches(&labels);
        assert!(
            select(&[]) && select(&[("app", "reviews")]) && select(&[("app", "reviews"), ("version", "v1")])
        );
        assert!(!select(&[("app", "ratings")]) && !select(&[("app", "reviews"), ("zone", "a")]));
    }
}
