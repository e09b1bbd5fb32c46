//! One request of the corpus.

use std::fmt::{self, Write as _};

/// How it is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2 by prior knowledge.
    Http2,
}

/// Its body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// None, and no field that says so.
    None,
    /// With `content-length`.
    Length(Vec<u8>),
    /// In chunks, with trailers.
    Chunks(Vec<Vec<u8>>, Vec<(String, String)>),
}

/// A request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    /// Its number: `user-agent` is `case-N`, by which logs are found.
    pub id: usize,
    /// How it is said.
    pub version: Version,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The authority.
    pub host: String,
    /// Other fields, in order; one is `user-agent`.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
}

impl Body {
    /// The bytes in the pieces in which they are sent, and trailers.
    #[must_use]
    pub fn pieces(&self) -> (Vec<Vec<u8>>, &[(String, String)]) {
        match self {
            Body::None => (Vec::new(), &[]),
            Body::Length(bytes) => (vec![bytes.clone()], &[]),
            Body::Chunks(chunks, trailers) => {
                // HTTP/2 ends with a frame, which may be empty.
                let chunks = if chunks.is_empty() { vec![Vec::new()] } else { chunks.clone() };
                (chunks, trailers)
            }
        }
    }
}

impl Case {
    /// All fields besides `host` and those of the framing.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The name by which logs know it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("case-{}", self.id)
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The path without query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// As bytes of HTTP/1.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let version = if self.version == Version::Http10 { "1.0" } else { "1.1" };
        let mut head = format!("{} {} HTTP/{version}\r\nHost: {}\r\n", self.method, self.target, self.host);
        for (name, value) in self.fields() {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        match &self.body {
            Body::None => {}
            Body::Length(bytes) => {
                let _ = write!(head, "Content-Length: {}\r\n", bytes.len());
            }
            Body::Chunks(..) => head.push_str("Transfer-Encoding: chunked\r\n"),
        }
        head.push_str("\r\n");
        // Characters above ASCII stand for single bytes.
        let mut out: Vec<u8> = head.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
        match &self.body {
            Body::None => {}
            Body::Length(bytes) => out.extend_from_slice(bytes),
            Body::Chunks(chunks, trailers) => {
                for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                    out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    out.extend_from_slice(chunk);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers {
                    out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
                }
                out.extend_from_slice(b"\r\n");
            }
        }
        out
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version;
        write!(
            f,
            "#{} {version:?} {} {} {:?} {:?}",
            self.id, self.host, self.method, self.target, self.headers
        )?;
        match &self.body {
            Body::None => Ok(()),
            Body::Length(bytes) => write!(f, " + {} bytes", bytes.len()),
            Body::Chunks(chunks, trailers) => write!(f, " + {} chunks, trailers {trailers:?}", chunks.len()),
        }
    }
}
