//! `Node`: a value and where it stands.

use crate::problem::{At, Span};

/// A value and where it stands.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
}

/// A key and its value.
pub(crate) type Field = (At<Box<str>>, Node);

/// What YAML's core schema knows.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(Box<str>),
    List(Vec<Node>),
    Map(Vec<Field>),
}

impl Node {
    /// What it is, for messages.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Integer(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The value of a field that is there and not null.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        let Value::Map(fields) = &self.value else { return None };
        let (_, node) = fields.iter().find(|(key, _)| &*key.value == name)?;
        (node.value != Value::Null).then_some(node)
    }

    /// The text, when it is a string.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The items, when it is a list.
    pub(crate) fn as_list(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// How many nodes it is made of; bounded by the budget it was built under.
    pub(crate) fn count(&self) -> usize {
        let mut total = 0;
        let mut rest = vec![self];
        while let Some(node) = rest.pop() {
            total += 1;
            match &node.value {
                Value::List(items) => rest.extend(items),
                Value::Map(fields) => rest.extend(fields.iter().map(|(_, node)| node)),
                _ => {}
            }
        }
        total
    }

    /// The path (`spec.http[0].route`) of the innermost field that stands at this place.
    pub(crate) fn path_to(&self, span: Span) -> String {
        let within = |outer: Span| outer.start <= span.start && span.start < outer.end.max(outer.start + 1);
        let mut path = String::new();
        let mut node = self;
        loop {
            let next = match &node.value {
                Value::List(items) => {
                    items.iter().enumerate().find(|(_, item)| within(item.span)).map(|(index, item)| {
                        path.push_str(&format!("[{index}]"));
                        item
                    })
                }
                Value::Map(fields) => fields
                    .iter()
                    .find(|(key, node)| within(key.span) || within(node.span))
                    .map(|(key, node)| {
                        path.push_str(if path.is_empty() { "" } else { "." });
                        path.push_str(&key.value);
                        node
                    }),
                _ => None,
            };
            match next {
                Some(next) if within(next.span) => node = next,
                _ => return path,
            }
        }
    }
}
