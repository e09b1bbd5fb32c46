//! How schemas are read: `Reader` collects what is wrong in one document, `Fields` is one mapping of it.

use crate::problem::{At, Draft, Severity, Span, nearest};
use crate::yaml::{Node, Value};
use lateen_model::{Labels, Share, Str};
use std::cell::RefCell;
use std::time::Duration;

/// The most problems told of one document.
const MAX_DRAFTS: usize = 200;

/// What is wrong in one document, collected while it is read.
#[derive(Default)]
pub(crate) struct Reader {
    drafts: RefCell<Vec<Draft>>,
}

impl Reader {
    pub(crate) fn push(&self, draft: Draft) {
        let mut drafts = self.drafts.borrow_mut();
        if drafts.len() < MAX_DRAFTS {
            drafts.push(draft);
        }
    }

    pub(crate) fn error(&self, span: Span, message: impl Into<String>) {
        self.push(Draft::error(span, message));
    }

    pub(crate) fn unsupported(&self, span: Span, message: impl Into<String>) {
        self.push(Draft::unsupported(span, message));
    }

    /// How many problems of this severity or worse were found so far.
    pub(crate) fn count(&self, severity: Severity) -> usize {
        self.drafts.borrow().iter().filter(|draft| draft.severity >= severity).count()
    }

    /// Reads, and says whether something in it is not enforced.
    pub(crate) fn noting<T>(&self, read: impl FnOnce() -> T) -> (T, bool) {
        let before = self.count(Severity::Unsupported);
        let value = read();
        (value, self.count(Severity::Unsupported) > before)
    }

    pub(crate) fn take(&self) -> Vec<Draft> {
        self.drafts.take()
    }

    /// A mapping with these fields: what is enforced, and what is only known.
    pub(crate) fn fields<'a>(
        &'a self,
        node: &'a Node,
        enforced: &'static [&'static str],
        known: &'static [&'static str],
    ) -> Option<Fields<'a>> {
        let Value::Map(entries) = &node.value else {
            self.wrong_type(node, "a mapping");
            return None;
        };
        let mut misspelt = false;
        for (key, value) in entries {
            let name = &*key.value;
            if enforced.contains(&name) {
                continue;
            }
            if known.contains(&name) {
                if value.value != Value::Null {
                    self.unsupported(key.span, format!("`{name}` is not enforced yet"));
                }
                continue;
            }
            misspelt = true;
            let candidates = enforced.iter().chain(known).copied();
            let suggestion = nearest(name, candidates);
            let draft = Draft::error(key.span, format!("there is no field `{name}` here"));
            let draft = match suggestion {
                None if enforced.len() + known.len() <= 12 => {
                    let all: Vec<_> = enforced.iter().chain(known).copied().collect();
                    draft.expected(one_of(&all))
                }
                suggestion => draft.suggest(suggestion),
            };
            self.push(draft);
        }
        Some(Fields { reader: self, node, misspelt })
    }

    pub(crate) fn wrong_type(&self, node: &Node, expected: &str) {
        let draft = Draft::error(node.span, format!("found {}", node.describe())).expected(expected);
        let quote = match node.value {
            Value::Integer(_) | Value::Float(_) | Value::Bool(_) if expected == "a string" => {
                Some("quotes around it".to_owned())
            }
            _ => None,
        };
        self.push(match quote {
            Some(hint) => draft.expected(format!("a string: put {hint}")),
            None => draft,
        });
    }

    pub(crate) fn text(&self, node: &Node) -> Option<At<Str>> {
        match node.as_text() {
            Some(text) => Some(At { value: text.into(), span: node.span }),
            None => {
                self.wrong_type(node, "a string");
                None
            }
        }
    }

    /// Parses text, or says why not.
    pub(crate) fn parse<T, E: std::fmt::Display>(
        &self,
        text: &At<Str>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(text.span, error.to_string());
                None
            }
        }
    }

    pub(crate) fn integer(&self, node: &Node, least: i64, most: i64) -> Option<At<i64>> {
        match node.value {
            Value::Integer(value) if (least..=most).contains(&value) => Some(At { value, span: node.span }),
            Value::Integer(_) => {
                self.push(
                    Draft::error(node.span, "this number is out of range")
                        .expected(format!("a number from {least} to {most}")),
                );
                None
            }
            Value::Float(_) => {
                let draft = Draft::error(node.span, "this number is not whole, or too large");
                self.push(draft.expected(format!("a whole number from {least} to {most}")));
                None
            }
            _ => {
                self.wrong_type(node, "a number");
                None
            }
        }
    }

    /// A number with or without a fraction.
    pub(crate) fn number(&self, node: &Node, least: f64, most: f64) -> Option<At<f64>> {
        let value = match node.value {
            Value::Integer(value) => value as f64,
            Value::Float(value) => value,
            _ => {
                self.wrong_type(node, "a number");
                return None;
            }
        };
        if (least..=most).contains(&value) {
            return Some(At { value, span: node.span });
        }
        let draft = Draft::error(node.span, "this number is out of range");
        self.push(draft.expected(format!("a number from {least} to {most}")));
        None
    }

    pub(crate) fn port(&self, node: &Node) -> Option<At<u16>> {
        let number = self.integer(node, 1, 65535)?;
        Some(number.map(|value| u16::try_from(value).expect("the range was checked")))
    }

    /// One of a closed set of words.
    pub(crate) fn choice<T: Copy>(&self, text: &At<Str>, words: &[(&'static str, T)]) -> Option<At<T>> {
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.as_str()) {
            return Some(At { value: *value, span: text.span });
        }
        let names: Vec<_> = words.iter().map(|(word, _)| *word).filter(|word| !word.is_empty()).collect();
        self.push(
            Draft::error(text.span, format!("{:?} is not known here", text.as_str()))
                .expected(one_of(&names))
                .suggest(nearest(text, names.iter().copied())),
        );
        None
    }

    pub(crate) fn items<'a>(&self, node: &'a Node) -> &'a [Node] {
        node.as_list().unwrap_or_else(|| {
            self.wrong_type(node, "a list");
            &[]
        })
    }

    pub(crate) fn labels(&self, node: &Node) -> Labels {
        self.pairs(node).into_iter().map(|(key, value)| (key, value.value)).collect()
    }

    /// A mapping of text to text.
    pub(crate) fn pairs(&self, node: &Node) -> Vec<(Str, At<Str>)> {
        let Value::Map(entries) = &node.value else {
            self.wrong_type(node, "a mapping of strings");
            return Vec::new();
        };
        let pair = |(key, value): &(At<Box<str>>, Node)| {
            // `version: ` with nothing behind it is an empty value, as kubectl takes it.
            let value = match value.value {
                Value::Null => At { value: Str::default(), span: value.span },
                _ => self.text(value)?,
            };
            Some((Str::from(&*key.value), value))
        };
        entries.iter().filter_map(pair).collect()
    }
}

