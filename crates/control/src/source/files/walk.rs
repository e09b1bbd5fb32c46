//! A walk over the directory: which files count, and which directories have to be watched.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::inotify::Place;
use super::{Limits, Problem};

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A file that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// Where it was found.
    pub path: PathBuf,
    /// Where a symlink leads in the end.
    pub target: Option<PathBuf>,
    /// Its state.
    pub stamp: Stamp,
}

/// What a walk found.
#[derive(Default, Debug)]
pub(super) struct Walk {
    /// Files that count, by their name relative to the root.
    pub files: BTreeMap<String, Found>,
    /// What could not be looked at.
    pub problems: Vec<Problem>,
    /// Names under which something may be that we could not see: nothing below them may be called gone.
    pub unseen: Vec<String>,
    /// Whether the root itself is a directory.
    pub rooted: bool,
    /// Whether every directory could be listed.
    pub listed: bool,
    /// What has to be watched to hear of the next change.
    pub places: Vec<Place>,
}

impl Walk {
    /// Whether the walk could not see the place of this file.
    pub(super) fn is_unseen(&self, name: &str) -> bool {
        self.unseen.iter().any(|unseen| {
            unseen.is_empty()
                || name
                    .strip_prefix(unseen.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

/// Whether a file of this name is an object file: hidden files and what editors leave are not.
pub(super) fn counts(name: &OsStr) -> bool {
    let Some(text) = name.to_str() else { return false };
    let extension = Path::new(name).extension().and_then(OsStr::to_str).unwrap_or_default();
    let known = ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known));
    known && !text.starts_with(['.', '#', '~'])
}

/// Walks the tree below `root`. `watch` is told of each place before it is listed, so that nothing that comes
/// afterwards is missed.
///
/// Symlinks are followed; each directory is entered once, however many ways lead to it, so loops end.
pub(super) fn walk(root: &Path, limits: &Limits, mut watch: impl FnMut(&Place)) -> Walk {
    let mut walk = Walk { listed: true, ..Walk::default() };
    for place in surroundings(root) {
        watch(&place);
        walk.places.push(place);
    }
    let metadata = fs::metadata(root).and_then(|metadata| match metadata.is_dir() {
        true => Ok(metadata),
        false => Err(io::Error::from(io::ErrorKind::NotADirectory)),
    });
    let metadata = match metadata {
        Ok(metadata) => metadata,
        Err(error) => {
            walk.problem("", format!("read the directory {}: {error}", root.display()));
            walk.unseen.push(String::new());
            return walk;
        }
    };
    walk.rooted = true;
    let mut entered = HashSet::from([(metadata.dev(), metadata.ino())]);
    // Directories proper before linked ones, so that a file's name is the plainest.
    let mut plain = VecDeque::from([(root.to_path_buf(), String::new(), 0)]);
    let mut linked = VecDeque::new();
    while let Some((directory, name, depth)) = plain.pop_front().or_else(|| linked.pop_front()) {
        let place = Place { directory: directory.clone(), only: None };
        watch(&place);
        walk.places.push(place);
        for entry in list(&directory, &name, &mut walk) {
            let Some(entry) = look(&entry, &name, &mut walk) else { continue };
            match entry {
                Entry::File(name, found) if walk.files.len() < limits.files => {
                    walk.files.insert(name, found);
                }
                Entry::File(name, _) => walk.unseen_for(&name, format!("more than {} files", limits.files)),
                Entry::Directory { name, .. } if depth >= limits.depth => {
                    walk.unseen_for(&name, format!("deeper than {} directories", limits.depth));
                }
                Entry::Directory { path, name, metadata, link } => {
                    if entered.insert((metadata.dev(), metadata.ino())) {
                        if link { &mut linked } else { &mut plain }.push_back((path, name, depth + 1));
                    }
                }
            }
        }
    }
    let targets: Vec<Place> =
        walk.files.values().filter_map(|found| found.target.as_deref()).filter_map(place_of).collect();
    targets.iter().for_each(&mut watch);
    walk.places.extend(targets);
    walk
}

impl Walk {
    fn problem(&mut self, name: &str, message: String) {
        self.problems.push(Problem { file: name.to_owned(), message });
    }

    fn unseen_for(&mut self, name: &str, message: String) {
        self.problem(name, message);
        self.unseen.push(name.to_owned());
    }
}

enum Entry {
    File(String, Found),
    Directory { path: PathBuf, name: String, metadata: Metadata, link: bool },
}

/// The entries of a directory in the order of their names.
fn list(directory: &Path, name: &str, walk: &mut Walk) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    match entries {
        Ok(entries) => {
            let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
            paths.sort();
            paths
        }
        // Removed while we walked: nothing is there.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !name.is_empty() => Vec::new(),
        Err(error) => {
            walk.listed = false;
            walk.unseen_for(name, format!("list the directory {}: {error}", directory.display()));
            Vec::new()
        }
    }
}

/// What an entry is, if it counts.
fn look(path: &Path, parent: &str, walk: &mut Walk) -> Option<Entry> {
    let name = path.file_name()?;
    let hidden = name.to_string_lossy().starts_with('.');
    if hidden {
        return None;
    }
    let Some(text) = name.to_str() else {
        let shown = name.to_string_lossy().into_owned();
        walk.problem(&join(parent, &shown), "the name of the file is not UTF-8; rename it".to_owned());
        return None;
    };
    let name = join(parent, text);
    let link = fs::symlink_metadata(path).ok()?.is_symlink();
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => {
            // A dangling symlink is a file that is gone, unless its name says that it matters.
            if counts(path.file_name()?) && error.kind() != io::ErrorKind::NotFound {
                walk.unseen_for(&name, format!("read {}: {error}", path.display()));
            }
            return None;
        }
    };
    if metadata.is_dir() {
        return Some(Entry::Directory { path: path.to_path_buf(), name, metadata, link });
    }
    // A device or a pipe would block or never end.
    if !metadata.is_file() || !counts(path.file_name()?) {
        return None;
    }
    let target = link.then(|| fs::canonicalize(path).ok()).flatten();
    Some(Entry::File(name, Found { path: path.to_path_buf(), target, stamp: Stamp::of(&metadata) }))
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

/// What has to be watched to hear that the root itself is made, removed or replaced: its name in its parent, the
/// same for what it is a symlink to, and, where the parent is missing too, the first ancestor that is there.
fn surroundings(root: &Path) -> Vec<Place> {
    let mut places = Vec::new();
    places.extend(place_of(root));
    if let Ok(target) = fs::canonicalize(root) {
        places.extend(place_of(&target));
    }
    let mut path = root;
    while let Some(place) = place_of(path) {
        if fs::metadata(&place.directory).is_ok() {
            break;
        }
        places.extend(path.parent().and_then(place_of));
        let Some(parent) = path.parent() else { break };
        path = parent;
    }
    places.dedup();
    places
}

/// The entry of this path in the directory it lies in.
fn place_of(path: &Path) -> Option<Place> {
    let directory = path.parent()?;
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    Some(Place { directory: directory.to_path_buf(), only: Some(path.file_name()?.to_owned()) })
}
