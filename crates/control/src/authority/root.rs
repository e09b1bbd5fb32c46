//! The root in the state directory: key and certificate in one file of mode 0600, so that there is never one
//! without the other.

use std::time::SystemTime;

use lateen_model::TrustDomain;
use lateen_pki::{Root, SecretPem};

use crate::store::{Error, Store};

const NAME: &str = "root.pem";
const LOSS: &str = "a new root is made, and everything that runs must start again to trust it";
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Whether the root of earlier runs, if there is one, can be used.
///
/// # Errors
/// When the file is there and is not a root, or others may read it.
pub fn check(store: &Store) -> Result<(), Error> {
    let Some(text) = store.read_text(NAME, LOSS)? else { return Ok(()) };
    store.check_private(NAME)?;
    read(store, &SecretPem::new(text)).map(drop)
}

/// The root of earlier runs; a new one only where there never was any.
///
/// # Errors
/// When the file is there and is not a root, or others may read it, or a new one cannot be written.
pub fn load_or_make(store: &Store, trust_domain: &TrustDomain, now: SystemTime) -> Result<Root, Error> {
    let Some(text) = store.read_text(NAME, LOSS)? else {
        let root = Root::generate(trust_domain, now);
        let (chain, key) = root.to_pem();
        // Read it as the next start will, before anything is signed with it.
        let text = SecretPem::new(format!("{}{chain}", key.expose()));
        store.write_text(NAME, text.expose())?;
        tracing::info!(path = %store.directory().join(NAME).display(), "made a new root");
        return read(store, &text);
    };
    store.check_private(NAME)?;
    read(store, &SecretPem::new(text))
}

fn read(store: &Store, text: &SecretPem) -> Result<Root, Error> {
    let text = text.expose();
    let corrupted = |reason: &str| store.corrupted(NAME, reason.to_owned(), LOSS);
    let at = text.find(CERTIFICATE).ok_or_else(|| corrupted("there is no certificate in it"))?;
    let (key, chain) = text.split_at(at);
    Root::from_pem(chain, &SecretPem::new(key.to_owned())).map_err(|error| corrupted(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_broken_root_is_an_error_and_never_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("open");
        let load = || load_or_make(&store, &TrustDomain::default(), SystemTime::now());
        let path = directory.path().join(NAME);
        load().expect("a new one");
        let text = fs::read_to_string(&path).expect("there");
        for broken in ["", &text[..text.len() / 2], &text.replace("BEGIN CERT", "BEGIN CURT"), &text[40..]] {
            fs::write(&path, broken).expect("write");
            let error = load().expect_err("broken").to_string();
            assert!(error.contains("restore it from a copy"), "{error}");
            assert_eq!(fs::read_to_string(&path).expect("there"), broken);
        }
        fs::write(&path, &text).expect("write");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("chmod");
        assert!(load().expect_err("open to all").to_string().contains("mode 644"));
    }
}
