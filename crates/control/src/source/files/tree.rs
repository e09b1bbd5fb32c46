//! What is known of the files, and what a look at them changes. Time comes as an argument.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::inotify::{Hint, Place};
use super::walk::{Found, Stamp, Walk, counts, walk};
use super::{FileChange, Limits, Problem};

/// The files as they were last told to the hub, and what is due.
#[derive(Debug)]
pub(super) struct Tree {
    root: PathBuf,
    limits: Limits,
    known: BTreeMap<String, Known>,
    /// Open for writing as far as we know: path, and the last sign of it.
    writing: BTreeMap<PathBuf, Instant>,
    /// Paths to be looked at by themselves.
    touched: BTreeSet<PathBuf>,
    /// Everything is to be looked at.
    rescan: bool,
    /// What the last walk could not see.
    walk_problems: Vec<Problem>,
    /// What could not be read, by file.
    file_problems: BTreeMap<String, String>,
    /// Without a watch nobody says that a file was closed: it must then stay the same for two looks.
    polling: bool,
    /// Whether the root was seen as a directory, with every directory below listed, at least once.
    rooted: bool,
}

#[derive(Debug)]
struct Known {
    found: Found,
    /// What was told; none before the first time.
    told: Option<Told>,
    /// The state that was read (or given up) last; none when it is to be read again.
    read: Option<Stamp>,
    /// Seen in the same state twice; matters to who polls.
    still: bool,
    /// Since when it is missing.
    gone: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Told {
    Text(Digest),
    Hidden,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Digest {
    length: usize,
    hash: u64,
}

impl Digest {
    fn of(text: &str) -> Self {
        Self { length: text.len(), hash: BuildHasherDefault::<DefaultHasher>::default().hash_one(text) }
    }
}

/// What was read and is not told yet: whoever wrote meanwhile spoils it.
pub(super) struct Candidates {
    reads: Vec<(String, Stamp, Result<String, String>)>,
    gone: Vec<String>,
}

impl Tree {
    pub(super) fn new(root: PathBuf, limits: Limits, polling: bool) -> Self {
        Self {
            root,
            limits,
            known: BTreeMap::new(),
            writing: BTreeMap::new(),
            touched: BTreeSet::new(),
            rescan: true,
            walk_problems: Vec::new(),
            file_problems: BTreeMap::new(),
            polling,
            rooted: false,
        }
    }

    /// Takes in what happened.
    pub(super) fn hear(&mut self, hint: Hint, now: Instant) {
        match hint {
            Hint::Writing(path) => {
                if path.file_name().is_some_and(counts) {
                    self.writing.insert(path, now);
                }
            }
            Hint::Created(path) => match fs::symlink_metadata(&path) {
                // A hard link comes into being complete, any other regular file empty.
                Ok(metadata)
                    if metadata.is_file() && std::os::unix::fs::MetadataExt::nlink(&metadata) == 1 =>
                {
                    if path.file_name().is_some_and(counts) {
                        self.writing.insert(path, now);
                    }
                }
                _ => self.settled(path),
            },
            Hint::Settled(path) => self.settled(path),
            // After a loss the marks stay: late is better than half a file.
            Hint::Rescan | Hint::Lost => self.rescan = true,
        }
    }

    fn settled(&mut self, path: PathBuf) {
        self.writing.remove(&path);
        let plain = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.is_file());
        let ours = path.starts_with(&self.root) && path.file_name().is_some_and(counts);
        match plain(&path) {
            Ok(true) if ours => drop(self.touched.insert(path)),
            // A temporary of some editor.
            Ok(true) if path.starts_with(&self.root) => {}
            // Gone, a link, a directory, or the target of a link.
            _ => self.rescan = true,
        }
    }

    /// Looks at everything at the next step, also at what seems to be written for ever: a file that has content
    /// and was left alone for `patience` counts as finished even though nobody closed it.
    pub(super) fn rescan(&mut self, now: Instant, patience: Duration) {
        self.rescan = true;
        self.writing.retain(|path, last| {
            let filled = fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0);
            !(filled && now.saturating_duration_since(*last) >= patience)
        });
    }

    /// Whether there is something to look at now.
    pub(super) fn is_due(&self) -> bool {
        self.rescan || !self.touched.is_empty()
    }

