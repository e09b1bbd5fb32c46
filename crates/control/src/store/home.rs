//! Where the state is when nobody says: per user, under the XDG state home.

use std::env;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::process::geteuid;

/// `$XDG_STATE_HOME/lateen`, else `~/.local/state/lateen`; where neither can be written to (HOME unset or not
/// ours), `/var/lib/lateen` for root and `/var/tmp/lateen-<uid>` for others, which outlive a reboot.
pub fn default_directory() -> PathBuf {
    let set = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    choose(set("XDG_STATE_HOME"), set("HOME"), geteuid().as_raw(), usable)
}

fn choose(xdg: Option<PathBuf>, home: Option<PathBuf>, uid: u32, usable: impl Fn(&Path) -> bool) -> PathBuf {
    let candidates = [xdg.map(|xdg| xdg.join("lateen")), home.map(|home| home.join(".local/state/lateen"))];
    candidates.into_iter().flatten().find(|path| usable(path)).unwrap_or_else(|| match uid {
        0 => PathBuf::from("/var/lib/lateen"),
        uid => PathBuf::from(format!("/var/tmp/lateen-{uid}")),
    })
}

/// Whether the directory is there and ours, or can be made.
fn usable(path: &Path) -> bool {
    if let Ok(metadata) = fs::metadata(path) {
        return metadata.is_dir()
            && metadata.uid() == geteuid().as_raw()
            && access(path, Access::WRITE_OK).is_ok();
    }
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_usable_place_is_taken() {
        let (xdg, home) = (|| Some(PathBuf::from("/x")), || Some(PathBuf::from("/h")));
        let check = |xdg, home, uid, usable: &dyn Fn(&Path) -> bool, expected: &str| {
            assert_eq!(choose(xdg, home, uid, usable), Path::new(expected));
        };
        check(xdg(), home(), 1000, &|_| true, "/x/lateen");
        check(None, home(), 1000, &|_| true, "/h/.local/state/lateen");
        check(xdg(), home(), 1000, &|path| !path.starts_with("/x"), "/h/.local/state/lateen");
        check(xdg(), home(), 1000, &|_| false, "/var/tmp/lateen-1000");
        check(None, None, 0, &|_| true, "/var/lib/lateen");
    }
}
