//! Where a mesh keeps what outlives it, and where its sockets are.

use std::fs::{self, DirBuilder};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::output::WithHint as _;

/// The file in the state directory that says how to reach the running mesh.
const ANNOUNCEMENT: &str = "up.json";

/// The state directory, and the directory of the sockets, which lives as long as the mesh.
#[derive(Debug)]
pub struct Home {
    state: PathBuf,
    run: PathBuf,
    /// Held while the mesh runs: two supervisors must not share a state.
    _lock: fs::File,
}

/// How the other commands reach a running mesh.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announcement {
    /// `root`, `user-namespace` or `plain`.
    pub environment: String,
    /// The supervisor's process.
    pub supervisor: u32,
    /// Where the pages of all proxies are served.
    pub admin: SocketAddr,
    /// Where the sockets are.
    pub run: PathBuf,
}

/// The state directory that is meant when none is named.
pub(super) fn state_directory(named: Option<&Path>) -> PathBuf {
    named.map_or_else(lateen_control::store::default_directory, Path::to_owned)
}

impl Home {
    /// Opens the state directory, which may not be in use, and makes the directory of the sockets.
    ///
    /// # Errors
    /// When a directory cannot be made or is not ours, or another mesh uses the state.
    pub fn open(named: Option<&Path>) -> anyhow::Result<Self> {
        let state = state_directory(named);
        private_directory(&state)?;
        let state = fs::canonicalize(&state).with_context(|| format!("find {}", state.display()))?;
        let path = state.join("up.lock");
        let lock = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        if lock.try_lock().is_err() {
            return Err(anyhow::anyhow!("a mesh runs already with the state in {}", state.display()))
                .hint("join it with `lateen run`, stop it, or name another place with --state");
        }
        let run = run_directory(&state);
        // What a mesh that was killed left behind.
        let _ = fs::remove_dir_all(&run);
        private_directory(&run.join("p"))?;
        private_directory(&state.join("logs"))?;
        Ok(Self { state, run, _lock: lock })
    }

    /// Applications do not see the state, so what they work with cannot lie in it.
    ///
    /// # Errors
    /// When `directory` does.
    pub fn holds_not(&self, directory: &Path) -> anyhow::Result<()> {
        let directory =
            fs::canonicalize(directory).with_context(|| format!("find {}", directory.display()))?;
        if directory.starts_with(&self.state) {
            let state = self.state.display();
            return Err(anyhow::anyhow!("{} lies in the state directory {state}", directory.display()))
                .hint("applications may not see the state; name another place with --state");
        }
        Ok(())
    }

    /// What outlives the mesh.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The sockets.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The admin socket of the proxy of a pod.
    pub fn proxy_socket(&self, pod: &str) -> PathBuf {
        proxy_socket(&self.run, pod)
    }

    /// Says how the mesh is reached.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn announce(&self, announcement: &Announcement) -> anyhow::Result<()> {
        let path = self.state.join(ANNOUNCEMENT);
        fs::write(&path, serde_json::to_vec_pretty(announcement)?)
            .with_context(|| format!("write {}", path.display()))
    }
}

impl Drop for Home {
    /// Takes the sockets away: the mesh has ended, or did not start.
    fn drop(&mut self) {
        let _ = fs::remove_file(self.state.join(ANNOUNCEMENT));
        let _ = fs::remove_dir_all(&self.run);
    }
}

impl Announcement {
    /// How the mesh with this state is reached.
    ///
    /// # Errors
    /// When none runs.
    pub fn find(named: Option<&Path>) -> anyhow::Result<Self> {
        let state = state_directory(named);
        let none = || format!("no mesh runs with the state in {}", state.display());
        let bytes = fs::read(state.join(ANNOUNCEMENT)).with_context(none);
        let bytes = bytes.hint("start one with `lateen up DIR`, or name its state with --state")?;
        serde_json::from_slice(&bytes).with_context(|| format!("read {}", state.join(ANNOUNCEMENT).display()))
    }

    /// The control plane's API.
    pub fn api(&self) -> lateen_control::api::ApiClient {
        lateen_control::api::ApiClient::new(self.run.join("api.sock"))
    }

    /// The admin socket of the proxy of a pod.
    pub fn proxy_socket(&self, pod: &str) -> PathBuf {
        proxy_socket(&self.run, pod)
    }
}

/// Names of pods may be longer than the path of a socket may be, so a long one is told by its hash.
fn proxy_socket(run: &Path, pod: &str) -> PathBuf {
    let name =
        if pod.len() <= 40 { pod.to_owned() } else { format!("{}-{:016x}", &pod[..20], fnv(pod.as_bytes())) };
    run.join("p").join(format!("{name}.sock"))
}

/// Socket paths stay under 108 bytes wherever the state is: `$XDG_RUNTIME_DIR`, else the temporary directory.
fn run_directory(state: &Path) -> PathBuf {
    let name = format!(
        "lateen-{}-{:08x}",
        rustix::process::getuid().as_raw(),
        fnv(state.as_os_str().as_encoded_bytes()) as u32
    );
    let usable = |base: &PathBuf| base.as_os_str().len() <= 40 && base.is_dir() && is_ours(base);
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(usable);
    runtime.unwrap_or_else(|| PathBuf::from("/tmp")).join(name)
}

fn is_ours(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.uid() == rustix::process::getuid().as_raw())
}

/// Makes a directory that only we may enter, or checks that it is such.
fn private_directory(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("make the directory {}", path.display()))?;
    // In a directory that others may write to, what is there under our name could be somebody else's.
    if !is_ours(path) || fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_symlink()) {
        bail!("{} belongs to somebody else; remove it or name another place with --state", path.display());
    }
    Ok(())
}

/// FNV-1a: the same in every release.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_paths_stay_short() {
        let run =
            run_directory(Path::new("/a/very/long/path/that/goes/on/and/on/and/on/for/ever/and/ever/state"));
        let pod = format!("{}.{}", "x".repeat(200), "y".repeat(63));
        assert!(proxy_socket(&run, &pod).as_os_str().len() < 108);
        assert_ne!(proxy_socket(&run, &pod), proxy_socket(&run, &format!("{pod}z")));
    }
}
