//! Plain mode: no namespaces, so programs are told where others are. In arguments and environment
//! `${service:NAME.NAMESPACE:PORT}` stands for an address of another service and `${port:PORT}` for the port
//! that the program itself shall listen on; `$${` stands for `${`. The same text works in every environment:
//! where names resolve and ports are free, the placeholders become the name and the port as they stand.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

/// A text with placeholders, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Placeholder(Placeholder),
}

/// What a text asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Placeholder {
    /// The address of another service, as `host:port`.
    Service(ServiceReference),
    /// The port to listen on instead of this one.
    Port(u16),
}

/// A port of a service, named as users name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceReference {
    /// The service's name.
    pub name: String,
    /// Its namespace; that of the asking process when absent.
    pub namespace: Option<String>,
    /// The port of the service.
    pub port: u16,
}

/// A text whose placeholders cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {problem}")]
pub struct InvalidTemplate {
    /// Where the placeholder begins.
    pub at: usize,
    /// What is wrong, and how it is written.
    pub problem: String,
}

const SERVICE: &str = "${service:";
const PORT: &str = "${port:";

impl Template {
    /// Reads a text. Only the two placeholders are special; any other `${` stays, for shells and programs
    /// that have their own.
    pub fn parse(text: &str) -> Result<Template, InvalidTemplate> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            if rest.starts_with("$${") {
                plain.push_str("${");
                at += 3;
            } else if rest.starts_with(SERVICE) || rest.starts_with(PORT) {
                let (placeholder, length) =
                    Placeholder::parse(rest).map_err(|problem| InvalidTemplate { at, problem })?;
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
                pieces.push(Piece::Placeholder(placeholder));
                at += length;
            } else {
                let next = rest.chars().next().expect("the rest is not empty");
                plain.push(next);
                at += next.len_utf8();
            }
        }
        pieces.push(Piece::Text(plain));
        Ok(Template(pieces))
    }

    /// What it asks for.
    pub fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Placeholder(placeholder) => Some(placeholder),
        })
    }

    /// The text with each placeholder replaced.
    pub fn expand<E>(&self, mut value: impl FnMut(&Placeholder) -> Result<String, E>) -> Result<String, E> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Placeholder(placeholder) => text.push_str(&value(placeholder)?),
            }
        }
        Ok(text)
    }
}

impl Placeholder {
    /// The value where names resolve and every port is free.
    pub fn unchanged(&self) -> String {
        match self {
            Placeholder::Service(ServiceReference { name, namespace: Some(namespace), port }) => {
                format!("{name}.{namespace}:{port}")
            }
            Placeholder::Service(ServiceReference { name, namespace: None, port }) => {
                format!("{name}:{port}")
            }
            Placeholder::Port(port) => port.to_string(),
        }
    }

    /// Reads the placeholder at the beginning of `text`, and its length.
    fn parse(text: &str) -> Result<(Placeholder, usize), String> {
        let end = text.find('}').ok_or("a placeholder has no closing brace `}`")?;
        let inside = &text[2..end];
        let placeholder = match inside.split_once(':') {
            Some(("port", port)) => Placeholder::Port(parse_port(port)?),
            Some((_, service)) => Placeholder::Service(parse_service(service)?),
            None => return Err(String::from("a placeholder has no `:`")),
        };
        Ok((placeholder, end + 1))
    }
}

fn parse_service(text: &str) -> Result<ServiceReference, String> {
    let (host, port) = text
        .rsplit_once(':')
        .ok_or_else(|| format!("`{text}` has no port; write ${{service:NAME.NAMESPACE:PORT}}"))?;
    let (name, namespace) = match host.split_once('.') {
        Some((name, namespace)) => (name, Some(namespace)),
        None => (host, None),
    };
    for label in std::iter::once(name).chain(namespace) {
        if !is_label(label) {
            return Err(format!(
                "`{label}` is no name (lower-case letters, digits and `-`); write \
                 ${{service:NAME.NAMESPACE:PORT}}, without `.svc` behind"
            ));
        }
    }
    Ok(ServiceReference {
        name: name.into(),
        namespace: namespace.map(String::from),
        port: parse_port(port)?,
    })
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 && !text.starts_with('+') => Ok(port),
        _ => Err(format!("`{text}` is no port; ports are numbers from 1 to 65535")),
    }
}

/// A label of RFC 1123.
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A port of 127.0.0.1 that is free at this moment. It is not held: a program that cannot bind it is started
/// again with another.
pub fn free_port() -> io::Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr().map(|address| address.port())
}

/// The environment that makes HTTP clients use the sidecar at `proxy` for everything but the machine itself.
pub fn proxy_environment(proxy: SocketAddr) -> [(String, String); 4] {
    let proxy = format!("http://{proxy}");
    let direct = String::from("localhost,127.0.0.1,::1");
    [
        ("HTTP_PROXY".into(), proxy.clone()),
        ("http_proxy".into(), proxy),
        ("NO_PROXY".into(), direct.clone()),
        ("no_proxy".into(), direct),
    ]
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn unchanged(text: &str) -> Result<String, InvalidTemplate> {
        let template = Template::parse(text)?;
        Ok(template.expand(|placeholder| Ok::<_, Infallible>(placeholder.unchanged())).unwrap())
    }

    #[test]
    fn placeholders_are_replaced_and_the_rest_stays() {
        for (text, expected) in [
            ("http://${service:reviews.default:9080}/x", "http://reviews.default:9080/x"),
            ("${service:ratings:80}", "ratings:80"),
            ("--port=${port:8080}", "--port=8080"),
            ("${HOME} $${service:x:1} $$ ${", "${HOME} ${service:x:1} $$ ${"),
        ] {
            assert_eq!(unchanged(text).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, expected) in [
            ("a ${service:x:1", "byte 2: a placeholder has no closing brace `}`"),
            ("${service:x.y}", "byte 0: `x.y` has no port; write ${service:NAME.NAMESPACE:PORT}"),
            ("${port:0}", "byte 0: `0` is no port; ports are numbers from 1 to 65535"),
        ] {
            assert_eq!(unchanged(text).unwrap_err().to_string(), expected);
        }
        assert!(unchanged("${service:Reviews.default:1}").unwrap_err().problem.contains("`Reviews`"));
        assert!(unchanged("${service:a.b.svc:1}").unwrap_err().problem.contains("`b.svc`"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(\\$|\\{|\\}|service:|port:|[a-z.:0-9é]){0,24}") {
            let _ = unchanged(&text);
        }

        #[test]
        fn a_text_without_dollars_stays(text in "[^$]{0,40}") {
            prop_assert_eq!(unchanged(&text).unwrap(), text);
        }

        #[test]
        fn a_reference_survives(name in "[a-z][a-z0-9]{0,9}", namespace in "[a-z]{1,9}", port in 1u16..) {
            let text = format!("${{service:{name}.{namespace}:{port}}}");
            prop_assert_eq!(unchanged(&text).unwrap(), format!("{name}.{namespace}:{port}"));
        }
    }
}
