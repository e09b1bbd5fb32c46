//! One file to its documents, so that a broken one does not hide the others.

/// The text of one document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Document<'a> {
    pub(crate) text: &'a str,
    /// The line of the file it begins at, from 1.
    pub(crate) line: u32,
}

/// Cuts at lines that begin with `---` or `...`: in YAML these end a document wherever they stand, even
/// within a quoted text (YAML 1.2.2, 9.1.2 `c-forbidden`). Empty documents are left out.
pub(crate) fn documents(text: &str) -> impl Iterator<Item = Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rest = text;
    let mut line = 1u32;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (length, lines) = extent(rest);
            let document = Document { text: &rest[..length], line };
            rest = &rest[length..];
            line += lines;
            if has_content(document.text) {
                return Some(document);
            }
        }
        None
    })
}

/// How many bytes and lines the first document has.
fn extent(text: &str) -> (usize, u32) {
    let mut length = 0;
    let mut lines = 0;
    for line in text.split_inclusive('\n') {
        let ends = marker(line, "...");
        if lines > 0 && marker(line, "---") {
            break;
        }
        length += line.len();
        lines += 1;
        if ends {
            break;
        }
    }
    (length, lines)
}

fn marker(line: &str, mark: &str) -> bool {
    line.strip_prefix(mark).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Whether there is more than blank lines, comments, directives and markers.
fn has_content(text: &str) -> bool {
    text.lines().any(|line| {
        let line = if marker(line, "---") || marker(line, "...") { &line[3..] } else { line };
        let trimmed = line.trim();
        !trimmed.is_empty() && !trimmed.starts_with('#') && !line.starts_with('%')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_know_their_lines() {
        let cases: [(&str, &[(&str, u32)]); 7] = [
            ("", &[]),
            ("a: 1\n", &[("a: 1\n", 1)]),
            ("---\na: 1\n---\nb: 2", &[("---\na: 1\n", 1), ("---\nb: 2", 3)]),
            ("# only words\n---\n\n--- {a: 1}\n", &[("--- {a: 1}\n", 4)]),
            ("a: 1\n...\nb: 2\n", &[("a: 1\n...\n", 1), ("b: 2\n", 3)]),
            ("a: '\n---\nb: 2\n", &[("a: '\n", 1), ("---\nb: 2\n", 2)]),
            ("---x: 1\n ---\n", &[("---x: 1\n ---\n", 1)]),
        ];
        for (text, expected) in cases {
            let found: Vec<_> = documents(text).map(|document| (document.text, document.line)).collect();
            assert_eq!(found, expected, "{text:?}");
        }
    }
}
