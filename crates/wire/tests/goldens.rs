//! The bytes of this release, kept: what an older proxy was sent, a newer one must read the same, and the same
//! object must have the same bytes everywhere. `LATEEN_RENEW_GOLDENS=1` writes them anew; a change of an
//! existing line needs a word in `requires`.

#![allow(clippy::unwrap_used, reason = "a test")]

use lateen_model::{Entry, Scope};
use lateen_wire::convert::{TypeUrl, decode, encode};
use lateen_wire::{Version, json};
use std::fmt::Write;
use std::path::Path;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn the_bytes_of_the_release_are_read_and_written_the_same() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let yaml = std::fs::read_to_string(directory.join("catalog.yaml")).unwrap();
    let loaded = json::from_yaml(&yaml).unwrap();
    assert_eq!(loaded.refused, []);
    let entries: Vec<Entry> = loaded.catalog.to_delta().set.iter().map(|entry| (**entry).clone()).collect();
    let lines = entries.iter().map(|entry| {
        let encoded = encode(entry);
        let version = Version::of(&encoded.bytes);
        format!("{} {} {version} {}\n", encoded.type_url, encoded.name, hex(&encoded.bytes))
    });
    let written: String = lines.collect();
    if std::env::var_os("LATEEN_RENEW_GOLDENS").is_some() {
        std::fs::write(directory.join("catalog.bytes"), &written).unwrap();
        std::fs::write(directory.join("catalog.yaml"), json::to_yaml(&loaded.catalog)).unwrap();
    }
    let kept = std::fs::read_to_string(directory.join("catalog.bytes")).unwrap();
    assert_eq!(written, kept, "the same objects have other bytes now");
    assert_eq!(
        json::to_yaml(&loaded.catalog),
        std::fs::read_to_string(directory.join("catalog.yaml")).unwrap()
    );
    for (line, entry) in kept.lines().zip(entries) {
        let [type_url, name, _, bytes]: [&str; 4] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let read = decode(TypeUrl::parse(type_url).unwrap(), name, unhex(bytes).into()).unwrap();
        assert_eq!(read, Entry { scope: Scope::Everyone, ..entry });
    }
}
