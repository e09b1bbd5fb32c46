//! What processes print, with the pod's name before each line.

use std::{
    io::{self, Write},
    os::fd::OwnedFd,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::unix::pipe,
};

/// Longer lines are cut into several, so that a process that never ends its line costs no memory.
const LONGEST_LINE: usize = 16 * 1024;

/// A pipe: the end to read here, and the end to hand to a process as its standard output or error.
pub fn pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((pipe::Receiver::from_owned_fd(reader.into())?, writer.into()))
}

/// Copies lines from `reader` to `writer`, each with `prefix` and written at once, so that the lines of many
/// processes do not mix. Ends when the last writer of the pipe has gone; a last line without an end gets one.
///
/// # Errors
/// Those of `writer`.
pub async fn relay(
    mut reader: impl AsyncRead + Unpin,
    prefix: &str,
    mut writer: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut lines = Lines::new(prefix);
    let mut chunk = vec![0; 8 * 1024];
    loop {
        match reader.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(length) => lines.push(&chunk[..length], &mut writer)?,
        }
    }
    lines.finish(&mut writer)
}

/// Writes whole lines to standard error, which is not closed under other writers.
pub fn to_standard_error(line: &[u8]) -> io::Result<()> {
    io::stderr().lock().write_all(line)
}

struct Lines {
    prefix: Vec<u8>,
    /// The prefix and what has come of the line.
    line: Vec<u8>,
}

impl Lines {
    fn new(prefix: &str) -> Lines {
        let prefix = prefix.as_bytes().to_vec();
        Lines { line: prefix.clone(), prefix }
    }

    fn push(&mut self, mut bytes: &[u8], write: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.prefix.len() + LONGEST_LINE - self.line.len();
            let end = bytes.iter().take(room).position(|byte| *byte == b'\n');
            let take = end.unwrap_or(room.min(bytes.len()));
            self.line.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take + usize::from(end.is_some())..];
            if end.is_some() || self.line.len() == self.prefix.len() + LONGEST_LINE {
                self.end_line(write)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, write: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.line.len() > self.prefix.len() { self.end_line(write) } else { Ok(()) }
    }

    fn end_line(&mut self, write: &mut impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        self.line.push(b'\n');
        let written = write(&self.line);
        self.line.truncate(self.prefix.len());
        written
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn relayed(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut lines = Lines::new("a | ");
        let mut written = Vec::new();
        let mut write = |line: &[u8]| {
            written.push(line.to_vec());
            Ok(())
        };
        for chunk in chunks {
            lines.push(chunk, &mut write).unwrap();
        }
        lines.finish(&mut write).unwrap();
        written
    }

    #[test]
    fn each_line_gets_the_name_however_it_arrives() {
        let lines = relayed(&[b"one\ntw", b"o\n\nlast"]);
        assert_eq!(lines, [&b"a | one\n"[..], b"a | two\n", b"a | \n", b"a | last\n"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_line_is_too_long(
            chunks in proptest::collection::vec(proptest::collection::vec(32u8..=34, 0..9000), 0..8)
        ) {
            let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let lines = relayed(&chunks);
            let text: Vec<u8> = lines.iter().flat_map(|line| line[4..line.len() - 1].to_vec()).collect();
            prop_assert_eq!(text, chunks.concat());
            prop_assert!(lines.iter().all(|line| line.len() <= LONGEST_LINE + 5));
        }
    }

    #[tokio::test]
    async fn a_pipe_is_relayed_to_its_end() {
        let (reader, writer) = pipe().unwrap();
        std::fs::File::from(writer).write_all(b"hello\nworld").unwrap();
        let mut text = Vec::new();
        relay(reader, "shop | ", |line| text.write_all(line)).await.unwrap();
        assert_eq!(text, b"shop | hello\nshop | world\n");
    }
}
