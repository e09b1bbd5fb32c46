//! Compiles the protos without protoc, and keeps their descriptors for the canonical YAML.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

const FILES: &[&str] = &[
    "envoy/service/discovery/v3/discovery.proto",
    "istio/workload/workload.proto",
    "istio/security/authorization.proto",
    "istio/auth/ca.proto",
    "lateen/v1/address.proto",
    "lateen/v1/dump.proto",
    "lateen/v1/gateway.proto",
    "lateen/v1/mesh.proto",
    "lateen/v1/policy.proto",
    "lateen/v1/process.proto",
    "lateen/v1/route.proto",
    "lateen/v1/traffic.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(FILES)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        // Maps in key order, so that the same object has the same bytes everywhere.
        .btree_map(".")
        .extern_path(".google.protobuf.Any", "crate::Any")
        .include_file("pb.rs")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
