//! What the kernel says about a set of directories, as hints in the order in which things happened.
//!
//! The kernel queues an event within the system call that causes it. So whoever reads a file and then drains this
//! queue knows every write that came before the end of the reading: that is why we hold the descriptor ourselves
//! and do not let a library's thread stand between.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Hint {
    /// A file was made; whoever made it may still be writing.
    Created(PathBuf),
    /// A file was written to or truncated, and not closed yet.
    Writing(PathBuf),
    /// A file was closed after writing, moved in or out, deleted, or its rights changed.
    Settled(PathBuf),
    /// Directories changed: look at everything.
    Rescan,
    /// Events were lost: look at everything, and believe no mark.
    Lost,
}

/// What is watched in one directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Place {
    /// The directory.
    pub directory: PathBuf,
    /// Only entries of this name concern us (the parent of the root, the home of a symlink's target).
    pub only: Option<OsString>,
}

/// The watched directories and the queue of their events.
pub(super) struct Inotify {
    queue: OwnedFd,
    /// One inode may be reached by several paths.
    places: HashMap<i32, Vec<Place>>,
    descriptors: BTreeMap<Place, i32>,
    buffer: Box<[MaybeUninit<u8>]>,
}

/// What interests us; opening and reading does not.
const EVENTS: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Room for some hundred events a read.
const BUFFER: usize = 32 * 1024;

impl Inotify {
    /// A queue that watches nothing yet.
    ///
    /// # Errors
    /// When the machine gives no (further) inotify instance.
    pub(super) fn open() -> io::Result<Self> {
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let buffer = vec![MaybeUninit::uninit(); BUFFER].into_boxed_slice();
        Ok(Self { queue, places: HashMap::new(), descriptors: BTreeMap::new(), buffer })
    }

    /// Watches exactly the given places: those that are new from now on, the others no more.
    ///
    /// # Errors
    /// The first place that could not be watched for lack of room; the rest is watched nevertheless.
    pub(super) fn watch(&mut self, places: &[Place]) -> io::Result<()> {
        let mut failure = Ok(());
        for place in places {
            match inotify::add_watch(&self.queue, &place.directory, EVENTS) {
                Ok(descriptor) => self.remember(place, descriptor),
                // It vanished meanwhile; its parent's event comes or came.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => self.forget(place),
                Err(error) => failure = failure.and(Err(error.into())),
            }
        }
        let wanted: std::collections::BTreeSet<&Place> = places.iter().collect();
        let stale: Vec<Place> =
            self.descriptors.keys().filter(|place| !wanted.contains(place)).cloned().collect();
        stale.iter().for_each(|place| self.forget(place));
        failure
    }

    /// Adds one place; for a directory that is about to be listed.
    ///
    /// # Errors
    /// When there is no room for one more watch.
    pub(super) fn add(&mut self, place: &Place) -> io::Result<()> {
        match inotify::add_watch(&self.queue, &place.directory, EVENTS) {
            Ok(descriptor) => {
                self.remember(place, descriptor);
                Ok(())
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn remember(&mut self, place: &Place, descriptor: i32) {
        if self.descriptors.get(place) == Some(&descriptor) {
            return;
        }
        self.forget(place);
        self.descriptors.insert(place.clone(), descriptor);
        self.places.entry(descriptor).or_default().push(place.clone());
    }

    fn forget(&mut self, place: &Place) {
        let Some(descriptor) = self.descriptors.remove(place) else { return };
        let Some(places) = self.places.get_mut(&descriptor) else { return };
        places.retain(|other| other != place);
        if places.is_empty() {
            self.places.remove(&descriptor);
            // The kernel may have dropped it with the directory.
            let _ = inotify::remove_watch(&self.queue, descriptor);
        }
    }

    /// Waits until there is an event, `stop` is readable, or the time is over.
    pub(super) fn wait(&self, stop: impl AsFd, timeout: Duration) {
        wait_for(Some(self.queue.as_fd()), stop, timeout);
    }

    /// Takes all events that are there; never waits.
    pub(super) fn drain(&mut self) -> Vec<Hint> {
        let mut hints = Vec::new();
        let mut gone = Vec::new();
        let mut reader = inotify::Reader::new(&self.queue, &mut self.buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    let here = self.places.get(&event.wd()).map_or(&[][..], Vec::as_slice);
                    hints_of(event.events(), here, name, &mut hints);
                    let dropped = ReadFlags::DELETE_SELF
                        | ReadFlags::MOVE_SELF
                        | ReadFlags::UNMOUNT
                        | ReadFlags::IGNORED;
                    if event.events().intersects(dropped) {
                        gone.push(event.wd());
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => break,
                Err(_) => {
                    hints.push(Hint::Lost);
                    break;
                }
            }
        }
        for descriptor in gone {
            for place in self.places.get(&descriptor).cloned().unwrap_or_default() {
                self.forget(&place);
            }
        }
        hints
    }
}

/// Waits on a queue (if there is one) and on `stop`.
pub(super) fn wait_for(queue: Option<std::os::fd::BorrowedFd<'_>>, stop: impl AsFd, timeout: Duration) {
    let stop = stop.as_fd();
    let mut waits: Vec<PollFd<'_>> = vec![PollFd::new(&stop, PollFlags::IN)];
    if let Some(queue) = &queue {
        waits.push(PollFd::new(queue, PollFlags::IN));
    }
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    };
    // An interrupted wait ends early, which does no harm.
    let _ = poll(&mut waits, Some(&timeout));
}

/// Translates one event, once for each path that leads to its directory.
fn hints_of(events: ReadFlags, places: &[Place], name: Option<&OsStr>, hints: &mut Vec<Hint>) {
    if events.contains(ReadFlags::QUEUE_OVERFLOW) {
        hints.push(Hint::Lost);
        return;
    }
    for Place { directory, only } in places {
        let Some(name) = name else {
            // About the directory itself: gone, moved away, other rights.
            if !events.contains(ReadFlags::IGNORED) {
                hints.push(Hint::Rescan);
            }
            continue;
        };
        if only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        let path = || Path::new(directory).join(name);
        hints.push(if events.contains(ReadFlags::ISDIR) {
            Hint::Rescan
        } else if events.contains(ReadFlags::CREATE) {
            Hint::Created(path())
        } else if events.contains(ReadFlags::MODIFY) {
            Hint::Writing(path())
        } else {
            Hint::Settled(path())
        });
    }
}
