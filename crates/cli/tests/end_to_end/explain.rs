//! `lateen explain` of the shop that comes with Lateen.

use std::process::Command;

const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/shop");

/// Exit code, stdout and stderr.
fn explain(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lateen"));
    let output = command.args(["explain", "--dir", SHOP]).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_header_decides_the_version() {
    let question = ["--from", "default/front", "--to", "http://reviews.default:9080/reviews/1"];
    let (code, told, remarks) = explain(&[&question[..], &["--header", "end-user=jason"]].concat());
    assert_eq!((code, remarks.as_str()), (Some(0), ""), "{told}");
    for part in
        ["MATCH     VirtualService default/reviews rule jason", "subset v3", "=> passed to the application"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let (_, told, _) = explain(&question);
    assert!(told.contains("no        VirtualService default/reviews rule jason: not so: header"), "{told}");
    assert!(told.contains("90 % reviews.default.svc.cluster.local:9080 subset v1"), "{told}");
}

#[test]
fn a_denial_names_its_policy_in_both_forms() {
    let question = ["--from", "default/front", "--to", "http://ratings:9080/"];
    let (code, told, _) = explain(&question);
    let verdict = "=> DENIED with 403: rbac_access_denied_matched_policy[none], by AuthorizationPolicy default/ratings-for-reviews";
    assert_eq!(code, Some(0));
    assert!(told.contains(verdict), "{told}");
    let (_, json, _) = explain(&[&question[..], &["--output", "json"]].concat());
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(told["arrives"], false);
    let steps = told["legs"][1]["steps"].as_array().unwrap();
    assert!(steps.iter().any(|step| step["step"] == "policy" && step["action"] == "ALLOW"), "{json}");
}

#[test]
fn a_question_that_cannot_be_asked_says_why() {
    let (code, _, remarks) = explain(&["--from", "default/nobody", "--to", "http://x/"]);
    assert_eq!(code, Some(1));
    assert!(
        remarks.contains("no workload is called \"default/nobody\"; there are: default/client-0"),
        "{remarks}"
    );
    for wrong in [["--to", "ftp://x/", "-X", "GET"], ["--to", "http://x/", "--header", "nothing"]] {
        let (code, _, remarks) = explain(&[&["--from", "default/front"], &wrong[..]].concat());
        assert_eq!(code, Some(2), "{remarks}");
    }
}
