//! Virtual addresses of services: whoever remembers one must not meet another service there.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lateen_model::ServiceId;
use lateen_world::Allocations;

use super::{Error, Store};

const NAME: &str = "addresses.json";
const LOSS: &str = "services may get other virtual addresses";

/// The addresses given by earlier runs.
///
/// # Errors
/// When the file cannot be read.
pub fn load(store: &Store) -> Result<Allocations, Error> {
    let stored: BTreeMap<String, Vec<IpAddr>> = store.read(NAME, 1, LOSS)?.unwrap_or_default();
    let parse = |(service, addresses): (String, Vec<IpAddr>)| {
        let corrupted = || store.corrupted(NAME, format!("{service:?} names no service"), LOSS);
        Ok((ServiceId::parse(&service).ok_or_else(corrupted)?, addresses))
    };
    stored.into_iter().map(parse).collect()
}

/// Writes them down; before anybody is told of them.
///
/// # Errors
/// When the disk is full or the directory is gone.
pub fn save(store: &Store, allocations: &Allocations) -> Result<(), Error> {
    let stored: BTreeMap<String, &Vec<IpAddr>> =
        allocations.iter().map(|(service, addresses)| (service.to_string(), addresses)).collect();
    store.write(NAME, 1, &stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("open");
        let service = ServiceId::parse("shop/cart.shop.svc.cluster.local").expect("a service");
        let given = Allocations::from([(service, vec!["240.240.1.1".parse().expect("an address")])]);
        save(&store, &given).expect("save");
        assert_eq!(load(&store).expect("load"), given);
        store.write_text(NAME, r#"{"version":1,"data":{"cart":[]}}"#).expect("write");
        assert!(load(&store).expect_err("no service").to_string().contains("names no service"));
    }
}
