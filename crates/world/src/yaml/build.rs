//! Events to a tree.

use super::node::Field;
use super::{Document, MAX_DEPTH, Node, Value};
use crate::problem::{At, Draft, Span};
use granit_parser::{Event, Parser, ScalarStyle, Tag};
use std::collections::HashMap;

/// A document as far as it could be read.
pub(crate) struct Built {
    pub(crate) root: Option<Node>,
    /// What is wrong with it.
    pub(crate) drafts: Vec<Draft>,
    /// It broke in the middle: what stands behind the last draft is not known.
    pub(crate) cut: bool,
}

/// Reads a document; `budget` is the number of nodes left for the whole file.
pub(crate) fn build(document: Document<'_>, budget: &mut usize) -> Built {
    let mut builder = Builder {
        document,
        stack: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        drafts: Vec::new(),
        budget,
    };
    let ended = builder.run();
    let cut = ended.is_err();
    if let Err(draft) = ended {
        builder.drafts.push(draft);
        builder.close();
    }
    Built { root: builder.root, drafts: builder.drafts, cut }
}

/// A collection that is still open.
enum Frame {
    List { span: Span, anchor: usize, items: Vec<Node> },
    Map { span: Span, anchor: usize, fields: Vec<Field>, key: Option<At<Box<str>>> },
}

struct Builder<'a> {
    document: Document<'a>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    drafts: Vec<Draft>,
    budget: &'a mut usize,
}

impl Builder<'_> {
    fn run(&mut self) -> Result<(), Draft> {
        for event in Parser::new_from_str(self.document.text) {
            let (event, span) = event.map_err(|error| self.syntax(&error))?;
            let span = self.place(span);
            match event {
                Event::Scalar(text, style, anchor, tag) => {
                    let value = scalar(&text, style, tag.as_deref());
                    self.add(Node { span, value }, anchor, Some(&text))?;
                }
                Event::SequenceStart(_, anchor, _) => {
                    self.open(Frame::List { span, anchor, items: Vec::new() }, span)?;
                }
                Event::MappingStart(_, anchor, _) => {
                    self.open(Frame::Map { span, anchor, fields: Vec::new(), key: None }, span)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.end(span.end)?,
                Event::Alias(id) => {
                    // An alias within the anchor it names has nothing to stand for yet.
                    let node = self.anchors.get(&id).cloned();
                    let mut node = node.ok_or_else(|| Draft::error(span, "this alias refers to itself"))?;
                    self.spend(node.count(), span)?;
                    node.span = span;
                    self.check_depth(self.stack.len() + depth(&node), span)?;
                    let text = node.as_text().map(str::to_owned);
                    self.add(node, 0, text.as_deref())?;
                }
                Event::DocumentEnd => break,
                _ => {}
            }
        }
        Ok(())
    }

    fn place(&self, span: granit_parser::Span) -> Span {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let range = span.byte_range().unwrap_or_default();
        Span {
            line: number(span.start.line()).saturating_add(self.document.line - 1),
            column: number(span.start.col()).saturating_add(1),
            start: number(range.start),
            end: number(range.end),
        }
    }

    fn syntax(&self, error: &granit_parser::ScanError) -> Draft {
        let span = self.place(granit_parser::Span::empty(*error.marker()));
        let start = error.marker().byte_offset().unwrap_or(0).min(self.document.text.len());
        let rest = self.document.text.get(start..).unwrap_or_default();
        let end = start + rest.find('\n').unwrap_or(rest.len());
        let span = Span { start: start as u32, end: end as u32, ..span };
        let draft = Draft::error(span, format!("this is not YAML: {}", error.info()));
        match hint(&error.info(), self.document.text.get(start..).unwrap_or_default()) {
            Some(expected) => draft.expected(expected),
            None => draft,
        }
    }

    fn spend(&mut self, nodes: usize, span: Span) -> Result<(), Draft> {
        *self.budget = self.budget.checked_sub(nodes).ok_or_else(|| {
            Draft::error(span, "the file has too many values; split it, and do not nest aliases")
        })?;
        Ok(())
    }

    fn check_depth(&self, depth: usize, span: Span) -> Result<(), Draft> {
        if depth < MAX_DEPTH {
            return Ok(());
        }
        Err(Draft::error(span, format!("this is nested deeper than {MAX_DEPTH} levels")))
    }

    fn open(&mut self, frame: Frame, span: Span) -> Result<(), Draft> {
        self.check_depth(self.stack.len(), span)?;
        self.stack.push(frame);
        Ok(())
    }

    /// The innermost collection is complete.
    fn end(&mut self, end: u32) -> Result<(), Draft> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let (node, anchor) = self.finish(frame, end)?;
        self.add(node, anchor, None)
    }

    fn finish(&mut self, frame: Frame, end: u32) -> Result<(Node, usize), Draft> {
        Ok(match frame {
            Frame::List { span, anchor, items } => (
                Node { span: Span { end: self.trimmed(span.start, end), ..span }, value: Value::List(items) },
                anchor,
            ),
            Frame::Map { span, anchor, fields, .. } => {
                let span = Span { end: self.trimmed(span.start, end), ..span };
                let fields = self.merge(fields)?;
                (Node { span, value: Value::Map(fields) }, anchor)
            }
        })
    }

    /// Blank space and comments after a block collection do not belong to it.
    fn trimmed(&self, start: u32, end: u32) -> u32 {
        let text = self.document.text.get(start as usize..end as usize).unwrap_or_default();
        start + text.trim_end().len() as u32
    }

    fn add(&mut self, node: Node, anchor: usize, key_text: Option<&str>) -> Result<(), Draft> {
        self.spend(1, node.span)?;
        if anchor != 0 {
            self.spend(node.count(), node.span)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { fields, key, .. }) => match key.take() {
                Some(name) => fields.push((name, node)),
                None => {
                    let text = key_text.ok_or_else(|| Draft::error(node.span, "a key must be plain text"))?;
                    *key = Some(At { value: text.into(), span: node.span });
                }
            },
        }
        Ok(())
    }

    /// Refuses double keys, and takes `<<` in where a key is not said.
    fn merge(&mut self, fields: Vec<Field>) -> Result<Vec<Field>, Draft> {
        let mut own: Vec<Field> = Vec::with_capacity(fields.len());
        let mut places: HashMap<Box<str>, u32> = HashMap::with_capacity(fields.len());
        let mut merged = Vec::new();
        for (key, node) in fields {
            if &*key.value == "<<" && matches!(node.value, Value::Map(_) | Value::List(_)) {
                merged.push(node);
            } else if let Some(line) = places.get(&*key.value) {
                let message = format!("the key {:?} stands in line {line} already", key.value);
                self.drafts.push(Draft::error(key.span, message));
            } else {
                places.insert(key.value.clone(), key.span.line);
                own.push((key, node));
            }
        }
        for node in merged {
            let sources = match node.value {
                Value::List(items) => items,
                _ => vec![node],
            };
            for source in sources {
                let Value::Map(fields) = source.value else {
                    return Err(Draft::error(source.span, "'<<' takes in mappings only"));
                };
                for (key, value) in fields {
                    if !places.contains_key(&*key.value) {
                        places.insert(key.value.clone(), key.span.line);
                        own.push((key, value));
                    }
                }
            }
        }
        Ok(own)
    }

    /// After an error: what is open ends here, so that what was read so far can be looked at.
    fn close(&mut self) {
        let end = self.document.text.len() as u32;
        *self.budget += MAX_DEPTH * 2;
        while let Some(frame) = self.stack.pop() {
            let Ok((node, _)) = self.finish(frame, end) else { return };
            match self.stack.last_mut() {
                None => self.root = Some(node),
                Some(Frame::List { items, .. }) => items.push(node),
                Some(Frame::Map { fields, key, .. }) => fields.extend(key.take().map(|key| (key, node))),
            }
        }
    }
}

