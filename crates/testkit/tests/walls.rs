//! The walls of the house: which crate may know which, what may not be reached at all, and under which
//! licences. ARCHITECTURE.md draws the same picture; this test keeps it true.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every crate of ours and the crates of ours it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("lateen-model", &[]),
    ("lateen-runtime", &[]),
    ("lateen-engine", &["lateen-model"]),
    ("lateen-world", &["lateen-model"]),
    ("lateen-pki", &["lateen-model"]),
    ("lateen-capture", &["lateen-runtime"]),
    ("lateen-wire", &["lateen-model", "lateen-runtime", "lateen-pki"]),
    (
        "lateen-proxy",
        &["lateen-model", "lateen-engine", "lateen-wire", "lateen-pki", "lateen-runtime", "lateen-capture"],
    ),
    (
        "lateen-control",
        &["lateen-model", "lateen-engine", "lateen-world", "lateen-wire", "lateen-pki", "lateen-runtime"],
    ),
    ("lateen-sandbox", &["lateen-model", "lateen-capture", "lateen-runtime"]),
];

/// Crates that stand on top and may know all others.
const TOPS: &[&str] = &["lateen", "lateen-testkit", "lateen-bench", "lateen-peers"];

/// What may not be reached, from where, and why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "lateen-proxy",
        &["lateen-world", "lateen-envoy", "kube", "kube-client", "k8s-openapi"],
        "the data plane knows no Kubernetes and no user-facing schema",
    ),
    ("lateen-model", &["tokio", "serde", "prost", "kube"], "the model knows nothing"),
    (
        "lateen-engine",
        &["tokio", "serde", "prost", "mio", "socket2"],
        "deciding is pure: no I/O, no wire format",
    ),
    ("lateen-world", &["tokio", "mio", "prost", "socket2"], "translating is pure: no I/O, no wire format"),
    ("lateen", &["ring", "openssl-sys", "native-tls"], "one provider of cryptography: aws-lc-rs"),
];

/// Licences that users may ship without asking a lawyer.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "MIT",
    "MIT-0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "OpenSSL",
    "Apache-2.0 WITH LLVM-exception",
];

/// Crates in which `unsafe` may stand, each block with its reason.
const UNSAFE: &[&str] = &["runtime", "capture", "sandbox"];

struct Metadata {
    names: BTreeMap<String, String>,
    licences: BTreeMap<String, String>,
    ours: BTreeSet<String>,
    normal: BTreeMap<String, BTreeSet<String>>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn metadata() -> Metadata {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--offline",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut metadata = Metadata {
        names: BTreeMap::new(),
        licences: BTreeMap::new(),
        ours: array(&json["workspace_members"]).iter().map(text).collect(),
        normal: BTreeMap::new(),
    };
    for package in array(&json["packages"]) {
        metadata.names.insert(text(&package["id"]), text(&package["name"]));
        metadata.licences.insert(text(&package["id"]), text(&package["license"]));
    }
    for node in array(&json["resolve"]["nodes"]) {
        let normal = array(&node["deps"])
            .iter()
            .filter(|dep| array(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()))
            .map(|dep| text(&dep["pkg"]))
            .collect();
        metadata.normal.insert(text(&node["id"]), normal);
    }
    metadata
}

impl Metadata {
    fn reached(&self, id: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut next = vec![id.to_owned()];
        while let Some(id) = next.pop() {
            for dependency in self.normal.get(&id).into_iter().flatten() {
                if reached.insert(dependency.clone()) {
                    next.push(dependency.clone());
                }
            }
        }
        reached
    }
}

#[test]
fn crates_know_only_those_below_them() {
    let metadata = metadata();
    let known: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for id in &metadata.ours {
        let name = &metadata.names[id];
        if TOPS.contains(&name.as_str()) {
            continue;
        }
        let Some(allowed) = known.get(name.as_str()) else {
            wrong.push(format!(
                "`{name}` has no place in the picture: add it to ARCHITECTURE.md and to this test"
            ));
            continue;
        };
        for dependency in
            metadata.normal.get(id).into_iter().flatten().filter(|id| metadata.ours.contains(*id))
        {
            let dependency = &metadata.names[dependency];
            if !allowed.contains(&dependency.as_str()) {
                wrong.push(format!(
                    "`{name}` must not depend on `{dependency}`: see the floors in ARCHITECTURE.md"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All that is built into a crate. `cargo metadata` also names what weak features could bring but do not.
fn built_into(name: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--package",
            name,
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn what_must_not_be_reached_is_not() {
    let mut wrong = Vec::new();
    for (name, forbidden, why) in FORBIDDEN {
        for reached in built_into(name) {
            if forbidden.contains(&reached.as_str()) {
                wrong.push(format!("`{name}` must not depend on `{reached}`: {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn licences_are_permissive() {
    let metadata = metadata();
    let mut reached = BTreeSet::new();
    for id in &metadata.ours {
        reached.extend(metadata.reached(id));
    }
    let allowed = |expression: &str| {
        // "A OR B" needs one that is allowed, "A AND B" all; parentheses only group them.
        let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
        plain.split(" OR ").any(|any| any.split(" AND ").all(|one| LICENCES.contains(&one.trim())))
    };
    let wrong: Vec<_> = reached
        .iter()
        .filter(|id| !metadata.ours.contains(*id) && !allowed(&metadata.licences[*id]))
        .map(|id| format!("{}: {}", metadata.names[id], metadata.licences[id]))
        .collect();
    assert!(wrong.is_empty(), "licences to look at:\n{}", wrong.join("\n"));
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn unsafe_code_lives_in_three_crates() {
    for entry in std::fs::read_dir(root().join("crates")).expect("the crates").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if UNSAFE.contains(&name.as_str()) {
            continue;
        }
        let lib = entry.path().join("src/lib.rs");
        let face = if lib.exists() { lib } else { entry.path().join("src/main.rs") };
        let text = std::fs::read_to_string(&face).expect("the face of a crate");
        assert!(text.contains("#![forbid(unsafe_code)]"), "{} must forbid unsafe code", face.display());
    }
}

#[test]
fn pure_crates_read_no_clock_and_do_no_io() {
    let mut wrong = Vec::new();
    for name in ["model", "engine", "world"] {
        let mut files = Vec::new();
        sources(&root().join("crates").join(name).join("src"), &mut files);
        for file in files {
            let text = std::fs::read_to_string(&file).expect("a source file");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in [
                "Instant::now",
                "SystemTime::now",
                "std::fs",
                "std::env::",
                "TcpStream",
                "UdpSocket",
                "thread::sleep",
            ] {
                if code.contains(word) {
                    wrong.push(format!("{}: {word}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "pure crates take time and bytes as arguments:\n{}", wrong.join("\n"));
}
