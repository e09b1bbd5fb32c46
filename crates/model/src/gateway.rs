//! `Gateway` and `Listener`: a place where traffic enters.

use crate::{HostPattern, Key, Namespace, Selector, Str};

/// A place where traffic enters or leaves the mesh.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gateway {
    /// The object it was made from; routes name it.
    pub key: Key,
    /// The proxies that play it: those with these labels …
    pub selector: Selector,
    /// … in this namespace, or (none) in any.
    pub selector_namespace: Option<Namespace>,
    /// Its listeners, in the order of the object.
    pub listeners: Vec<Listener>,
}

/// One port of a gateway, for some hosts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Its name within the gateway (`sectionName`).
    pub name: Str,
    /// The port it listens on.
    pub port: u16,
    /// What it speaks.
    pub protocol: ListenerProtocol,
    /// The hosts it serves. Empty is every host.
    pub hosts: Vec<HostPattern>,
    /// Certificates, when TLS ends here.
    pub tls: Option<ListenerTls>,
}

/// What a listener speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ListenerProtocol {
    /// HTTP/1.1 and HTTP/2 by prior knowledge.
    Http,
    /// The same under TLS that ends here.
    Https,
    /// Bytes.
    Tcp,
}

/// TLS at a listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenerTls {
    /// Keys of the credentials to choose from by SNI. One that is missing refuses its handshakes.
    pub credentials: Vec<Key>,
    /// Whether clients must show a certificate that chains to the credential's client roots.
    pub client_certificate: ClientCertificate,
}

/// Whether clients of a TLS listener must show a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ClientCertificate {
    /// Not asked for (SIMPLE).
    #[default]
    None,
    /// Asked for and required (MUTUAL).
    Required,
}
