//! Resources from a file, for a proxy without a control plane.

use std::path::{Path, PathBuf};

use lateen_wire::json;
use lateen_wire::session::Batch;

/// Why the resources cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("read resources from {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// It is no dump.
    #[error("read resources from {}; expected what `lateen dump` prints", .0.display())]
    Parse(PathBuf, #[source] json::Error),
}

/// Reads the canonical YAML that `/dump` prints, as one batch.
///
/// # Errors
/// When the file cannot be read or is no dump. A resource that makes no sense is refused by itself.
pub fn load(path: &Path) -> Result<Batch, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::Read(path.to_owned(), error))?;
    let loaded = json::from_yaml(&text).map_err(|error| Error::Parse(path.to_owned(), error))?;
    let revision = loaded.catalog.revision();
    Ok(Batch { delta: loaded.catalog.to_delta(), revision, refused: loaded.refused })
}