    /// When a missing file counts as removed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let since = self.known.values().filter_map(|known| known.gone).min()?;
        Some(since + self.limits.removal_grace)
    }

    /// Whether the root was a directory once; before that nothing can be said of the files.
    pub(super) fn is_rooted(&self) -> bool {
        self.rooted
    }

    /// Looks at what is due and reads what may have changed.
    pub(super) fn look(
        &mut self,
        now: Instant,
        watch: impl FnMut(&Place),
    ) -> (Candidates, Option<Vec<Place>>) {
        let touched = std::mem::take(&mut self.touched);
        let mut places = None;
        if std::mem::take(&mut self.rescan) {
            let found = walk(&self.root, &self.limits, watch);
            places = Some(self.compare(found, now));
        }
        for path in touched {
            self.touch(&path, now);
        }
        (Candidates { reads: self.read_changed(), gone: self.overdue(now) }, places)
    }

    /// Takes over what a walk found; what is missing begins to be gone.
    fn compare(&mut self, mut walked: Walk, now: Instant) -> Vec<Place> {
        self.rooted |= walked.rooted && walked.listed;
        for (name, known) in &mut self.known {
            if walked.is_unseen(name) {
                known.gone = None;
            } else if !walked.files.contains_key(name) {
                known.gone.get_or_insert(now);
            }
        }
        let files = std::mem::take(&mut walked.files);
        for (name, found) in files {
            self.see(name, found);
        }
        self.walk_problems = walked.problems;
        walked.places
    }

    fn see(&mut self, name: String, found: Found) -> &mut Known {
        match self.known.entry(name) {
            Entry::Vacant(vacant) => {
                vacant.insert(Known { found, told: None, read: None, still: false, gone: None })
            }
            Entry::Occupied(occupied) => {
                let known = occupied.into_mut();
                known.still = known.found.stamp == found.stamp;
                known.found = found;
                known.gone = None;
                known
            }
        }
    }

    /// Looks at one file alone, to read it whatever its state says: two saves may fall into one tick of the clock.
    fn touch(&mut self, path: &Path, now: Instant) {
        let Some(name) = path.strip_prefix(&self.root).ok().and_then(Path::to_str) else { return };
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_file() => {
                if !self.known.contains_key(name) && self.known.len() >= self.limits.files {
                    // The walk says that there are too many.
                    self.rescan = true;
                    return;
                }
                let found = Found { path: path.to_path_buf(), target: None, stamp: Stamp::of(&metadata) };
                self.see(name.to_owned(), found).read = None;
            }
            Ok(_) => self.rescan = true,
            Err(_) => {
                if let Some(known) = self.known.get_mut(name) {
                    known.gone.get_or_insert(now);
                }
            }
        }
    }

    fn is_writing(&self, found: &Found) -> bool {
        let open = |path: &Path| self.writing.contains_key(path);
        open(&found.path) || found.target.as_deref().is_some_and(open)
    }

    /// Whether this file is to be read now.
    fn is_unread(&self, known: &Known) -> bool {
        let same = known.read == Some(known.found.stamp);
        !same && known.gone.is_none() && !self.is_writing(&known.found)
    }

    fn read_changed(&self) -> Vec<(String, Stamp, Result<String, String>)> {
        let mut total = 0;
        let mut reads = Vec::new();
        let unread = self.known.iter().filter(|(_, known)| self.is_unread(known));
        for (name, known) in unread.filter(|(_, known)| known.still || !self.polling) {
            if let Some((stamp, content)) = read(&known.found.path, self.limits.file_size) {
                total += content.as_ref().map_or(0, String::len);
                reads.push((name.clone(), stamp, content));
            }
            // The rest is read in the next step, so that one step holds bounded memory.
            if total > self.limits.step_size {
                break;
            }
        }
        reads
    }

    fn overdue(&self, now: Instant) -> Vec<String> {
        let overdue = |gone: Instant| now.saturating_duration_since(gone) >= self.limits.removal_grace;
        let gone = self.known.iter().filter(|(_, known)| known.gone.is_some_and(overdue));
        gone.map(|(name, _)| name.clone()).collect()
    }

    /// Makes what was read known, except for files that were written to since; gives what is to be told.
    pub(super) fn commit(&mut self, candidates: Candidates) -> Vec<FileChange> {
        let mut changes = Vec::new();
        for name in candidates.gone {
            let Some(known) = self.known.remove(&name) else { continue };
            self.file_problems.remove(&name);
            if known.told.is_some() {
                changes.push(FileChange::Removed { file: name.as_str().into() });
            }
        }
        for (name, stamp, content) in candidates.reads {
            let Some(known) = self.known.get(&name) else { continue };
            if self.is_writing(&known.found) {
                continue;
            }
            let Some(known) = self.known.get_mut(&name) else { continue };
            known.read = Some(stamp);
            match content {
                Err(message) => {
                    // What it said before holds; if it never said anything, an earlier run may know.
                    if known.told.is_none() {
                        known.told = Some(Told::Hidden);
                        changes.push(FileChange::Hidden { file: name.as_str().into() });
                    }
                    self.file_problems.insert(name, message);
                }
                Ok(text) => {
                    self.file_problems.remove(&name);
                    let told = Some(Told::Text(Digest::of(&text)));
                    if known.told != told {
                        known.told = told;
                        changes.push(FileChange::Set { file: name.as_str().into(), text });
                    }
                }
            }
        }
        // Not read for want of room, replaced while we read, or not still yet.
        self.rescan |= self.known.values().any(|known| self.is_unread(known));
        changes
    }

    /// All that is wrong with the files now, in the order of their names.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let files = self.file_problems.iter();
        let mut problems: Vec<_> =
            files.map(|(file, message)| Problem { file: file.clone(), message: message.clone() }).collect();
        problems.extend(self.walk_problems.iter().cloned());
        problems.sort();
        problems
    }
}

/// The text of a file with the state it was read in, or why it cannot be had; nothing if it is gone.
fn read(path: &Path, limit: u64) -> Option<(Stamp, Result<String, String>)> {
    let failed = |error: &io::Error| format!("read {}: {error}", path.display());
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            let stamp = Stamp::of(&fs::metadata(path).ok()?);
            return Some((stamp, Err(format!("{}; are its rights right?", failed(&error)))));
        }
    };
    let stamp = Stamp::of(&file.metadata().ok()?);
    let mut bytes = Vec::new();
    if let Err(error) = file.by_ref().take(limit + 1).read_to_end(&mut bytes) {
        return Some((stamp, Err(failed(&error))));
    }
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        let mib = limit / (1024 * 1024);
        return Some((stamp, Err(format!("{} is larger than {mib} MiB; split it", path.display()))));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("{} is not UTF-8 at byte {at}; save it as UTF-8", path.display())
    });
    Some((stamp, text))
}
