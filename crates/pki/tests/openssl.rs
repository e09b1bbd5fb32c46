//! What we write, read by somebody else: the `openssl` command, where there is one.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use lateen_model::Identity;
use lateen_pki::csr::{self, Request};
use lateen_pki::{CertifiedIdentity, Issuer, PrivateKey, Root, SecretPem, TrustBundle, Usage, verify};

/// Runs `openssl` in `directory`; `None` when there is none on this machine.
fn openssl(directory: &Path, arguments: &str) -> Option<String> {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(directory).output().ok()?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {text}");
    Some(text)
}

fn cart() -> Identity {
    Identity::parse("spiffe://cluster.local/ns/shop/sa/cart").expect("an identity")
}

#[test]
fn openssl_reads_and_believes_what_we_write() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).expect("writes");
    let run = |arguments: &str| openssl(directory.path(), arguments);
    if run("version").is_none() {
        return println!("skipped: no openssl on this machine");
    }
    let now = SystemTime::now();
    let issuer = Issuer::new(Root::generate(&cart().trust_domain, now), Duration::from_secs(3_600));
    let key = PrivateKey::generate();
    let request = csr::make(&key, &cart());
    let parsed = Request::parse(&request).expect("a request");
    let issued = issuer.issue(&parsed, &cart(), Duration::from_secs(3_600), now).expect("issued");
    let (root, root_key) = issuer.root().to_pem();
    write("root.pem", &root);
    write("root.key", root_key.expose());
    write("leaf.pem", &issued.to_pem());
    write("cart.csr", &request);
    let checked = run("req -in cart.csr -noout -verify -text").expect("ran before");
    assert!(
        checked.contains("verify OK") && checked.contains("URI:spiffe://cluster.local/ns/shop/sa/cart"),
        "{checked}"
    );
    for purpose in ["sslserver", "sslclient"] {
        let verified = run(&format!("verify -x509_strict -purpose {purpose} -CAfile root.pem leaf.pem"));
        assert_eq!(verified.as_deref(), Some("leaf.pem: OK\n"));
    }
    let text = run("x509 -in leaf.pem -noout -text").expect("ran before");
    for part in [
        "X509v3 Subject Alternative Name: critical\n",
        "URI:spiffe://cluster.local/ns/shop/sa/cart",
        "CA:FALSE",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "X509v3 Authority Key Identifier",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    run("pkey -in root.key -noout -check");
}

#[test]
fn we_read_what_openssl_writes() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = |arguments: &str| openssl(directory.path(), arguments);
    if run("version").is_none() {
        return println!("skipped: no openssl on this machine");
    }
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).expect("reads");
    // An authority with an intermediate that signs for us.
    let (root, usage) = ("root", "keyUsage=critical,keyCertSign");
    run(&format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {root}.key -out {root}.pem -subj /O=test/CN=root -days 30 -addext {usage}"
    ));
    run(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout mid.key -out mid.csr -subj /O=test/CN=mid",
    );
    let extensions =
        "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n";
    fs::write(directory.path().join("ca.ext"), extensions).expect("writes");
    run(
        "x509 -req -in mid.csr -CA root.pem -CAkey root.key -CAcreateserial -out mid.pem -days 20 -extfile ca.ext",
    );
    let chain = read("mid.pem") + &read("root.pem");
    let authority = Root::from_pem(&chain, &SecretPem::new(read("mid.key"))).expect("an authority");
    let bundle = authority.bundle(cart().trust_domain);
    assert_eq!(bundle, TrustBundle::from_pem(cart().trust_domain, &read("root.pem")).expect("the root"));
    // A request made elsewhere.
    run(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout cart.key -out cart.csr -subj / -addext subjectAltName=URI:spiffe://cluster.local/ns/shop/sa/cart",
    );
    let request = Request::parse(&read("cart.csr")).expect("a request");
    assert_eq!(request.identity, Some(cart()));
    // After everything was written, since certificates count whole seconds.
    let now = SystemTime::now();
    let issuer = Issuer::new(authority, Duration::from_secs(3_600));
    let issued = issuer.issue(&request, &cart(), Duration::from_secs(3_600), now).expect("issued");
    assert_eq!(issued.chain.len(), 2, "the intermediate is shown, the root is not");
    assert_eq!(verify::verify(&issued.chain, Usage::Client, &bundle, now), Ok(cart()));
    let key = PrivateKey::from_pem(&SecretPem::new(read("cart.key"))).expect("a key");
    CertifiedIdentity::from_pem(&issued.to_pem(), key).expect("belongs together");
    fs::write(directory.path().join("leaf.pem"), issued.to_pem()).expect("writes");
    let verified = run("verify -CAfile root.pem -untrusted mid.pem leaf.pem");
    assert_eq!(verified.as_deref(), Some("leaf.pem: OK\n"));
}
