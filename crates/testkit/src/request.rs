//! A request as a test says it, and the answer as it is asked about.

use std::future::{Future, IntoFuture};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::certificates::{Certificate, CertificateAuthority};
use crate::wait::in_time;

/// A request that was not sent yet: `.await` sends it and wants an answer, [`Request::attempt`] may fail.
#[must_use]
pub struct Request {
    to: SocketAddr,
    method: String,
    /// What stands in the request line.
    target: String,
    authority: String,
    headers: Vec<(String, String)>,
    body: String,
    tls: Option<Tls>,
}

struct Tls {
    server_name: Option<String>,
    roots: Vec<String>,
    shown: Option<Certificate>,
}

/// The pieces of `GET http://host:port/path`.
struct Asked<'a> {
    method: &'a str,
    scheme: &'a str,
    authority: &'a str,
    path: String,
}

impl<'a> Asked<'a> {
    fn parse(what: &'a str) -> Self {
        let parsed = || {
            let (method, url) = what.split_once(' ')?;
            let (scheme, rest) = url.split_once("://")?;
            let at = rest.find('/').unwrap_or(rest.len());
            let path = if at == rest.len() { "/".to_owned() } else { rest[at..].to_owned() };
            Some(Self { method, scheme, authority: &rest[..at], path })
        };
        parsed().unwrap_or_else(|| panic!("{what:?} is not like GET http://host/path"))
    }
}

impl Request {
    /// Through a forward proxy: the request line names everything.
    pub(crate) fn through_proxy(to: SocketAddr, what: &str) -> Self {
        let asked = Asked::parse(what);
        let target = format!("{}://{}{}", asked.scheme, asked.authority, asked.path);
        Self { target, ..Self::direct(to, what) }
    }

    /// To whoever listens at `to`. `https` is TLS by the host's name.
    pub(crate) fn direct(to: SocketAddr, what: &str) -> Self {
        let asked = Asked::parse(what);
        let host = asked.authority.split(':').next().unwrap_or_default().to_owned();
        let tls = Tls { server_name: Some(host), roots: Vec::new(), shown: None };
        Self {
            to,
            method: asked.method.to_owned(),
            target: asked.path,
            authority: asked.authority.to_owned(),
            headers: Vec::new(),
            body: String::new(),
            tls: (asked.scheme == "https").then_some(tls),
        }
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body.
    pub fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    /// With this name in the handshake, whatever `Host` says; none sends no name.
    pub fn server_name(mut self, name: Option<&str>) -> Self {
        self.tls().server_name = name.map(str::to_owned);
        self
    }

    /// Believing who signed the server's certificate.
    pub fn trusting(mut self, authority: &CertificateAuthority) -> Self {
        self.tls().roots.push(authority.pem().to_owned());
        self
    }

    /// Showing a certificate.
    pub fn showing(mut self, certificate: &Certificate) -> Self {
        self.tls().shown = Some(certificate.clone());
        self
    }

    fn tls(&mut self) -> &mut Tls {
        self.tls.as_mut().expect("only https has a handshake")
    }

    /// Sends it. An error is a connection that could not be made or broke.
    ///
    /// # Errors
    /// As said.
    pub async fn attempt(self) -> io::Result<Answer> {
        let what = format!("{} {}{}", self.method, self.authority, self.target);
        in_time(&what, self.exchange()).await
    }

    async fn exchange(self) -> io::Result<Answer> {
        let tcp = TcpStream::connect(self.to).await?;
        let text = self.text();
        match self.tls {
            None => talk(tcp, &text).await,
            Some(tls) => {
                let host = tls.server_name.clone().unwrap_or_else(|| "127.0.0.1".to_owned());
                let name = ServerName::try_from(host).map_err(io::Error::other)?;
                talk(TlsConnector::from(tls.settings()).connect(name, tcp).await?, &text).await
            }
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.target, self.authority);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() {
            text.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        text.push_str("connection: close\r\n\r\n");
        text.push_str(&self.body);
        text
    }
}

impl Tls {
    fn settings(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for pem in &self.roots {
            roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")).expect("a root");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("suites")
            .with_root_certificates(roots);
        let mut settings = match &self.shown {
            None => builder.with_no_client_auth(),
            Some(certificate) => {
                let chain = CertificateDer::pem_slice_iter(certificate.chain.as_bytes());
                let chain = chain.collect::<Result<_, _>>().expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(chain, key).expect("belongs together")
            }
        };
        settings.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(settings)
    }
}

impl IntoFuture for Request {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let what = format!("{} {}{}", self.method, self.authority, self.target);
            self.attempt().await.unwrap_or_else(|error| panic!("{what}: {error}"))
        })
    }
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) -> io::Result<Answer> {
    stream.write_all(text.as_bytes()).await?;
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes).await {
        // A server that closes without saying goodbye in TLS has answered all the same.
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
        _ => {}
    }
    Answer::parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; from an application, the head of the request as it saw it, and its body.
    pub body: String,
}

impl Answer {
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Some(Self { status, headers: lines.filter_map(header).collect(), body: body.to_owned() })
    }

    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The application that answered; empty if none did.
    pub fn app(&self) -> &str {
        self.header("x-app").unwrap_or_default()
    }

    /// A header as the application saw it.
    pub fn saw(&self, name: &str) -> Option<&str> {
        let mut lines = self.body.lines().skip(1).take_while(|line| !line.is_empty());
        lines.find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}
