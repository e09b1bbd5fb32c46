//! One spelling for each path, before anybody decides by it.
//!
//! A policy that denies `/admin` must see `/x/../admin` and `/%61dmin` for what the application will make of them. What is
//! decided on is what is sent on. How far this goes is the mesh's to say (Istio's `pathNormalization.normalization`); the
//! order is Istio's too: escaped slashes, then RFC 3986 section 6.2.2, then double slashes. Where slashes that are doubled
//! or encoded are kept, since they mean something to some applications, authorization looks at such a path in both
//! readings.

use std::borrow::Cow;

use lateen_model::PathNormalization;

/// Path and query with the path normalised. None if the path climbs above its root or holds a NUL, which no honest
/// client sends; with [`PathNormalization::None`] nothing is looked at.
#[must_use]
pub fn normalize_path(target: &str, mode: PathNormalization) -> Option<Cow<'_, str>> {
    let end = target.bytes().position(|byte| byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    if !needs_work(path, mode) {
        return Some(Cow::Borrowed(target));
    }
    let decoded = decode(path, mode == PathNormalization::DecodeAndMergeSlashes)?;
    let mut path = without_dots(&decoded)?;
    if mode != PathNormalization::Base {
        merge_slashes(&mut path);
    }
    path.push_str(query);
    Some(Cow::Owned(path))
}

/// Whether anything in the path could be spelt otherwise.
fn needs_work(path: &str, mode: PathNormalization) -> bool {
    if mode == PathNormalization::None {
        return false;
    }
    let merges = mode != PathNormalization::Base;
    let mut before = 0;
    path.bytes().any(|byte| {
        let after_slash = std::mem::replace(&mut before, byte) == b'/';
        matches!(byte, b'%' | b'\\') || (after_slash && (byte == b'.' || (merges && byte == b'/')))
    })
}

/// Decodes what need not be encoded, and writes the rest of the escapes in capitals; `slashes` says whether slashes are
/// decoded too. A backslash becomes a slash.
pub(crate) fn decode(path: &str, slashes: bool) -> Option<String> {
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
        let byte = after.get(..2).and_then(escaped);
        match byte {
            Some(0) => return None,
            Some(b'/' | b'\\') if slashes => out.push('/'),
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

/// Two hexadecimal digits; no sign, as numbers may have.
fn escaped(digits: &str) -> Option<u8> {
    let valid = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    valid.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Removes dot segments (RFC 3986 section 5.2.4).
fn without_dots(path: &str) -> Option<String> {
    let mut out: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
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
        if segments.peek().is_none() {
            out.push("");
        }
    }
    Some(format!("/{}", out.join("/")))
}

fn merge_slashes(path: &mut String) {
    let mut before = None;
    path.retain(|char| {
        let again = char == '/' && before == Some('/');
        before = Some(char);
        !again
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None as AsItCame};

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
            ("/a%+1b", Some("/a%+1b")),
            ("/a\\..\\b", Some("/b")),
            ("/.hidden/..x", Some("/.hidden/..x")),
            ("/a//b", Some("/a//b")),
            ("/a//../b", Some("/a/b")),
            ("/..", None),
            ("/a/../../b", None),
            ("/a%00", None),
            ("*", Some("*")),
        ] {
            assert_eq!(normalize_path(target, Base).as_deref(), expected, "{target}");
        }
    }

    /// Istio's table (MeshConfig.ProxyPathNormalization), and what lies between its lines.
    #[test]
    fn modes() {
        let modes = [AsItCame, Base, MergeSlashes, DecodeAndMergeSlashes];
        for (target, expected) in [
            ("/a/../b", ["/a/../b", "/b", "/b", "/b"]),
            ("/\\da", ["/\\da", "//da", "/da", "/da"]),
            ("\\da", ["\\da", "/da", "/da", "/da"]),
            ("/a//b", ["/a//b", "/a//b", "/a/b", "/a/b"]),
            ("///a////", ["///a////", "///a////", "/a/", "/a/"]),
            ("/a%2fb", ["/a%2fb", "/a%2Fb", "/a%2Fb", "/a/b"]),
            ("/a%5Cb", ["/a%5Cb", "/a%5Cb", "/a%5Cb", "/a/b"]),
            ("/a/%2f%2F/b", ["/a/%2f%2F/b", "/a/%2F%2F/b", "/a/%2F%2F/b", "/a/b"]),
            ("/a%2f..%2fb", ["/a%2f..%2fb", "/a%2F..%2Fb", "/a%2F..%2Fb", "/b"]),
            ("/a%252fb", ["/a%252fb", "/a%252fb", "/a%252fb", "/a%252fb"]),
            ("/a?b=//%2f", ["/a?b=//%2f"; 4]),
            ("//a?b=//", ["//a?b=//", "//a?b=//", "/a?b=//", "/a?b=//"]),
        ] {
            let found =
                modes.map(|mode| normalize_path(target, mode).map_or("refused".into(), Cow::into_owned));
            assert_eq!(found, expected, "{target}");
        }
        assert_eq!(normalize_path("/..%2f%00", AsItCame).as_deref(), Some("/..%2f%00"));
        assert_eq!(normalize_path("/a%2f..%2f..%2fb", DecodeAndMergeSlashes), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_left_to_normalize(target in "/[!-~]{0,40}") {
            for mode in [Base, MergeSlashes, DecodeAndMergeSlashes] {
                let Some(once) = normalize_path(&target, mode).map(Cow::into_owned) else { continue };
                proptest::prop_assert!(once.starts_with('/'));
                let (path, _) = once.split_once('?').unwrap_or((&once, ""));
                let dots = path.split('/').any(|segment| segment == "." || segment == "..");
                proptest::prop_assert!(!dots, "{once}");
                proptest::prop_assert!(mode == Base || !path.contains("//"), "{once}");
            }
        }
    }
}
