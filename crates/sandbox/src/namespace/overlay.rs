//! Files that only a pod sees: bound over the machine's, in a mount namespace. The text lies in a memory file
//! system that no path names, so nothing reaches the disk.

use std::{
    fs,
    path::{Path, PathBuf},
};

use lateen_capture::{During, Error};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};

/// Any directory that exists everywhere serves: it is covered only while the files are bound.
const SCRATCH: &str = "/proc";
const RESOLV_CONF: &str = "/etc/resolv.conf";
const NSSWITCH_CONF: &str = "/etc/nsswitch.conf";
/// Name services whose sockets would answer for the machine instead of the pod.
const HIDDEN: [&str; 3] = ["/run/nscd", "/var/run/nscd", "/run/systemd/resolve"];

/// Makes the holder's mounts its own, hides the machine's name services, and shows the processes of this
/// process namespace. Returns what did not work and is not vital.
pub(crate) fn prepare() -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    // What the machine mounts and unmounts later is seen here too; what is mounted here stays here.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .during("mount(/, MS_REC|MS_SLAVE)")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if let Err(error) = mount("proc", "/proc", "proc", flags, None).during("mount(/proc)") {
        warnings.push(format!("processes see the machine's /proc: {error}"));
    }
    let resolv_conf = fs::canonicalize(RESOLV_CONF);
    for directory in HIDDEN {
        // A link (as /var/run often is) was hidden at its target already.
        if fs::symlink_metadata(directory).is_ok_and(|found| found.is_dir()) {
            mount("tmpfs", directory, "tmpfs", flags, Some(c"mode=0755,size=64k"))
                .during(format!("mount({directory}, tmpfs)"))?;
        }
    }
    // systemd keeps the real file in a directory that is now hidden: give it a place to be bound over.
    if let Ok(path) = resolv_conf.as_deref()
        && !path.exists()
    {
        fs::write(path, "").during(format!("write({})", path.display()))?;
    }
    // Without the file the C library asks the resolver, which is what we want.
    if let Ok(text) = fs::read_to_string(NSSWITCH_CONF) {
        warnings.extend(bind(&[(NSSWITCH_CONF.into(), names_by_files_and_dns(&text))])?);
    }
    Ok(warnings)
}

/// Binds the pod's own `resolv.conf` and `hosts` over the machine's. Returns what could not be bound.
pub(crate) fn bind_names(resolv_conf: Option<String>, hosts: String) -> Result<Vec<String>, Error> {
    let mut files = vec![(PathBuf::from("/etc/hosts"), hosts)];
    files.extend(resolv_conf.map(|text| (PathBuf::from(RESOLV_CONF), text)));
    bind(&files)
}

/// Covers directories by empty ones that nobody can write to.
pub(crate) fn hide(directories: &[PathBuf]) -> Result<(), Error> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    for directory in directories {
        mount("tmpfs", directory, "tmpfs", flags, Some(c"mode=0555,size=4k"))
            .during(format!("mount({}, tmpfs)", directory.display()))?;
    }
    Ok(())
}

/// Binds texts over files. A file that does not exist cannot be covered, and is told.
fn bind(files: &[(PathBuf, String)]) -> Result<Vec<String>, Error> {
    mount("tmpfs", SCRATCH, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=0755,size=1m"))
        .during("mount(tmpfs)")?;
    let bound: Result<Vec<_>, Error> = files
        .iter()
        .enumerate()
        .map(|(index, (target, text))| bind_one(&Path::new(SCRATCH).join(index.to_string()), target, text))
        .collect();
    // What was bound keeps the file system alive; its own place is uncovered at once.
    unmount(SCRATCH, UnmountFlags::DETACH).during("umount2(tmpfs)")?;
    Ok(bound?.into_iter().flatten().collect())
}

fn bind_one(source: &Path, target: &Path, text: &str) -> Result<Option<String>, Error> {
    fs::write(source, text).during("write(tmpfs)")?;
    let call = format!("mount({}, MS_BIND)", target.display());
    Ok(mount_bind(source, target).during(call).err().map(|error| format!("left as it is: {error}")))
}

/// The same file with host names answered by `/etc/hosts` and DNS alone.
fn names_by_files_and_dns(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("hosts:")).collect();
    lines.push("hosts: files dns");
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_of_hosts_changes() {
        let text =
            "passwd: files\nhosts:  files mdns4_minimal [NOTFOUND=return] resolve dns\nnetworks: files\n";
        assert_eq!(names_by_files_and_dns(text), "passwd: files\nnetworks: files\nhosts: files dns\n");
    }
}
