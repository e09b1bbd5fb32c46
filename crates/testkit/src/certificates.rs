//! Certificates that do not come from the mesh: what gateways show to the world, and what clients show to them.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// Somebody who signs.
pub struct CertificateAuthority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A chain and its key.
#[derive(Clone)]
pub struct Certificate {
    /// The chain, PEM.
    pub chain: String,
    /// The key, PEM.
    pub key: String,
}

impl CertificateAuthority {
    /// A new authority.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signed").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Its own certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for this DNS name, for servers and clients.
    pub fn certify(&self, name: &str) -> Certificate {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let chain = params.signed_by(&key, &self.issuer).expect("signed").pem();
        Certificate { chain, key: key.serialize_pem() }
    }
}

impl Default for CertificateAuthority {
    fn default() -> Self {
        Self::new()
    }
}

impl Certificate {
    /// The Secret that holds it; `clients` is who may vouch for clients.
    pub fn secret(&self, namespace: &str, name: &str, clients: Option<&CertificateAuthority>) -> String {
        let indent = |pem: &str| pem.replace('\n', "\n    ");
        let roots = clients.map_or(String::new(), |authority| {
            format!("  ca.crt: |\n    {}\n", indent(authority.pem().trim_end()))
        });
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             type: kubernetes.io/tls\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n{roots}",
            indent(self.chain.trim_end()),
            indent(self.key.trim_end()),
        )
    }
}
