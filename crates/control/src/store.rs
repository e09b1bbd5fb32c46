//! The state directory: what a control plane must not forget, in files that are replaced as a whole.
//!
//! One control plane holds it at a time. Every file carries the version of its form. A file that cannot be read is
//! an error that names the cure; nothing is started anew over it.

pub mod allocations;
mod file;
mod home;
mod objects;
mod revisions;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use home::default_directory;
pub use objects::Objects;
pub use revisions::Revisions;

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another control plane holds it.
    #[error("lock {}: another control plane uses this state; stop it or give another --state", path.display())]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// The machine refused.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was to be done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the machine said.
        source: io::Error,
    },
    /// The content is not what we wrote.
    #[error("read {}: {reason}; restore it from a copy, or move it away: {loss}", path.display())]
    Corrupted {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// What is lost by starting without it.
        loss: &'static str,
    },
}

impl Error {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { what, path, source }
    }
}

/// The open state directory. The lock is held as long as this lives, and by no one after a kill.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens the directory (made with mode 0700 if missing) and locks it.
    ///
    /// # Errors
    /// When it cannot be made, or another control plane holds it.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(Error::io("make the state directory", directory))?;
        check_owner(directory)?;
        let path = directory.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { directory: directory.to_path_buf(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked { path }),
            Err(error) => Err(Error::io("lock", &path)(error.into())),
        }
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The text of a file, if it is there.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read_text(&self, name: &str, loss: &'static str) -> Result<Option<String>, Error> {
        let path = self.directory.join(name);
        match fs::read(&path) {
            Ok(bytes) => {
                let corrupted = |_| Error::Corrupted { path, reason: "it is not text".into(), loss };
                String::from_utf8(bytes).map(Some).map_err(corrupted)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// Puts a file of mode 0600 in place as a whole; after this it survives a loss of power.
    ///
    /// # Errors
    /// When the disk is full or the directory is gone; the old content then stays.
    pub fn write_text(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.directory.join(name);
        file::replace(&path, text.as_bytes(), file::Sync::Disk).map_err(Error::io("write", &path))
    }

    /// A value of a versioned JSON file, if it is there. `loss` says what is lost without it.
    ///
    /// # Errors
    /// When it is there and is not what we wrote.
    pub fn read<T: DeserializeOwned>(
        &self,
        name: &str,
        version: u32,
        loss: &'static str,
    ) -> Result<Option<T>, Error> {
        let Some(text) = self.read_text(name, loss)? else { return Ok(None) };
        file::decode(&text, version).map(Some).map_err(|reason| Error::Corrupted {
            path: self.directory.join(name),
            reason,
            loss,
        })
    }

    /// Replaces a versioned JSON file; after this it survives a kill, and, once the machine gets to it, a loss of
    /// power.
    ///
    /// # Errors
    /// As [`Store::write_text`].
    pub fn write<T: Serialize>(&self, name: &str, version: u32, value: &T) -> Result<(), Error> {
        let path = self.directory.join(name);
        let text = file::encode(value, version).map_err(|error| Error::io("write", &path)(error.into()))?;
        file::replace(&path, &text, file::Sync::Kernel).map_err(Error::io("write", &path))
    }

    /// The files of a directory within, by name; none when it is not there.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn list(&self, directory: &str) -> Result<Vec<String>, Error> {
        let path = self.directory.join(directory);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("list", &path)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let name = entry.map_err(Error::io("list", &path))?.file_name();
            // What a kill left beside is no file of ours.
            if let Some(name) = name.to_str().filter(|name| name.ends_with(".json")) {
                names.push(format!("{directory}/{name}"));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes a file; one that is not there is no error.
    ///
    /// # Errors
    /// When it stays.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let path = self.directory.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// The error for a file whose values make no sense.
    pub fn corrupted(&self, name: &str, reason: String, loss: &'static str) -> Error {
        Error::Corrupted { path: self.directory.join(name), reason, loss }
    }

    /// Whether only the owner may read a file.
    ///
    /// # Errors
    /// When others may, or the file cannot be looked at.
    pub fn check_private(&self, name: &str) -> Result<(), Error> {
        let path = self.directory.join(name);
        let mode = fs::metadata(&path).map_err(Error::io("look at", &path))?.permissions().mode();
        if mode & 0o077 == 0 {
            return Ok(());
        }
        let source = io::Error::other(format!(
            "mode {:o} lets others read a private key; chmod 600 it, and replace it if others have it",
            mode & 0o777
        ));
        Err(Error::Io { what: "trust", path, source })
    }
}

/// A directory that somebody else made could be filled by them.
fn check_owner(directory: &Path) -> Result<(), Error> {
    let metadata = fs::metadata(directory).map_err(Error::io("look at", directory))?;
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() == own && metadata.mode() & 0o022 == 0 {
        return Ok(());
    }
    let message = format!(
        "it belongs to user {} with mode {:o}; it must be ours ({own}) and writable by no one else",
        metadata.uid(),
        metadata.mode() & 0o777
    );
    Err(Error::io("use the state directory", directory)(io::Error::other(message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &tempfile::TempDir) -> Result<Store, Error> {
        Store::open(&directory.path().join("state"))
    }

    #[test]
    fn one_holds_the_state_and_leaves_it_readable_by_no_one_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(&directory).expect("open");
        let error = open(&directory).expect_err("held").to_string();
        assert!(error.contains("another control plane uses this state"), "{error}");
        store.write("x.json", 1, &vec![1, 2]).expect("write");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(store.directory()), mode(&store.directory().join("x.json"))), (0o700, 0o600));
        drop(store);
        let store = open(&directory).expect("free again");
        assert_eq!(store.read::<Vec<u32>>("x.json", 1, "").expect("read"), Some(vec![1, 2]));
        assert_eq!(store.read::<Vec<u32>>("y.json", 1, "").expect("read"), None);
    }

    #[test]
    fn what_we_did_not_write_is_an_error_that_says_what_to_do() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(&directory).expect("open");
        for (text, reason) in [
            ("", "EOF"),
            ("{\"version\":1,\"data\":[1,", "EOF"),
            ("{\"version\":2,\"data\":[1]}", "it is of version 2"),
            ("[1]", "expected a sequence"),
        ] {
            store.write_text("x.json", text).expect("write");
            let error = store.read::<Vec<u32>>("x.json", 1, "all is lost").expect_err(text).to_string();
            assert!(
                error.contains(reason) && error.ends_with("move it away: all is lost"),
                "{text}: {error}"
            );
        }
        fs::write(store.directory().join("x.json"), b"\xff").expect("write");
        assert!(matches!(store.read::<u32>("x.json", 1, ""), Err(Error::Corrupted { .. })));
    }

    #[test]
    fn a_key_that_others_may_read_is_not_trusted() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = open(&directory).expect("open");
        store.write_text("key", "x").expect("write");
        store.check_private("key").expect("mode 0600");
        fs::set_permissions(store.directory().join("key"), fs::Permissions::from_mode(0o640)).expect("chmod");
        let error = store.check_private("key").expect_err("mode 0640").to_string();
        assert!(error.contains("mode 640 lets others read"), "{error}");
    }
}
