//! Paths that applications may read in another way than they are written.
//!
//! What is decided on is sent on as it is: the proxy has normalised it by RFC 3986 alone. Many applications go further:
//! to them `//admin`, `/x%2F..%2Fadmin` and `/admin` are one. A policy must not be passed by spelling a path in such a
//! way, so authorization looks at both readings: a rule that denies matches by either, one that allows by both.

use std::borrow::Cow;

/// The path as the freest reader takes it: encoded slashes are slashes, several are one, dots are resolved. None where
/// there is nothing to read in another way.
pub(crate) fn freest(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    let doubled = bytes.windows(2).any(|pair| pair == b"//");
    if !doubled && !bytes.contains(&b'%') {
        return None;
    }
    let decoded = decode_slashes(path);
    if !doubled && matches!(decoded, Cow::Borrowed(_)) {
        return None;
    }
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_in_slash = false;
    for segment in decoded.split('/') {
        ends_in_slash = true;
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => {
                segments.push(segment);
                ends_in_slash = false;
            }
        }
    }
    let end = if ends_in_slash && !segments.is_empty() { "/" } else { "" };
    Some(format!("/{}{end}", segments.join("/")))
}

/// `%2F` and `%5C` in any case of letters as slashes.
fn decode_slashes(path: &str) -> Cow<'_, str> {
    let is_slash = |at: usize| {
        let code = path.as_bytes().get(at + 1..at + 3);
        code.is_some_and(|code| code.eq_ignore_ascii_case(b"2f") || code.eq_ignore_ascii_case(b"5c"))
    };
    let mut out = String::new();
    let mut from = 0;
    for (at, _) in path.match_indices('%').filter(|(at, _)| is_slash(*at)) {
        out.push_str(&path[from..at]);
        out.push('/');
        from = at + 3;
    }
    if from == 0 {
        return Cow::Borrowed(path);
    }
    out.push_str(&path[from..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_freest_reading() {
        for (path, expected) in [
            ("/admin/x", None),
            ("/a%20b", None),
            ("/a%2", None),
            ("/", None),
            ("//admin//x", Some("/admin/x")),
            ("/admin%2Fx", Some("/admin/x")),
            ("/x%2f..%5Cadmin", Some("/admin")),
            ("/x//..//../admin/", Some("/admin/")),
            ("//", Some("/")),
            ("/é%2F%2F..%2Fü", Some("/ü")),
        ] {
            assert_eq!(freest(path).as_deref(), expected, "{path}");
        }
    }
}
