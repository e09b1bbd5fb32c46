//! `lateen check`: silent on what is right, at the place of what is wrong.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const RIGHT: &str = "apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80}]
---
apiVersion: lateen.dev/v1alpha1
kind: Process
metadata: {name: web, labels: {app: web}}
spec: {command: [web], ports: [80]}
";

const ROUTE: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http:
  - route:
    - destination: {host: web}
";

const POLICY: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web}
spec:
  rules:
  - from: [{source: {requestPrincipals: ['*']}}]
";

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    directory
}

fn check(path: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lateen"));
    command.env("NO_COLOR", "1").arg("check").arg(path).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn nothing_is_said_of_what_is_right() {
    let files =
        directory(&[("a.yaml", RIGHT), ("deep/route.yml", ROUTE), ("notes.txt", "{"), (".hidden.yaml", "{")]);
    for arguments in [&[][..], &["--strict"]] {
        let output = check(files.path(), arguments);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!((text(&output.stdout), text(&output.stderr)), (String::new(), String::new()));
    }
    assert_eq!(text(&check(files.path(), &["--output", "json"]).stdout), "[]\n");
}

#[test]
fn a_misspelt_field_is_shown_where_it_stands_with_the_nearest_one() {
    let files = directory(&[("a.yaml", RIGHT), ("route.yaml", &ROUTE.replace("hosts:", "host:"))]);
    let output = check(files.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let (picture, place) = (text(&output.stdout), files.path().join("route.yaml"));
    for part in
        [&format!("{}:5:3", place.display()), "5 |   host: [web]", "|   ^^^^", "did you mean `hosts`?"]
    {
        assert!(picture.contains(part), "{part} in\n{picture}");
    }
    assert_eq!(text(&output.stderr), "1 error\n");
}

#[test]
fn programs_read_the_same() {
    let files = directory(&[("route.yaml", &ROUTE.replace("hosts:", "host:"))]);
    let output = check(&files.path().join("route.yaml"), &["--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = &rows[0];
    assert_eq!(
        (row["line"].as_u64(), row["column"].as_u64(), row["length"].as_u64()),
        (Some(5), Some(3), Some(4))
    );
    assert_eq!((row["severity"].as_str(), row["text"].as_str()), (Some("error"), Some("host")));
    assert_eq!((row["suggestion"].as_str(), row["field"].as_str()), (Some("hosts"), Some("spec.host")));
    assert_eq!(row["object"].as_str(), Some("VirtualService.networking.istio.io/default/web"));
}

#[test]
fn what_is_not_enforced_is_a_warning_for_traffic_and_an_error_for_security() {
    let prefix = ROUTE.replace("  - route:", "  - match: [{statPrefix: x}]\n    route:");
    for (file, strict, expected) in
        [(prefix.as_str(), false, 0), (prefix.as_str(), true, 1), (POLICY, false, 1)]
    {
        let files = directory(&[("a.yaml", RIGHT), ("b.yaml", file)]);
        let output = check(files.path(), if strict { &["--strict"] } else { &[] });
        assert_eq!(output.status.code(), Some(expected), "{file}");
        assert!(text(&output.stdout).contains("is not enforced yet"), "{file}");
    }
}

#[test]
fn files_that_cannot_be_read_are_errors_and_a_missing_path_says_so() {
    let files = directory(&[("a.yaml", RIGHT)]);
    std::fs::write(files.path().join("b.yaml"), b"a: 1\nb: \xff\n").unwrap();
    let output = check(files.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("line 2 is not UTF-8"), "{}", text(&output.stdout));

    let output = check(&PathBuf::from("/nowhere/at/all"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: read /nowhere/at/all: "), "{}", text(&output.stderr));
}

#[test]
fn the_key_of_a_secret_is_shown_nowhere() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/tls\nstringData: {tls.crt: CERT-TEXT, tls.key: KEY-TEXT}\n";
    for broken in [
        secret.to_owned(),
        secret.replace("KEY-TEXT}", "KEY-TEXT"),
        secret.replace("stringData", "stringDate"),
    ] {
        let files = directory(&[("s.yaml", &broken)]);
        for arguments in [&[][..], &["--output", "json"]] {
            let output = check(files.path(), arguments);
            assert_eq!(output.status.code(), Some(1), "{broken}");
            let said = text(&output.stdout) + &text(&output.stderr);
            assert!(!said.contains("KEY-TEXT") && !said.contains("CERT-TEXT"), "{said}");
        }
    }
}
