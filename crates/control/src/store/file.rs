//! One file: replaced as a whole, with the version of its form inside.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What a written file survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sync {
    /// The end of this process.
    Kernel,
    /// A loss of power.
    Disk,
}

/// Writes beside the file, then renames over it: a reader sees the old content or the new.
pub(super) fn replace(path: &Path, content: &[u8], sync: Sync) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    // What an earlier end left there may have other rights.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let create = || File::options().write(true).create_new(true).mode(0o600).open(&beside);
    let mut file = match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A directory within the state, needed for the first time.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(beside.parent().unwrap_or(path))?;
            create()?
        }
        other => other?,
    };
    file.write_all(content)?;
    if sync == Sync::Disk {
        file.sync_all()?;
    }
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(directory) if sync == Sync::Disk => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}

#[derive(Serialize)]
struct Writing<'a, T> {
    version: u32,
    data: &'a T,
}

#[derive(Deserialize)]
struct Reading<T> {
    data: T,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

pub(super) fn encode<T: Serialize>(data: &T, version: u32) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(&Writing { version, data })?;
    text.push(b'\n');
    Ok(text)
}

pub(super) fn decode<T: DeserializeOwned>(text: &str, version: u32) -> Result<T, String> {
    let found: Version = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if found.version != version {
        return Err(format!("it is of version {}, this program reads {version}", found.version));
    }
    let reading: Reading<T> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok(reading.data)
}
