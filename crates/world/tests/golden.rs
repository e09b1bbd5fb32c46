//! Triples: what users wrote, what the mesh means, what its authors are told.
//!
//! `LATEEN_RENEW=1 cargo test -p lateen-world --test golden` writes them anew; the diff is reviewed.

use lateen_world::{Settings, Status, load};
use std::fmt::Write as _;
use std::path::Path;

#[test]
fn goldens_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<_> =
        std::fs::read_dir(&root).expect("the goldens").map(|entry| entry.expect("an entry").path()).collect();
    cases.sort();
    assert!(!cases.is_empty(), "the goldens are there");
    let failed: Vec<_> = cases.iter().filter(|case| !check(case)).collect();
    assert!(failed.is_empty(), "LATEEN_RENEW=1 writes these anew: {failed:?}");
}

fn check(case: &Path) -> bool {
    let text = std::fs::read_to_string(case.join("in.yaml")).expect("in.yaml");
    let loaded = load(Settings::default(), [("in.yaml".into(), text)]);
    let mut model = String::new();
    for entry in loaded.catalog.to_delta().set {
        writeln!(model, "{}\n  scope {:?}\n{:#?}\n", entry.key, entry.scope, entry.resource)
            .expect("a string");
    }
    let mut status = String::new();
    for one in &loaded.statuses {
        print(&mut status, one);
    }
    for problem in loaded.problems.iter().filter(|problem| problem.object.is_none()) {
        writeln!(status, "{problem}").expect("a string");
    }
    // Both are looked at, so that one renewal is enough.
    let model = same(&case.join("model.txt"), &model);
    let status = same(&case.join("status.txt"), &status);
    model && status
}

fn print(out: &mut String, status: &Status) {
    writeln!(out, "{} ({}:{})", status.object, status.file, status.line).expect("a string");
    for condition in &status.conditions {
        let holds = if condition.holds { "" } else { "not " };
        writeln!(out, "  {holds}{} ({}) {}", condition.kind, condition.reason, condition.message)
            .expect("a string");
    }
    for problem in &status.problems {
        writeln!(out, "  {problem}").expect("a string");
        writeln!(out, "      {:?} at {}", problem.text, problem.field.as_deref().unwrap_or("-"))
            .expect("a string");
    }
}

fn same(path: &Path, found: &str) -> bool {
    if std::env::var_os("LATEEN_RENEW").is_some() {
        std::fs::write(path, found).expect("a golden can be written");
        return true;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    if expected != found {
        let line = expected.lines().zip(found.lines()).position(|(a, b)| a != b);
        let message = format!("{} differs from line {:?} on\n", path.display(), line.map(|line| line + 1));
        std::io::Write::write_all(&mut std::io::stderr(), message.as_bytes()).expect("stderr");
    }
    expected == found
}