fn depth(node: &Node) -> usize {
    let mut deepest = 0;
    let mut rest = vec![(node, 1)];
    while let Some((node, level)) = rest.pop() {
        deepest = deepest.max(level);
        match &node.value {
            Value::List(items) => rest.extend(items.iter().map(|item| (item, level + 1))),
            Value::Map(fields) => rest.extend(fields.iter().map(|(_, node)| (node, level + 1))),
            _ => {}
        }
    }
    deepest
}

/// YAML's core schema for plain text; everything quoted is text.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    if style != ScalarStyle::Plain || tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str")) {
        return Value::Text(text.into());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let first = text.bytes().next().unwrap_or_default();
    if !(first.is_ascii_digit() || matches!(first, b'+' | b'-' | b'.')) {
        return Value::Text(text.into());
    }
    let radix = |prefix, radix| {
        text.strip_prefix(prefix)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_alphanumeric()))
            .and_then(|digits| i64::from_str_radix(digits, radix).ok())
    };
    let number = text.parse().ok().or_else(|| radix("0x", 16)).or_else(|| radix("0o", 8));
    match (number, text.parse::<f64>()) {
        (Some(number), _) => Value::Integer(number),
        (None, Ok(number)) if text.bytes().any(|b| b.is_ascii_digit()) => Value::Float(number),
        _ => Value::Text(text.into()),
    }
}

/// What people meant who ran into one of the traps of YAML.
fn hint(problem: &str, at: &str) -> Option<String> {
    let alias = problem.contains("unknown anchor") || problem.contains("anchor or alias");
    if alias && at.starts_with('*') {
        let text: String = at.chars().take_while(|c| !c.is_whitespace() && !",]}#".contains(*c)).collect();
        return Some(format!("quotes around a text that begins with `*`: \"{text}\""));
    }
    problem.contains("tab").then(|| "spaces, no tabs, before the first word of a line".to_owned())
}
