//! PEM (RFC 7468): certificates as text, and the private key as text that does not show.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

/// No PEM text we read is longer, in bytes.
pub(crate) const MAX_PEM: usize = 1 << 20;

/// The PEM text of a private key. Wiped when dropped; its `Debug` shows nothing.
pub struct SecretPem(pub(crate) Zeroizing<String>);

impl SecretPem {
    /// Takes the text in.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text, to write it where only its owner can read.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretPem(..)")
    }
}

/// One PEM block; in wiped memory, since it may hold a key.
pub(crate) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let lines = Zeroizing::new(STANDARD.encode(der));
    // Exact capacity, so that the text never moves and leaves a copy behind.
    let length = 2 * (label.len() + 20) + lines.len() + lines.len() / 64 + 2;
    let mut text = Zeroizing::new(String::with_capacity(length));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = lines.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    debug_assert!(text.len() <= length, "the text must not have moved");
    text
}

/// Certificates as text, in order.
pub(crate) fn encode_certificates<'a>(
    chain: impl IntoIterator<Item = &'a CertificateDer<'static>>,
) -> String {
    chain.into_iter().map(|certificate| encode("CERTIFICATE", certificate).to_string()).collect()
}

/// The certificates in a text, in order; other blocks are passed over. `None` when the text is too long, has a broken
/// block, or more than `most`.
pub(crate) fn certificates(text: &str, most: usize) -> Option<Vec<CertificateDer<'static>>> {
    if text.len() > MAX_PEM {
        return None;
    }
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(text.as_bytes()).take(most + 1).collect::<Result<_, _>>().ok()?;
    (found.len() <= most).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(der: Vec<u8>) {
            let certificate = CertificateDer::from(der);
            let text = encode_certificates([&certificate, &certificate]);
            prop_assert_eq!(certificates(&text, 2), Some(vec![certificate.clone(), certificate]));
            prop_assert_eq!(certificates(&text, 1), None);
        }

        #[test]
        fn any_text_is_refused_or_read(text: String) {
            drop(certificates(&text, 3));
        }
    }

    #[test]
    fn a_secret_does_not_show() {
        assert_eq!(format!("{:?}", SecretPem::new("key".into())), "SecretPem(..)");
    }
}
