//! The files of objects below some paths, for commands that read them without a mesh.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use lateen_model::Str;
use lateen_world::{MAX_FILE, Problem, Severity};

/// Directories one within another are followed so deep.
const MAX_DEPTH: usize = 32;

/// Files of objects, and those that could not be read.
#[derive(Debug, Default)]
pub struct ObjectFiles {
    /// Path as problems shall name it, and text; by path.
    pub files: Vec<(Str, String)>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// Reads files, and directories with all `.yaml`, `.yml` and `.json` files below them that are not hidden.
///
/// # Errors
/// When a path that was named is not there or cannot be looked at.
pub fn read(paths: &[PathBuf]) -> Result<ObjectFiles, (PathBuf, io::Error)> {
    let mut found = BTreeSet::new();
    let mut entered = BTreeSet::new();
    for path in paths {
        let metadata = fs::metadata(path).map_err(|error| (path.clone(), error))?;
        if metadata.is_dir() {
            walk(path, 0, &mut entered, &mut found).map_err(|error| (path.clone(), error))?;
        } else {
            found.insert(path.clone());
        }
    }
    let mut objects = ObjectFiles::default();
    for path in found {
        let name = Str::from(path.display().to_string());
        match text(&path) {
            Ok(text) => objects.files.push((name, text)),
            Err(error) => objects.problems.push(unreadable(name, &error)),
        }
    }
    Ok(objects)
}

/// Follows links; each directory is entered once, so loops end.
fn walk(
    directory: &Path,
    depth: usize,
    entered: &mut BTreeSet<PathBuf>,
    found: &mut BTreeSet<PathBuf>,
) -> io::Result<()> {
    if depth > MAX_DEPTH || !entered.insert(fs::canonicalize(directory)?) {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if name.to_string_lossy().starts_with(['.', '#', '~']) {
            continue;
        }
        // A link that leads nowhere is what editors leave behind as a lock.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if metadata.is_dir() {
            walk(&path, depth + 1, entered, found)?;
        } else if metadata.is_file() && is_object_file(name) {
            found.insert(path);
        }
    }
    Ok(())
}

fn is_object_file(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str).unwrap_or_default();
    ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// The whole text; of a file that is too large only so much that this shows.
fn text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE as u64 + 4).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE {
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        io::Error::new(io::ErrorKind::InvalidData, format!("line {} is not UTF-8", line + 1))
    })
}

fn unreadable(file: Str, error: &io::Error) -> Problem {
    Problem {
        severity: Severity::Error,
        object: None,
        file,
        line: 1,
        column: 1,
        length: 0,
        field: None,
        text: Str::default(),
        message: format!("the file cannot be read: {error}"),
        expected: None,
        suggestion: None,
    }
}
