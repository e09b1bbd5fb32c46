//! gRPC-Web: gRPC for browsers, which can neither read trailers nor speak HTTP/2 at will.
//!
//! Where a caller says `application/grpc-web` and the endpoint speaks gRPC, the request becomes one of gRPC and the
//! answer's trailers become the last frame of its body; with `-text` both bodies are base64. Nothing else is touched:
//! messages are framed the same on both sides, and flow as they come.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{BufMut, BytesMut};

use super::head::{Fields, Framing, Known, RequestHead, ResponseHead};

/// How a caller of gRPC-Web wants its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `application/grpc-web`
    Binary,
    /// `application/grpc-web-text`
    Text,
}

/// The flag of a frame that holds trailers (PROTOCOL-WEB: "the most significant bit").
const TRAILERS: u8 = 0x80;

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body of gRPC-Web is not base64")]
pub struct InvalidText;

/// What the content type says, if it is gRPC-Web, and its suffix: `+proto`.
#[must_use]
pub fn content_type(value: &[u8]) -> Option<(Coding, &[u8])> {
    const PREFIX: &[u8] = b"application/grpc-web";
    let (begin, rest) = value.split_at_checked(PREFIX.len())?;
    if !begin.eq_ignore_ascii_case(PREFIX) {
        return None;
    }
    let text = rest.split_at_checked(5).filter(|(text, _)| text.eq_ignore_ascii_case(b"-text"));
    let (coding, suffix) = text.map_or((Coding::Binary, rest), |(_, suffix)| (Coding::Text, suffix));
    matches!(suffix.first(), None | Some(b'+' | b';')).then_some((coding, suffix))
}

/// Makes a request of gRPC of one of gRPC-Web, and gives what its body goes through; None if it is no gRPC-Web, or one
/// whose body needs nothing.
pub fn translate_request(head: &mut RequestHead) -> Option<Box<Coder>> {
    let (coding, suffix) = head.fields.known(Known::ContentType).and_then(content_type)?;
    let native = [b"application/grpc", suffix].concat();
    let wanted = head.fields.get("accept").and_then(|accept| {
        accept
            .split(|&byte| byte == b',')
            .find_map(|one| content_type(one.trim_ascii()).map(|(coding, _)| coding))
    });
    head.grpc_web = Some(wanted.unwrap_or(coding));
    head.fields.set(b"content-type", &native);
    head.accepts_trailers = true;
    if coding == Coding::Binary {
        return None;
    }
    if !head.framing.is_empty() {
        head.framing = Framing::Chunked;
    }
    head.fields.remove(b"content-length");
    Some(Box::new(Coder::new(Direction::FromText)))
}

/// Makes an answer of gRPC-Web of one of gRPC, and gives what its body goes through. An answer that is no gRPC goes as
/// it is: the caller reads its status.
pub fn translate_response(coding: Coding, head: &mut ResponseHead) -> Option<Box<Coder>> {
    let native =
        head.fields.known(Known::ContentType).and_then(|value| value.strip_prefix(b"application/grpc"))?;
    if !matches!(native.first(), None | Some(b'+' | b';')) {
        return None;
    }
    let suffix = if native.first() == Some(&b'+') { native.to_vec() } else { b"+proto".to_vec() };
    let value = [b"application/grpc-web".as_slice(), coding.suffix(), &suffix].concat();
    head.fields.set(b"content-type", &value);
    if head.framing == Framing::None {
        // Trailers only: they are in the head, where a browser can read them.
        return None;
    }
    head.fields.remove(b"content-length");
    head.framing = Framing::Chunked;
    Some(Box::new(Coder::new(Direction::ToWeb(coding))))
}

