//! Header fields: names and values as ranges of one text, in the order and the case in which they came.

use super::{Known, Span};

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    name: Span,
    value: Span,
    /// What the name is to the proxy.
    pub known: Known,
    removed: bool,
}

/// The fields of a head or of a trailer section.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    text: Vec<u8>,
    fields: Vec<Field>,
}

impl Fields {
    /// Every field as name and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.live().map(|field| (field.name.of(&self.text), field.value.of(&self.text)))
    }

    /// Every field with what its name is known as.
    pub fn iter_known(&self) -> impl Iterator<Item = (Known, &[u8], &[u8])> {
        self.live().map(|field| (field.known, field.name.of(&self.text), field.value.of(&self.text)))
    }

    /// Every field with what its name is known as, and where in the text its name and its value are.
    pub(crate) fn spans(&self) -> impl Iterator<Item = (Known, Span, Span)> {
        self.live().map(|field| (field.known, field.name, field.value))
    }

    /// The first value under `name`, which is matched in any case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// The first value of a known field.
    #[must_use]
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        self.live().find(|field| field.known == known).map(|field| field.value.of(&self.text))
    }

    /// The first value of a known field as text.
    #[must_use]
    pub fn known_str(&self, known: Known) -> Option<&str> {
        self.known(known).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// How many fields there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live().count()
    }

    /// Whether there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live().next().is_none()
    }

    /// Adds a field after the others. The caller vouches for name and value: a token, and no control character.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        debug_assert!(is_value(value));
        let (name_span, value_span) = (self.append(name), self.append(value));
        self.push(name_span, value_span, Known::of(name));
    }

    /// Gives `name` this one value.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.add(name, value);
    }

    /// Gives `name` a value that is already in the text.
    pub(crate) fn set_span(&mut self, name: &[u8], value: Span) {
        self.remove(name);
        let span = self.append(name);
        self.push(span, value, Known::of(name));
    }

    /// Gives a known field this one value, as the last field.
    pub(crate) fn set_known(&mut self, known: Known, name: &[u8], value: &[u8]) {
        debug_assert!(is_value(value) && Known::of(name) == known);
        self.remove_known(|found| found == known);
        let (name, value) = (self.append(name), self.append(value));
        self.push(name, value, known);
    }

    /// Removes every field of this name.
    pub fn remove(&mut self, name: &[u8]) {
        let Self { text, fields } = self;
        for field in fields.iter_mut().filter(|field| field.name.of(text).eq_ignore_ascii_case(name)) {
            field.removed = true;
        }
    }

    /// Removes every field that `unwanted` names.
    pub fn remove_known(&mut self, unwanted: impl Fn(Known) -> bool) {
        for field in self.fields.iter_mut().filter(|field| unwanted(field.known)) {
            field.removed = true;
        }
    }

    /// Forgets all fields; keeps the memory, unless one large head has blown it up.
    pub fn clear(&mut self) {
        const KEPT: usize = 16 * 1024;
        self.fields.clear();
        self.text.clear();
        self.text.shrink_to(KEPT);
    }

    /// Replaces the text by a copy of `head`, whose ranges `push` then names.
    pub(crate) fn load(&mut self, head: &[u8]) {
        self.fields.clear();
        self.text.clear();
        self.text.extend_from_slice(head);
    }

    /// Puts bytes behind the text, for a span of this head.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Span {
        let start = self.text.len();
        self.text.extend_from_slice(bytes);
        Span::new(start, self.text.len())
    }

    pub(crate) fn push(&mut self, name: Span, value: Span, known: Known) {
        self.fields.push(Field { name, value, known, removed: false });
    }

    /// Gives a known field a value that is already in the text, in place if the field is there.
    pub(crate) fn replace_known(&mut self, known: Known, name: &[u8], value: Span) {
        let mut found = false;
        for field in self.fields.iter_mut().filter(|field| field.known == known && !field.removed) {
            (field.removed, field.value) = (found, value);
            found = true;
        }
        if !found {
            let name = self.append(name);
            self.push(name, value, known);
        }
    }

    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    fn live(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| !field.removed)
    }
}

/// Whether `value` may be written into a head: no control character but tab (RFC 9110 section 5.5).
#[must_use]
pub fn is_value(value: &[u8]) -> bool {
    value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_replaces_in_any_case_and_keeps_the_rest_in_order() {
        let mut fields = Fields::default();
        for (name, value) in [("A", "1"), ("b", "2"), ("a", "3"), ("c", "4")] {
            fields.add(name.as_bytes(), value.as_bytes());
        }
        fields.set(b"a", b"5");
        let seen: Vec<_> = fields.iter().map(|(n, v)| [n, v].concat()).collect();
        assert_eq!(seen, [b"b2", b"c4", b"a5"]);
        assert_eq!(fields.get("A"), Some(b"5".as_slice()));
    }

    #[test]
    fn an_authority_replaces_host_in_place() {
        let mut head = super::super::RequestHead::default();
        head.fields.add(b"Host", b"old");
        head.fields.add(b"x", b"y");
        head.set_authority("new:80");
        let seen: Vec<_> = head.fields.iter().map(|(n, v)| [n, v].concat()).collect();
        assert_eq!(seen, [b"Hostnew:80".to_vec(), b"xy".to_vec()]);
    }
}