/// `a, b or c`.
pub(crate) fn one_of(words: &[&str]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [one] => format!("`{one}`"),
        [many @ .., last] => format!("`{}` or `{last}`", many.join("`, `")),
    }
}

/// `a` and `b`.
fn all_of(words: &[&str]) -> String {
    match words {
        [many @ .., last] if !many.is_empty() => format!("`{}` and `{last}`", many.join("`, `")),
        words => one_of(words),
    }
}

/// Per cent, of which the range was checked, as a share.
pub(crate) fn share(percent: f64) -> Share {
    Share::per_million((percent * 10_000.0).round() as u32)
}

/// One mapping of a document, whose fields were checked by name.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub(crate) reader: &'a Reader,
    pub(crate) node: &'a Node,
    /// A field here is not known, so one that is missing is likely that one.
    misspelt: bool,
}

impl<'a> Fields<'a> {
    pub(crate) fn span(&self) -> Span {
        self.node.span
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Node> {
        self.node.get(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The field, or a problem that says that it is missing.
    pub(crate) fn need(&self, name: &str) -> Option<&'a Node> {
        let node = self.get(name);
        if node.is_none() {
            self.lacks(Draft::error(self.first_line(), format!("the field `{name}` is missing")));
        }
        node
    }

    /// Says that something is missing, unless a misspelt field says so already.
    pub(crate) fn lacks(&self, draft: Draft) {
        if !self.misspelt {
            self.reader.push(draft);
        }
    }

    /// The place of the mapping, narrowed to its first key, so that a picture stays small.
    pub(crate) fn first_line(&self) -> Span {
        match &self.node.value {
            Value::Map(fields) if !fields.is_empty() => fields[0].0.span,
            _ => self.node.span,
        }
    }

    /// The place of a field's name.
    pub(crate) fn key_span(&self, name: &str) -> Span {
        match &self.node.value {
            Value::Map(fields) => fields.iter().find(|(key, _)| &*key.value == name).map(|(key, _)| key.span),
            _ => None,
        }
        .unwrap_or(self.node.span)
    }

    /// Says that a field is known and not enforced, for fields that depend on others.
    pub(crate) fn unsupported(&self, name: &str) {
        if self.has(name) {
            self.reader.unsupported(self.key_span(name), format!("`{name}` is not enforced yet"));
        }
    }

    pub(crate) fn text(&self, name: &str) -> Option<At<Str>> {
        self.reader.text(self.get(name)?)
    }

    pub(crate) fn need_text(&self, name: &str) -> Option<At<Str>> {
        let text = self.reader.text(self.need(name)?)?;
        if text.is_empty() {
            self.reader.error(text.span, format!("`{name}` is empty"));
            return None;
        }
        Some(text)
    }

    pub(crate) fn boolean(&self, name: &str) -> Option<bool> {
        let node = self.get(name)?;
        match node.value {
            Value::Bool(value) => Some(value),
            _ => {
                self.reader.wrong_type(node, "true or false");
                None
            }
        }
    }

    pub(crate) fn integer(&self, name: &str, least: i64, most: i64) -> Option<At<i64>> {
        self.reader.integer(self.get(name)?, least, most)
    }

    pub(crate) fn count(&self, name: &str) -> Option<u32> {
        let number = self.integer(name, 0, i64::from(u32::MAX))?;
        u32::try_from(number.value).ok()
    }

    pub(crate) fn port(&self, name: &str) -> Option<At<u16>> {
        self.reader.port(self.get(name)?)
    }

    pub(crate) fn list(&self, name: &str) -> &'a [Node] {
        self.get(name).map(|node| self.reader.items(node)).unwrap_or_default()
    }

    pub(crate) fn texts(&self, name: &str) -> Vec<At<Str>> {
        self.list(name).iter().filter_map(|item| self.reader.text(item)).collect()
    }

    pub(crate) fn labels(&self, name: &str) -> Labels {
        self.get(name).map(|node| self.reader.labels(node)).unwrap_or_default()
    }

    pub(crate) fn choice<T: Copy>(&self, name: &str, words: &[(&'static str, T)]) -> Option<At<T>> {
        self.reader.choice(&self.text(name)?, words)
    }

    pub(crate) fn parsed<T, E: std::fmt::Display>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<At<T>> {
        let text = self.text(name)?;
        self.reader.parse(&text, parse).map(|value| At { value, span: text.span })
    }

    pub(crate) fn duration(&self, name: &str) -> Option<At<Duration>> {
        const EXPECTED: &str = "a duration with its unit, such as 500ms, 10s or 1m30s";
        let node = self.get(name)?;
        let Some(text) = node.as_text() else {
            self.reader
                .push(Draft::error(node.span, format!("found {}", node.describe())).expected(EXPECTED));
            return None;
        };
        let text = At { value: Str::from(text), span: node.span };
        match duration(&text) {
            Some(value) => Some(At { value, span: text.span }),
            None => {
                self.reader.push(
                    Draft::error(text.span, format!("{:?} is not a duration", text.as_str()))
                        .expected(EXPECTED),
                );
                None
            }
        }
    }

    /// A duration of a millisecond or more, as Istio asks of most of them.
    pub(crate) fn span_of_time(&self, name: &str) -> Option<At<Duration>> {
        let time = self.duration(name)?;
        if time.value >= Duration::from_millis(1) {
            return Some(time);
        }
        self.reader.push(Draft::error(time.span, format!("`{name}` is too short")).expected("1ms or more"));
        None
    }

    /// `percent: 0..=100`, as a share.
    pub(crate) fn percent(&self, name: &str) -> Option<At<Share>> {
        self.reader.number(self.get(name)?, 0.0, 100.0).map(|at| at.map(share))
    }

    /// A limit: zero is none, as Istio takes it.
    pub(crate) fn limit(&self, name: &str) -> Option<u32> {
        let number = self.integer(name, 0, i64::from(i32::MAX))?;
        u32::try_from(number.value).ok().filter(|limit| *limit > 0)
    }

    /// Says that of several fields at most one may be there. Gives whether that holds.
    pub(crate) fn exclude(&self, names: &[&'static str]) -> bool {
        let there: Vec<&str> = names.iter().copied().filter(|name| self.has(name)).collect();
        let [_, second, ..] = there.as_slice() else { return true };
        let message = format!("{} exclude each other", all_of(&there));
        self.reader.error(self.key_span(second), message);
        false
    }

    /// A mapping below, with its fields.
    pub(crate) fn fields(
        &self,
        name: &str,
        enforced: &'static [&'static str],
        known: &'static [&'static str],
    ) -> Option<Fields<'a>> {
        self.reader.fields(self.get(name)?, enforced, known)
    }

    /// Mappings in a list below, with their fields.
    pub(crate) fn each(
        &self,
        name: &str,
        enforced: &'static [&'static str],
        known: &'static [&'static str],
    ) -> impl Iterator<Item = Fields<'a>> + use<'a> {
        let reader = self.reader;
        self.list(name).iter().filter_map(move |item| reader.fields(item, enforced, known))
    }
}

/// Reads `1h2m3s4ms`, and fractions such as `1.5s`, as Go and protobuf write durations.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 6] =
        [("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|digits| *digits > 0)?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, factor) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        seconds += number * factor;
    }
    let valid = !text.is_empty() && seconds <= 1e9;
    valid.then(|| Duration::from_nanos((seconds * 1e9).round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, expected) in [
            ("10s", Some(10_000)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("1.5s", Some(1500)),
            ("0s", Some(0)),
            ("10", None),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("99999999999h", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text}");
        }
    }
}
