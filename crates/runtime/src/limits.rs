//! How much of the machine a process takes: worker threads and open files.

use std::io;
use std::num::NonZeroUsize;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// How many workers to start: the wish if there is one, else what the machine lends this process, never more than
/// `most` and never none.
pub fn worker_count(wish: Option<NonZeroUsize>, most: usize) -> usize {
    choose(wish, usable_cores(), most)
}

/// Cores this process may really use: its CPU affinity and its cgroup's quota, rounded down, at least one.
pub fn usable_cores() -> usize {
    thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

fn choose(wish: Option<NonZeroUsize>, cores: usize, most: usize) -> usize {
    wish.map_or_else(|| cores.min(most), NonZeroUsize::get).clamp(1, 1_024)
}

/// Raises the soft limit of open files to the hard one and says what it is now: a proxy holds two descriptors per
/// connection, and the usual soft limit of 1024 is meant for programs that use `select`.
///
/// # Errors
/// Whatever the system says when it refuses.
pub fn raise_open_files() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    }
    Ok(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_wins_over_cores_and_nothing_is_none() {
        let wish = NonZeroUsize::new;
        assert_eq!(choose(None, 8, 2), 2);
        assert_eq!(choose(None, 1, 2), 1);
        assert_eq!(choose(wish(4), 1, 2), 4);
        assert_eq!(choose(wish(1_000_000), 1, 2), 1_024);
        assert_eq!(choose(None, 8, 0), 1);
    }

    #[test]
    fn open_files_are_at_their_hard_limit_afterwards() {
        let raised = raise_open_files().expect("raising to the hard limit needs no rights");
        assert_eq!(Some(raised), getrlimit(Resource::Nofile).maximum.or(Some(u64::MAX)));
    }
}
