//! `lateen status` of a mesh whose files are not all well.

use crate::mesh::{Mesh, eventually};

#[test]
fn what_is_no_object_at_all_is_told_with_its_place() {
    let mesh = Mesh::start("status", "apiVersion: v1\nkind: Servise\nmetadata: {name: cart}\n");
    let told = eventually("a status", || {
        let output = mesh.output(&["status"], "");
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.success() && text.contains(&mesh.name("front"))).then_some(text)
    });
    let problem = "more.yaml:2:7: \"Servise\" is no kind of \"v1\"; did you mean \"Service\"?";
    assert!(told.contains(problem), "{told}");
}
