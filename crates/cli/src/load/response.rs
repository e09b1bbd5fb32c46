//! Where an HTTP/1.1 response ends, without keeping it.
//!
//! Pure: bytes in, progress out. Follows RFC 9112, section 6.3.

use super::tally::ErrorKind;

/// More than this of head is no head.
const LONGEST_HEAD: usize = 64 << 10;

/// A head that was read whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) length: usize,
    pub(super) body: Body,
    /// Whether the connection may carry another request.
    pub(super) keeps_alive: bool,
}

/// How the end of the body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Sized(u64),
    Chunked,
    UntilClose,
}

/// Reads the head at the start of `bytes`; `None` when more bytes are needed.
pub(super) fn head(bytes: &[u8], is_head_request: bool) -> Result<Option<Head>, ErrorKind> {
    let mut headers = [httparse::EMPTY_HEADER; 96];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < LONGEST_HEAD => return Ok(None),
        _ => return Err(ErrorKind::Malformed),
    };
    let status = response.code.ok_or(ErrorKind::Malformed)?;
    let mut keeps_alive = response.version == Some(1);
    let (mut size, mut chunked) = (None, false);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            size = Some(decimal(header.value)?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = ends_with(header.value, b"chunked");
        } else if header.name.eq_ignore_ascii_case("connection") && ends_with(header.value, b"close") {
            keeps_alive = false;
        }
    }
    let body = match (chunked, size) {
        _ if is_head_request || status < 200 || status == 204 || status == 304 => Body::Sized(0),
        (true, _) => Body::Chunked,
        (false, Some(size)) => Body::Sized(size),
        (false, None) => Body::UntilClose,
    };
    Ok(Some(Head { status, length, body, keeps_alive: keeps_alive && body != Body::UntilClose }))
}

fn decimal(value: &[u8]) -> Result<u64, ErrorKind> {
    let text = std::str::from_utf8(value).map_err(|_| ErrorKind::Malformed)?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or(ErrorKind::Malformed)
}

fn ends_with(value: &[u8], word: &[u8]) -> bool {
    let value = value.trim_ascii_end();
    value.len() >= word.len() && value[value.len() - word.len()..].eq_ignore_ascii_case(word)
}

/// Follows a chunked body to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Chunks {
    /// In the line that tells a size: what was read of it, and whether an extension began.
    #[default]
    Start,
    Size {
        size: u64,
        in_extension: bool,
    },
    /// In the bytes of a chunk and the line end after them.
    Data(u64),
    /// At the start of a trailer line.
    Trailer,
    /// In a trailer line.
    TrailerLine,
    Done,
}

impl Chunks {
    /// Takes as much of `bytes` as belongs to the body; the count of bytes taken.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let mut position = 0;
        while position < bytes.len() && *self != Chunks::Done {
            if let Chunks::Data(left) = self {
                let step = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - position);
                *left -= step as u64;
                position += step;
                if *left == 0 {
                    *self = Chunks::Start;
                }
                continue;
            }
            *self = self.after(bytes[position])?;
            position += 1;
        }
        Ok(position)
    }

    fn after(self, byte: u8) -> Result<Self, ErrorKind> {
        match (self, byte) {
            (Chunks::Start, byte) => {
                let size = digit(byte).ok_or(ErrorKind::Malformed)?;
                Ok(Chunks::Size { size, in_extension: false })
            }
            (Chunks::Size { size: 0, .. }, b'\n') => Ok(Chunks::Trailer),
            // The line end after the chunk's bytes counts with them.
            (Chunks::Size { size, .. }, b'\n') => Ok(Chunks::Data(size.saturating_add(2))),
            (Chunks::Size { size, .. }, b';' | b' ' | b'\t' | b'\r') => {
                Ok(Chunks::Size { size, in_extension: true })
            }
            (Chunks::Size { in_extension: true, .. }, _) => Ok(self),
            (Chunks::Size { size, .. }, byte) => {
                let more = digit(byte).and_then(|digit| size.checked_mul(16)?.checked_add(digit));
                Ok(Chunks::Size { size: more.ok_or(ErrorKind::Malformed)?, in_extension: false })
            }
            (Chunks::Trailer, b'\r') => Ok(Chunks::Trailer),
            (Chunks::Trailer, b'\n') => Ok(Chunks::Done),
            (Chunks::Trailer, _) => Ok(Chunks::TrailerLine),
            (Chunks::TrailerLine, b'\n') => Ok(Chunks::Trailer),
            (Chunks::TrailerLine | Chunks::Data(_) | Chunks::Done, _) => Ok(self),
        }
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body_of(text: &str) -> Body {
        head(text.as_bytes(), false).unwrap().unwrap().body
    }

    #[test]
    fn the_end_of_a_body_is_known() {
        assert_eq!(body_of("HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n"), Body::Sized(12));
        assert_eq!(body_of("HTTP/1.1 204 No Content\r\n\r\n"), Body::Sized(0));
        assert_eq!(body_of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), Body::Chunked);
        assert_eq!(body_of("HTTP/1.0 200 OK\r\n\r\n"), Body::UntilClose);
    }

    #[test]
    fn a_head_is_waited_for_and_garbage_is_not() {
        assert_eq!(head(b"HTTP/1.1 200 OK\r\ncontent-", false), Ok(None));
        assert_eq!(head(b"SSH-2.0-x\r\n", false), Err(ErrorKind::Malformed));
        for length in ["-1", "x", "", "99999999999999999999"] {
            let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            assert_eq!(head(text.as_bytes(), false), Err(ErrorKind::Malformed), "{length}");
        }
    }

    #[test]
    fn connection_close_is_heard() {
        let closing = head(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: Close\r\n\r\n", false);
        assert!(!closing.unwrap().unwrap().keeps_alive);
    }

    #[test]
    fn chunks_end_where_they_say() {
        let body = b"5\r\nhello\r\n1a;x=y\r\n01234567890123456789012345\r\n0\r\nname: value\r\n\r\nHTTP/1.1";
        let mut chunks = Chunks::default();
        assert_eq!(chunks.take(body), Ok(body.len() - "HTTP/1.1".len()));
        assert_eq!(chunks, Chunks::Done);
        assert_eq!(Chunks::default().take(b"zz\r\n"), Err(ErrorKind::Malformed));
        assert_eq!(Chunks::default().take(b"11111111111111111\r\n"), Err(ErrorKind::Malformed));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_arrive(
            sizes in proptest::collection::vec(1_usize..40, 0..5),
            cut in 1_usize..7,
        ) {
            let chunk = |size: &usize| format!("{size:x}\r\n{}\r\n", "x".repeat(*size));
            let body = sizes.iter().map(chunk).collect::<String>() + "0\r\n\r\n";
            let mut chunks = Chunks::default();
            let taken: usize = body.as_bytes().chunks(cut).map(|piece| chunks.take(piece).unwrap()).sum();
            prop_assert_eq!((taken, chunks), (body.len(), Chunks::Done));
        }

        #[test]
        fn any_bytes_end_in_progress_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = head(&bytes, false);
            let _ = Chunks::default().take(&bytes);
        }
    }
}
