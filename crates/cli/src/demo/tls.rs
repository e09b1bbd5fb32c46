//! What a recorded stream of bytes is: TLS 1.3 records, or something else.

/// What was found in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Found {
    /// Records that hold application data.
    pub(super) application_records: usize,
    /// Bytes in them.
    pub(super) application_bytes: usize,
    /// A server chose TLS 1.3 (RFC 8446 4.2.1: `supported_versions` in its hello).
    pub(super) chose_tls13: bool,
}

const HANDSHAKE: u8 = 22;
const APPLICATION: u8 = 23;

/// Reads a stream from its first byte; `None` when something in it is no TLS record.
pub(super) fn read(mut stream: &[u8]) -> Option<Found> {
    let mut found = Found::default();
    while let Some((head, rest)) = stream.split_first_chunk::<5>() {
        let [kind, 3, 1..=3, high, low] = *head else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !(20..=23).contains(&kind) || length > 16_384 + 256 {
            return None;
        }
        // The recording may end within a record.
        let body = &rest[..length.min(rest.len())];
        match kind {
            HANDSHAKE => found.chose_tls13 |= is_server_hello_of_tls13(body),
            APPLICATION => {
                found.application_records += 1;
                found.application_bytes += body.len();
            }
            _ => {}
        }
        stream = &rest[body.len()..];
    }
    Some(found)
}

fn is_server_hello_of_tls13(message: &[u8]) -> bool {
    // Type, length, version, random, session id, cipher suite, compression; then the extensions.
    let Some((2, rest)) = message.split_first().map(|(kind, rest)| (*kind, rest)) else { return false };
    let Some(session) = rest.get(3 + 2 + 32) else { return false };
    let Some(mut extensions) = rest.get(3 + 2 + 32 + 1 + usize::from(*session) + 2 + 1 + 2..) else {
        return false;
    };
    while let Some(([kind1, kind2, high, low], rest)) = extensions.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((value, rest)) = rest.split_at_checked(length) else { return false };
        if [*kind1, *kind2] == [0, 43] {
            return value == [3, 4];
        }
        extensions = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_is_no_tls() {
        assert_eq!(read(b"GET / HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn a_server_hello_says_its_version() {
        let mut hello = vec![2, 0, 0, 0, 3, 3];
        hello.extend([7; 32]);
        hello.extend([0, 0x13, 1, 0, 0, 6, 0, 43, 0, 2, 3, 4]);
        let mut stream = vec![22, 3, 3, 0, u8::try_from(hello.len()).unwrap()];
        stream.extend(&hello);
        stream.extend([23, 3, 3, 0, 3, 1, 2, 3]);
        let found = Found { application_records: 1, application_bytes: 3, chose_tls13: true };
        assert_eq!(read(&stream), Some(found));
        for cut in 0..stream.len() {
            let _ = read(&stream[..cut]);
        }
    }
}
