//! Chunked bodies, read piece by piece (RFC 9112 section 7.1).
//!
//! Sizes are hexadecimal digits and nothing else; lines end in CR LF; extensions are bounded and dropped; trailers
//! are kept up to a limit. Chunks are cut anew when they are sent on, so what one peer hides in its framing never
//! reaches another.

use std::ops::Range;

use crate::http::head::{Fields, Known};

/// The bytes of one chunk-size line with its extensions.
const LONGEST_SIZE_LINE: u32 = 1024;
/// Extensions of a whole body: without a bound, a body of one-byte chunks could cost a thousand times its size.
const MOST_EXTENSION_BYTES: u32 = 16 * 1024;
/// The trailer section.
const LONGEST_TRAILERS: usize = 16 * 1024;
const MOST_TRAILERS: usize = 64;

/// Why a chunked body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChunk {
    /// No hexadecimal size, or one of more than 16 digits.
    #[error("a chunk size is malformed")]
    Size,
    /// A chunk-size line without end, or extensions that add up.
    #[error("chunk extensions are too long")]
    Extension,
    /// The data of a chunk is not followed by CR LF, or a line ends in a bare line feed.
    #[error("a chunk does not end where its size says")]
    LineEnd,
    /// A trailer that is no field, or trailers over the limit.
    #[error("the trailers are malformed or too long")]
    Trailers,
}

/// What comes next in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// The input is used up; nothing of the body in it.
    Starved,
    /// Bytes of the body, as a range of the input.
    Data(Range<usize>),
    /// The body has ended; trailers, if any, are in the decoder.
    End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    Trailers,
    Done,
}

/// Decodes one chunked body.
#[derive(Clone, Debug, Default)]
pub struct ChunkDecoder {
    state: State,
    size: u64,
    digits: u8,
    line: u32,
    extensions: u32,
    /// The trailer section so far; empty for almost every body.
    trailers: Vec<u8>,
}

impl ChunkDecoder {
    /// Looks at `input`, which begins where the last call stopped: the second value is how much was used.
    /// Data that a piece names counts as used.
    ///
    /// # Errors
    /// After an error the connection cannot be used: nobody knows where the next message begins.
    pub fn next(&mut self, input: &[u8]) -> Result<(Piece, usize), InvalidChunk> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Data => {
                    let length = usize::try_from(self.size).unwrap_or(usize::MAX).min(input.len() - at);
                    self.size -= length as u64;
                    if self.size == 0 {
                        self.state = State::DataReturn;
                    }
                    return Ok((Piece::Data(at..at + length), at + length));
                }
                State::Trailers => {
                    at += self.trailer_bytes(&input[at..])?;
                }
                State::Done => break,
                _ => {
                    self.framing_byte(byte)?;
                    at += 1;
                }
            }
        }
        Ok((if self.state == State::Done { Piece::End } else { Piece::Starved }, at))
    }

    /// Whether the last chunk and the trailers were seen.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailers of a body that has ended; those that would change framing or routing are left out
    /// (RFC 9110 section 6.5.1).
    ///
    /// # Errors
    /// A trailer that is no field.
    pub fn trailers(&self, into: &mut Fields) -> Result<(), InvalidChunk> {
        into.clear();
        if self.trailers.is_empty() {
            return Ok(());
        }
        let mut fields = [httparse::EMPTY_HEADER; MOST_TRAILERS];
        let parsed =
            httparse::parse_headers(&self.trailers, &mut fields).map_err(|_| InvalidChunk::Trailers)?;
        let httparse::Status::Complete((_, fields)) = parsed else { return Err(InvalidChunk::Trailers) };
        for field in fields.iter() {
            let known = Known::of(field.name.as_bytes());
            if !known.is_hop_by_hop() && (known == Known::GrpcStatus || !known.is_end_to_end()) {
                into.add(field.name.as_bytes(), field.value);
            }
        }
        Ok(())
    }

    fn framing_byte(&mut self, byte: u8) -> Result<(), InvalidChunk> {
        match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if self.digits == 16 {
                    return Err(InvalidChunk::Size);
                }
                self.digits += 1;
                self.size = self.size << 4 | u64::from((byte as char).to_digit(16).unwrap_or_default());
            }
            (State::Size, _) if self.digits == 0 => return Err(InvalidChunk::Size),
            (State::Size, b';') => self.state = State::Extension,
            (State::Size | State::Extension, b'\r') => self.state = State::SizeLineFeed,
            (State::Size, _) => return Err(InvalidChunk::Size),
            (State::Extension, b'\n') => return Err(InvalidChunk::LineEnd),
            (State::Extension, b' '..=b'~' | b'\t' | 0x80..) => {
                (self.line, self.extensions) = (self.line + 1, self.extensions + 1);
                if self.line > LONGEST_SIZE_LINE || self.extensions > MOST_EXTENSION_BYTES {
                    return Err(InvalidChunk::Extension);
                }
            }
            (State::Extension, _) => return Err(InvalidChunk::Extension),
            (State::SizeLineFeed, b'\n') => {
                self.state = if self.size == 0 { State::Trailers } else { State::Data };
                (self.digits, self.line) = (0, 0);
            }
            (State::DataReturn, b'\r') => self.state = State::DataLineFeed,
            (State::DataLineFeed, b'\n') => self.state = State::Size,
            _ => return Err(InvalidChunk::LineEnd),
        }
        Ok(())
    }

    /// Takes bytes up to the next line end; the section ends with an empty line.
    fn trailer_bytes(&mut self, input: &[u8]) -> Result<usize, InvalidChunk> {
        let taken = memchr::memchr(b'\n', input).map_or(input.len(), |at| at + 1);
        if self.trailers.len() + taken > LONGEST_TRAILERS {
            return Err(InvalidChunk::Trailers);
        }
        // Almost always the section is the two bytes of its empty line.
        if self.trailers.is_empty() && &input[..taken] == b"\r\n" {
            self.state = State::Done;
            return Ok(taken);
        }
        self.trailers.extend_from_slice(&input[..taken]);
        if self.trailers.ends_with(b"\n") {
            if !self.trailers.ends_with(b"\r\n") {
                return Err(InvalidChunk::LineEnd);
            }
            if self.trailers.len() == 2 || self.trailers.ends_with(b"\r\n\r\n") {
                // What is wrong must be found before the body is taken for complete.
                self.trailers(&mut Fields::default())?;
                self.state = State::Done;
            }
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests;
