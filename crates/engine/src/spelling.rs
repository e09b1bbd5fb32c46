//! Paths that applications may read in another way than they are written.
//!
//! What is decided on is sent on as it is: the proxy has normalised it as far as the mesh says. Many applications go further:
//! to them `//admin`, `/x%2F..%2Fadmin` and `/admin` are one. A policy must not be passed by spelling a path in such a
//! way, so authorization looks at both readings: a rule that denies matches by either, one that allows by both.

use crate::normalize::decode;

/// The path as the freest reader takes it: what need not be encoded is decoded, encoded slashes and backslashes are slashes,
/// several are one, dots are resolved, above the root too. None where there is nothing to read in another way.
pub(crate) fn freest(path: &str) -> Option<String> {
    let mut before = 0;
    let free = path.bytes().any(|byte| {
        let after_slash = std::mem::replace(&mut before, byte) == b'/';
        matches!(byte, b'%' | b'\\') || (after_slash && matches!(byte, b'/' | b'.'))
    });
    if !free {
        return None;
    }
    let decoded = decode(path, true)?;
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
    Some(format!("/{}{end}", segments.join("/"))).filter(|read| read != path)
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
            // Where the mesh normalises nothing, these come as they were sent.
            ("/x/../admin", Some("/admin")),
            ("/%61dmin", Some("/admin")),
            ("/x/%2e%2E/admin", Some("/admin")),
            ("/x\\..\\admin", Some("/admin")),
            ("/../admin/.", Some("/admin/")),
            ("/.hidden", None),
            ("/é%2F%2F..%2Fü", Some("/ü")),
        ] {
            assert_eq!(freest(path).as_deref(), expected, "{path}");
        }
    }
}