impl Coding {
    fn suffix(self) -> &'static [u8] {
        match self {
            Coding::Binary => b"",
            Coding::Text => b"-text",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    FromText,
    ToWeb(Coding),
}

/// What a body goes through, piece by piece.
#[derive(Debug)]
pub struct Coder {
    direction: Direction,
    /// Bytes of an incomplete group: of four when decoding, of three when encoding.
    rest: Vec<u8>,
    /// What is to be sent.
    pub out: BytesMut,
}

impl Coder {
    fn new(direction: Direction) -> Self {
        Self { direction, rest: Vec::new(), out: BytesMut::new() }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// Text that is no base64.
    pub fn feed(&mut self, data: &[u8]) -> Result<(), InvalidText> {
        match self.direction {
            Direction::ToWeb(Coding::Binary) => self.out.extend_from_slice(data),
            // Each piece is padded by itself, so that no byte of a message waits for the next.
            Direction::ToWeb(Coding::Text) => self.out.extend_from_slice(BASE64.encode(data).as_bytes()),
            Direction::FromText => {
                self.rest.extend(data.iter().filter(|byte| !byte.is_ascii_whitespace()));
                let whole = self.rest.len() / 4 * 4;
                // Callers may pad each of their pieces too: a group with padding does not end the text.
                for group in self.rest[..whole].chunks(4) {
                    let mut bytes = [0; 3];
                    let count = BASE64.decode_slice(group, &mut bytes).map_err(|_| InvalidText)?;
                    self.out.extend_from_slice(&bytes[..count]);
                }
                self.rest.drain(..whole);
            }
        }
        Ok(())
    }

    /// The body has ended. Trailers that are no longer needed as such are put into it.
    ///
    /// # Errors
    /// Text that ends within a group.
    pub fn end(&mut self, trailers: Option<&Fields>) -> Result<(), InvalidText> {
        let Direction::ToWeb(coding) = self.direction else {
            return if self.rest.is_empty() { Ok(()) } else { Err(InvalidText) };
        };
        let mut lines = Vec::new();
        for (name, value) in trailers.into_iter().flat_map(Fields::iter) {
            lines.extend(name.iter().map(u8::to_ascii_lowercase));
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value);
            lines.extend_from_slice(b"\r\n");
        }
        let mut frame = Vec::with_capacity(lines.len() + 5);
        frame.put_u8(TRAILERS);
        // The reader of trailers has bounded them to some kilobytes.
        frame.put_u32(lines.len() as u32);
        frame.extend_from_slice(&lines);
        match coding {
            Coding::Binary => self.out.extend_from_slice(&frame),
            Coding::Text => self.out.extend_from_slice(BASE64.encode(&frame).as_bytes()),
        }
        Ok(())
    }

    /// Whether trailers become part of the body.
    #[must_use]
    pub fn takes_trailers(&self) -> bool {
        self.direction != Direction::FromText
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for (value, expected) in [
            ("application/grpc-web", Some((Coding::Binary, ""))),
            ("application/grpc-web+proto", Some((Coding::Binary, "+proto"))),
            ("Application/gRPC-Web-Text+proto; x", Some((Coding::Text, "+proto; x"))),
            ("application/grpc-web-text", Some((Coding::Text, ""))),
            ("application/grpc-webx", None),
            ("application/grpc", None),
            ("text/plain", None),
        ] {
            let found = content_type(value.as_bytes());
            assert_eq!(found, expected.map(|(coding, suffix)| (coding, suffix.as_bytes())), "{value}");
        }
    }

    fn decode(pieces: &[&[u8]]) -> Result<Vec<u8>, InvalidText> {
        let mut coder = Coder::new(Direction::FromText);
        for piece in pieces {
            coder.feed(piece)?;
        }
        coder.end(None)?;
        Ok(coder.out.to_vec())
    }

    #[test]
    fn text_is_decoded_however_it_is_cut_and_padded() {
        assert_eq!(decode(&[b"AAAAAAF", b"4", b"eA==", b"eQ==\n"]), Ok(b"\0\0\0\0\x01xxy".to_vec()));
        for broken in ["A", "AAA", "AA=A", "A===", "****", "AAAA*"] {
            assert_eq!(decode(&[broken.as_bytes()]), Err(InvalidText), "{broken}");
        }
    }

    #[test]
    fn any_bytes_survive_both_ways() {
        bolero::check!().with_iterations(2_000).with_type::<Vec<Vec<u8>>>().for_each(|pieces| {
            let mut encoder = Coder::new(Direction::ToWeb(Coding::Text));
            for piece in pieces {
                encoder.feed(piece).expect("encoding cannot fail");
            }
            assert_eq!(decode(&[&encoder.out]), Ok(pieces.concat()));
            // Whatever is decoded, it ends in a value or a refusal.
            let raw: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            let _ = decode(&raw);
        });
    }

    #[test]
    fn trailers_are_the_last_frame() {
        let mut trailers = Fields::default();
        trailers.add(b"Grpc-Status", b"0");
        let mut coder = Coder::new(Direction::ToWeb(Coding::Binary));
        coder.end(Some(&trailers)).expect("encoding cannot fail");
        assert_eq!(&coder.out[..], b"\x80\0\0\0\x10grpc-status: 0\r\n");
    }
}
