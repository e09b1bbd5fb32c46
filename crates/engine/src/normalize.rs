//! One spelling for each path, before anybody decides by it.
//!
//! A policy that denies `/admin` must see `/x/../admin` and `/%61dmin` for what the application will make of them. What
//! is decided on is what is sent on (Istio's `pathNormalization: BASE`: RFC 3986 section 6.2.2, and backslashes as
//! slashes). Slashes that are doubled or encoded mean something to some applications and are kept; authorization looks at
//! such a path in both readings.

use std::borrow::Cow;

/// Path and query with the path normalised. None if the path climbs above its root or holds a NUL, which no honest
/// client sends.
#[must_use]
pub fn normalize_path(target: &str) -> Option<Cow<'_, str>> {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    if !needs_work(path) {
        return Some(Cow::Borrowed(target));
    }
    let decoded = decode_unreserved(path)?;
    let mut out: Vec<&str> = Vec::new();
    let mut segments = decoded.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => {
                out.pop()?;
            }
            segment => {
                out.push(segment);
                continue;
            }
        }
        if last {
            out.push("");
        }
    }
    Some(Cow::Owned(format!("/{}{query}", out.join("/"))))
}

/// Whether anything in the path could be spelt otherwise.
fn needs_work(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.iter().any(|byte| matches!(byte, b'%' | b'\\')) || path.contains("/.")
}

/// Decodes what need not be encoded, and writes the rest of the escapes in capitals.
fn decode_unreserved(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\']) {
        out.push_str(&rest[..at]);
        let (special, after) = rest[at..].split_at(1);
        if special == "\\" {
            out.push('/');
            rest = after;
            continue;
        }
        let byte = after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte {
            Some(0) => return None,
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => out.push(byte as char),
            Some(byte) => out.push_str(&format!("%{byte:02X}")),
            // No escape: left as it is, it means a percent sign to most.
            None => out.push('%'),
        }
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling() {
        for (target, expected) in [
            ("/", Some("/")),
            ("/a/b?x=/../y", Some("/a/b?x=/../y")),
            ("/a/../b", Some("/b")),
            ("/a/./b/.", Some("/a/b/")),
            ("/a/b/..", Some("/a/")),
            ("/a/%2e%2E/b", Some("/b")),
            ("/%61dmin", Some("/admin")),
            ("/a%2fb%zz%", Some("/a%2Fb%zz%")),
            ("/a\\..\\b", Some("/b")),
            ("/.hidden/..x", Some("/.hidden/..x")),
            ("/..", None),
            ("/a/../../b", None),
            ("/a%00", None),
            ("*", Some("*")),
        ] {
            assert_eq!(normalize_path(target).as_deref(), expected, "{target}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_dots_are_left(target in "/[!-~]{0,40}") {
            let once = normalize_path(&target).map(Cow::into_owned).unwrap_or_else(|| "/".to_owned());
            proptest::prop_assert!(once.starts_with('/'));
            let (path, _) = once.split_once('?').unwrap_or((&once, ""));
            proptest::prop_assert!(!path.split('/').any(|segment| segment == "." || segment == ".."), "{once}");
            let _ = normalize_path(&once);
        }
    }
}
