//! The source against a real directory. What must not happen is shown by what happens after it: a sentinel file
//! written later is told later, so everything due before it has been told by then.

use super::*;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

/// Generous: the machine may be busy.
const DEADLINE: Duration = Duration::from_secs(20);

struct Watched {
    directory: tempfile::TempDir,
    _files: Files,
    reports: Receiver<Report>,
    changes: VecDeque<String>,
    problems: Vec<Problem>,
    synced: bool,
    sentinels: u32,
}

fn limits() -> Limits {
    // Only events may be the reason of what is seen.
    Limits { rescan: Duration::from_secs(3_600), poll: Duration::from_secs(3_600), ..Limits::default() }
}

impl Watched {
    /// Follows `mesh` in a fresh directory, after `prepare` filled it, until everything is told.
    fn new(prepare: impl FnOnce(&Path)) -> Self {
        Self::with(limits(), prepare)
    }

    fn with(limits: Limits, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        prepare(directory.path());
        let (sender, reports) = channel();
        let root = directory.path().join("mesh");
        let files = Files::start(root, limits, move |report| sender.send(report).is_ok()).expect("start");
        Self {
            directory,
            _files: files,
            reports,
            changes: VecDeque::new(),
            problems: Vec::new(),
            synced: false,
            sentinels: 0,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("mesh").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("write");
    }

    fn hear(&mut self) {
        let report = self.reports.recv_timeout(DEADLINE).expect("a report in time");
        self.synced |= report.synced;
        if let Some(problems) = report.problems {
            self.problems = problems;
        }
        for change in report.changes {
            self.changes.push_back(match change {
                FileChange::Set { file, text } => format!("{file} = {text}"),
                FileChange::Hidden { file } => format!("{file} hidden"),
                FileChange::Removed { file } => format!("{file} gone"),
            });
        }
    }

    fn until_synced(&mut self) {
        while !self.synced {
            self.hear();
        }
    }

    /// Exactly these changes come next.
    #[track_caller]
    fn expect(&mut self, expected: &[&str]) {
        while self.changes.len() < expected.len() {
            self.hear();
        }
        let seen: Vec<_> = self.changes.drain(..expected.len()).collect();
        assert_eq!(seen, expected);
    }

    /// Nothing is told that happened until now.
    #[track_caller]
    fn silence(&mut self) {
        self.sentinels += 1;
        let name = format!("sentinel-{}.yaml", self.sentinels);
        self.write(&name, "");
        self.expect(&[&format!("{name} = ")]);
    }

    fn until_problem(&mut self, part: &str) {
        while !self.problems.iter().any(|problem| problem.message.contains(part)) {
            self.hear();
        }
    }
}

fn mesh(directory: &Path) -> PathBuf {
    let mesh = directory.join("mesh");
    fs::create_dir_all(mesh.join("deep/er")).expect("make");
    mesh
}

#[test]
fn first_everything_then_synced_and_nothing_else_counts() {
    let mut watched = Watched::new(|directory| {
        let mesh = mesh(directory);
        for name in [
            "b.yml",
            "a.yaml",
            "deep/er/c.json",
            ".hidden.yaml",
            "d.yaml~",
            "#e.yaml#",
            "README.md",
            "f.yaml.swp",
        ] {
            fs::write(mesh.join(name), name).expect("write");
        }
        fs::create_dir(mesh.join(".git")).expect("make");
        fs::write(mesh.join(".git/x.yaml"), "x").expect("write");
    });
    watched.until_synced();
    watched.expect(&["a.yaml = a.yaml", "b.yml = b.yml", "deep/er/c.json = deep/er/c.json"]);
    watched.silence();
}

#[test]
fn a_truncated_save_is_not_read_before_it_is_closed() {
    let mut watched =
        Watched::new(|directory| fs::write(mesh(directory).join("a.yaml"), "old").expect("write"));
    watched.until_synced();
    watched.expect(&["a.yaml = old"]);
    let mut file = File::create(watched.path("a.yaml")).expect("truncate");
    watched.silence();
    file.write_all(b"ne").expect("write");
    watched.silence();
    // Looking at everything does not make it complete either.
    fs::create_dir(watched.path("another")).expect("make");
    watched.silence();
    file.write_all(b"w").expect("write");
    drop(file);
    watched.expect(&["a.yaml = new"]);
    watched.silence();
}

#[test]
fn a_new_file_is_not_read_before_it_is_closed() {
    let mut watched = Watched::new(|directory| drop(mesh(directory)));
    watched.until_synced();
    let mut file = File::create(watched.path("a.yaml")).expect("create");
    watched.silence();
    file.write_all(b"text").expect("write");
    drop(file);
    watched.expect(&["a.yaml = text"]);
}

#[test]
fn touching_and_writing_the_same_again_change_nothing() {
    let mut watched =
        Watched::new(|directory| fs::write(mesh(directory).join("a.yaml"), "old").expect("write"));
    watched.expect(&["a.yaml = old"]);
    watched.write("a.yaml", "old");
    let file = File::options().append(true).open(watched.path("a.yaml")).expect("open");
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("touch");
    drop(file);
    watched.silence();
}

#[test]
fn editors_that_rename_do_not_make_a_file_flap() {
    let mut watched =
        Watched::new(|directory| fs::write(mesh(directory).join("a.yaml"), "old").expect("write"));
    watched.expect(&["a.yaml = old"]);
    // The new text beside it, then over it.
    watched.write(".a.yaml.swp", "one");
    fs::rename(watched.path(".a.yaml.swp"), watched.path("a.yaml")).expect("rename");
    watched.expect(&["a.yaml = one"]);
    // The old one aside, then the new one in its place.
    fs::rename(watched.path("a.yaml"), watched.path("a.yaml~")).expect("rename");
    watched.write("a.yaml", "two");
    fs::remove_file(watched.path("a.yaml~")).expect("remove");
    watched.expect(&["a.yaml = two"]);
    // Away and back, the same as before.
    fs::rename(watched.path("a.yaml"), watched.path("a.bak")).expect("rename");
    fs::rename(watched.path("a.bak"), watched.path("a.yaml")).expect("rename");
    watched.silence();
}

#[test]
fn removed_files_and_directories_are_gone() {
    let mut watched = Watched::new(|directory| {
        let mesh = mesh(directory);
        for name in ["a.yaml", "deep/b.yaml", "deep/er/c.yaml"] {
            fs::write(mesh.join(name), "x").expect("write");
        }
    });
    watched.expect(&["a.yaml = x", "deep/b.yaml = x", "deep/er/c.yaml = x"]);
    fs::remove_file(watched.path("a.yaml")).expect("remove");
    watched.expect(&["a.yaml gone"]);
    fs::rename(watched.path("deep"), watched.directory.path().join("elsewhere")).expect("move out");
    watched.expect(&["deep/b.yaml gone", "deep/er/c.yaml gone"]);
    fs::rename(watched.directory.path().join("elsewhere"), watched.path("in")).expect("move in");
    watched.expect(&["in/b.yaml = x", "in/er/c.yaml = x"]);
    // What moved in is watched as well.
    watched.write("in/er/d.yaml", "y");
    watched.expect(&["in/er/d.yaml = y"]);
    fs::create_dir_all(watched.path("fresh/one")).expect("make");
    watched.write("fresh/one/e.yaml", "z");
    watched.expect(&["fresh/one/e.yaml = z"]);
}

#[test]
fn a_config_map_is_swapped_by_its_link() {
    let mut watched = Watched::new(|directory| {
        let mesh = mesh(directory);
        for (version, text) in [("..1", "old"), ("..2", "new")] {
            fs::create_dir(mesh.join(version)).expect("make");
            fs::write(mesh.join(version).join("a.yaml"), text).expect("write");
        }
        symlink("..1", mesh.join("..data")).expect("link");
        symlink("..data/a.yaml", mesh.join("a.yaml")).expect("link");
    });
    watched.expect(&["a.yaml = old"]);
    symlink("..2", watched.path("..data_tmp")).expect("link");
    fs::rename(watched.path("..data_tmp"), watched.path("..data")).expect("swap");
    watched.expect(&["a.yaml = new"]);
    fs::remove_dir_all(watched.path("..1")).expect("remove");
    watched.silence();
}

#[test]
fn a_link_to_a_file_elsewhere_follows_its_target() {
    let mut watched = Watched::new(|directory| {
        let mesh = mesh(directory);
        fs::write(directory.join("target.yaml"), "old").expect("write");
        symlink(directory.join("target.yaml"), mesh.join("a.yaml")).expect("link");
    });
    watched.expect(&["a.yaml = old"]);
    let target = watched.directory.path().join("target.yaml");
    let mut file = File::create(&target).expect("truncate");
    watched.silence();
    file.write_all(b"new").expect("write");
    drop(file);
    watched.expect(&["a.yaml = new"]);
    fs::remove_file(&target).expect("remove");
    watched.expect(&["a.yaml gone"]);
}

#[test]
fn loops_of_links_end() {
    let mut watched = Watched::new(|directory| {
        let mesh = mesh(directory);
        symlink("..", mesh.join("deep/up")).expect("link");
        symlink("self", mesh.join("self")).expect("link");
        symlink(".", mesh.join("deep/er/here")).expect("link");
        fs::write(mesh.join("deep/a.yaml"), "x").expect("write");
    });
    watched.until_synced();
    watched.expect(&["deep/a.yaml = x"]);
    watched.silence();
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_and_stays_what_it_was() {
    let limits = Limits { file_size: 1024 * 1024, ..limits() };
    let mut watched = Watched::with(limits, |directory| {
        fs::write(mesh(directory).join("a.yaml"), "old").expect("write");
    });
    watched.expect(&["a.yaml = old"]);
    fs::write(watched.path("a.yaml"), b"ab\xff").expect("write");
    watched.until_problem("a.yaml is not UTF-8 at byte 2");
    fs::write(watched.path("a.yaml"), vec![b' '; 1024 * 1024 + 1]).expect("write");
    watched.until_problem("a.yaml is larger than 1 MiB");
    watched.silence();
    watched.write("a.yaml", "new");
    watched.expect(&["a.yaml = new"]);
    assert_eq!(watched.problems, []);
}

#[test]
fn a_file_that_could_never_be_read_is_told_as_hidden() {
    let mut watched =
        Watched::new(|directory| fs::write(mesh(directory).join("a.yaml"), b"\xff").expect("write"));
    watched.until_problem("a.yaml is not UTF-8");
    watched.until_synced();
    watched.expect(&["a.yaml hidden"]);
    fs::write(watched.path("a.yaml"), b"\xfe").expect("write");
    watched.silence();
    watched.write("a.yaml", "new");
    watched.expect(&["a.yaml = new"]);
}

#[test]
fn a_missing_root_is_waited_for_and_a_vanished_one_takes_nothing_with_it() {
    let mut watched = Watched::new(|_| {});
    watched.until_problem("read the directory");
    assert!(!watched.synced);
    // Built elsewhere and moved into place, so that it appears complete.
    let (root, spare) = (watched.path(""), watched.directory.path().join("spare"));
    fs::create_dir(&spare).expect("make");
    fs::write(spare.join("a.yaml"), "one").expect("write");
    fs::rename(&spare, &root).expect("move");
    watched.expect(&["a.yaml = one"]);
    watched.until_synced();
    assert_eq!(watched.problems, []);
    fs::rename(&root, &spare).expect("move away");
    watched.until_problem("read the directory");
    fs::write(spare.join("a.yaml"), "two").expect("write");
    fs::rename(&spare, &root).expect("move back");
    watched.expect(&["a.yaml = two"]);
    watched.silence();
}

#[test]
fn a_root_that_is_a_link_can_be_swapped() {
    let mut watched = Watched::new(|directory| {
        for text in ["one", "two"] {
            fs::create_dir(directory.join(text)).expect("make");
            fs::write(directory.join(text).join("a.yaml"), text).expect("write");
        }
        symlink("one", directory.join("mesh")).expect("link");
    });
    watched.expect(&["a.yaml = one"]);
    symlink("two", watched.directory.path().join("next")).expect("link");
    fs::rename(watched.directory.path().join("next"), watched.directory.path().join("mesh")).expect("swap");
    watched.expect(&["a.yaml = two"]);
    watched.write("b.yaml", "three");
    watched.expect(&["b.yaml = three"]);
}

#[test]
fn more_than_a_step_holds_is_told_in_several() {
    let limits = Limits { step_size: 10, ..limits() };
    let mut watched = Watched::with(limits, |directory| {
        let mesh = mesh(directory);
        for n in 0..10 {
            fs::write(mesh.join(format!("{n}.yaml")), "0123456789").expect("write");
        }
    });
    watched.until_synced();
    assert_eq!(watched.changes.len(), 10);
}

#[test]
fn lost_events_are_made_good_by_looking() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().to_path_buf();
    let now = Instant::now();
    let mut tree = Tree::new(root.clone(), limits(), false);
    let step = |tree: &mut Tree| {
        let (candidates, _) = tree.look(now, |_| {});
        tree.commit(candidates).len()
    };
    assert_eq!(step(&mut tree), 0);
    fs::write(root.join("a.yaml"), "x").expect("write");
    assert_eq!(step(&mut tree), 0, "nobody told");
    tree.hear(inotify::Hint::Lost, now);
    assert_eq!(step(&mut tree), 1);
    fs::write(root.join("b.yaml"), "x").expect("write");
    tree.rescan(now, Duration::from_secs(1));
    assert_eq!(step(&mut tree), 1, "the slow look");
}

#[test]
fn who_polls_waits_until_a_file_stays_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("a.yaml");
    let now = Instant::now();
    let mut tree = Tree::new(directory.path().to_path_buf(), limits(), true);
    let mut step = || {
        tree.rescan(now, Duration::ZERO);
        let (candidates, _) = tree.look(now, |_| {});
        tree.commit(candidates)
    };
    fs::write(&file, "one").expect("write");
    assert_eq!(step(), []);
    fs::write(&file, "one and two").expect("write");
    assert_eq!(step(), []);
    assert_eq!(step(), [FileChange::Set { file: "a.yaml".into(), text: "one and two".into() }]);
    assert_eq!(step(), []);
}
