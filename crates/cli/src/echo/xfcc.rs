//! The header `x-forwarded-client-cert`, in the format that Envoy documents.
//!
//! `By=spiffe://a;Hash=…;Subject="CN=x,O=y";URI=spiffe://b,By=…`: elements apart by commas, pairs by
//! semicolons; a value with one of `,;="` stands in quotes, with `\"` for a quote. Each proxy on the
//! way may append its element, so the last is the nearest caller.

use serde::{Deserialize, Serialize};

/// One element: the certificate that one proxy verified.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The names of the proxy that verified it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
    /// SHA-256 of the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Its URI names: the SPIFFE identity.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uri: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
}

/// Reads every element; pairs without meaning (`Cert`, `Chain`, garbage) are passed over.
pub fn parse(header: &str) -> Vec<Certificate> {
    let elements = split(header, ',').into_iter().map(certificate);
    elements.filter(|certificate| *certificate != Certificate::default()).collect()
}

fn certificate(element: &str) -> Certificate {
    let mut certificate = Certificate::default();
    for pair in split(element, ';') {
        let Some((key, value)) = pair.split_once('=') else { continue };
        let value = unquoted(value.trim());
        match key.trim().to_ascii_lowercase().as_str() {
            "by" => certificate.by.push(value),
            "hash" => certificate.hash = Some(value),
            "subject" => certificate.subject = Some(value),
            "uri" => certificate.uri.push(value),
            "dns" => certificate.dns.push(value),
            _ => {}
        }
    }
    certificate
}

/// Splits at `separator` where it does not stand in quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (index, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == separator && !quoted => {
                parts.push(&text[start..index]);
                start = index + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.to_owned();
    };
    let (mut text, mut escaped) = (String::with_capacity(inner.len()), false);
    for c in inner.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strings(values: &[&str]) -> Vec<String> {
        values.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn reads_what_envoy_writes() {
        let header = r#"By=spiffe://td/ns/a/sa/x;Hash=00ff;Subject="CN=\"q\", O=y;z";URI=spiffe://td/ns/b/sa/y;DNS=b.example,By=spiffe://td/ns/c/sa/z;URI=spiffe://td/ns/d/sa/w"#;
        let first = Certificate {
            by: strings(&["spiffe://td/ns/a/sa/x"]),
            hash: Some("00ff".to_owned()),
            subject: Some(r#"CN="q", O=y;z"#.to_owned()),
            uri: strings(&["spiffe://td/ns/b/sa/y"]),
            dns: strings(&["b.example"]),
        };
        let second = Certificate {
            by: strings(&["spiffe://td/ns/c/sa/z"]),
            uri: strings(&["spiffe://td/ns/d/sa/w"]),
            ..Certificate::default()
        };
        assert_eq!(parse(header), [first, second]);
    }

    #[test]
    fn garbage_says_nothing() {
        for header in ["", ",;,;=", "nothing", "Cert=\"abc\"", "\"", "\\", "By"] {
            assert_eq!(parse(header), [], "{header}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(header in "\\PC*") {
            parse(&header);
        }

        #[test]
        fn any_quoted_value_comes_back(subject in "\\PC*", uri in "spiffe://[a-z/]{1,20}") {
            let escaped = subject.replace('\\', "\\\\").replace('"', "\\\"");
            let parsed = parse(&format!("Subject=\"{escaped}\";URI={uri}"));
            prop_assert_eq!(parsed.len(), 1);
            prop_assert_eq!(parsed[0].subject.as_deref(), Some(subject.as_str()));
            prop_assert_eq!(&parsed[0].uri, &[uri]);
        }
    }
}
