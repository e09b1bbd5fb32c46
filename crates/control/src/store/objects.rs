//! Last good versions of user objects: a log that is appended to and, at a start or when it has grown, written anew.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use lateen_world::{ObjectKey, StoredObject};
use serde::{Deserialize, Serialize};

use super::{Error, Store, file};

const NAME: &str = "objects.log";
const LOSS: &str = "objects whose text is broken now have no older version to fall back to";
const HEAD: &str = "{\"version\":1}";
/// Lines about objects that are not live any more, before the log is written anew.
const MOST_STALE: usize = 10_000;

/// The last good versions, as the log has them.
#[derive(Debug)]
pub struct Objects {
    path: PathBuf,
    log: File,
    live: BTreeMap<ObjectKey, StoredObject>,
    lines: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    Set { key: String, file: String, line: u32, text: String },
    Gone { key: String },
}

impl Line {
    fn set(object: &StoredObject) -> Self {
        Self::Set {
            key: object.key.to_string(),
            file: object.file.to_string(),
            line: object.line,
            text: object.text.clone(),
        }
    }
}

impl Objects {
    /// Reads the log and writes it anew without what is over.
    ///
    /// # Errors
    /// When a line is not what we wrote. Only the last may be torn: a kill or a loss of power ends in the middle.
    pub fn load(store: &Store) -> Result<Self, Error> {
        let path = store.directory().join(NAME);
        let text = store.read_text(NAME, LOSS)?.unwrap_or_default();
        let live = replay(&text).map_err(|reason| store.corrupted(NAME, reason, LOSS))?;
        let log = rewrite(&path, &live).map_err(Error::io("write", &path))?;
        Ok(Self { path, log, lines: live.len(), live })
    }

    /// All that are remembered.
    pub fn all(&self) -> Vec<StoredObject> {
        self.live.values().cloned().collect()
    }

    /// Notes versions to keep and to forget; after this it survives a kill.
    ///
    /// # Errors
    /// When the disk is full or the directory is gone. What could not be noted is noted with the next change.
    pub fn note(&mut self, stored: Vec<StoredObject>, gone: Vec<ObjectKey>) -> Result<(), Error> {
        if stored.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for object in stored {
            push(&mut text, &Line::set(&object));
            self.live.insert(object.key.clone(), object);
            self.lines += 1;
        }
        for key in gone {
            push(&mut text, &Line::Gone { key: key.to_string() });
            self.live.remove(&key);
            self.lines += 1;
        }
        if self.lines > 2 * self.live.len() + MOST_STALE {
            return self.compact();
        }
        // One write: a kill leaves all of it or none.
        match self.log.write_all(&text) {
            Ok(()) => Ok(()),
            // Half of it may be there: begin a clean log.
            Err(_) => self.compact(),
        }
    }

    fn compact(&mut self) -> Result<(), Error> {
        self.log = rewrite(&self.path, &self.live).map_err(Error::io("write", &self.path))?;
        self.lines = self.live.len();
        Ok(())
    }
}

fn push(text: &mut Vec<u8>, line: &Line) {
    serde_json::to_writer(&mut *text, line).expect("a line is plain text and numbers");
    text.push(b'\n');
}

fn rewrite(path: &std::path::Path, live: &BTreeMap<ObjectKey, StoredObject>) -> io::Result<File> {
    let mut text = format!("{HEAD}\n").into_bytes();
    live.values().for_each(|object| push(&mut text, &Line::set(object)));
    file::replace(path, &text, file::Sync::Kernel)?;
    File::options().append(true).open(path)
}

fn replay(text: &str) -> Result<BTreeMap<ObjectKey, StoredObject>, String> {
    let mut live = BTreeMap::new();
    let Some(rest) = text.strip_prefix(HEAD) else {
        return if text.is_empty() { Ok(live) } else { Err("line 1 is not that of our log".to_owned()) };
    };
    for (number, line) in rest.split_inclusive('\n').enumerate().skip(1) {
        let parsed = serde_json::from_str::<Line>(line).map_err(|error| error.to_string());
        let (key, object) = match parsed.and_then(read) {
            Ok(read) => read,
            // Without its end the line was never wholly written.
            Err(_) if !line.ends_with('\n') => {
                tracing::warn!("the last line of {NAME} is torn and left out");
                break;
            }
            Err(reason) => return Err(format!("line {}: {reason}", number + 1)),
        };
        match object {
            Some(object) => drop(live.insert(key, object)),
            None => drop(live.remove(&key)),
        }
    }
    Ok(live)
}

fn read(line: Line) -> Result<(ObjectKey, Option<StoredObject>), String> {
    let parse = |key: &str| ObjectKey::parse(key).ok_or_else(|| format!("{key:?} names no object"));
    Ok(match line {
        Line::Gone { key } => (parse(&key)?, None),
        Line::Set { key, file, line, text } => {
            let key = parse(&key)?;
            let file = file.as_str().into();
            (key.clone(), Some(StoredObject { key, file, line, text }))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(name: &str, text: &str) -> StoredObject {
        let key = ObjectKey::parse(&format!("Service/shop/{name}")).expect("a key");
        StoredObject { key, file: "a.yaml".into(), line: 3, text: text.into() }
    }

    fn load(store: &Store) -> Vec<StoredObject> {
        Objects::load(store).expect("load").all()
    }

    #[test]
    fn versions_survive_and_a_torn_last_line_is_left_out() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("open");
        let mut objects = Objects::load(&store).expect("load");
        objects.note(vec![object("a", "one"), object("b", "two\nlines")], vec![]).expect("note");
        objects.note(vec![object("a", "three")], vec![object("b", "").key]).expect("note");
        assert_eq!(load(&store), [object("a", "three")]);
        let path = directory.path().join(NAME);
        let whole = std::fs::read(&path).expect("log");
        for torn in ["{", "{\"set\":{\"key", "{\"gone\":{\"key\":\"Service/shop/a\"}"] {
            std::fs::write(&path, [&whole[..], torn.as_bytes()].concat()).expect("write");
            assert_eq!(load(&store), [object("a", "three")], "{torn}");
        }
        std::fs::write(&path, [&whole[..], b"{\"nonsense\":1}\n"].concat()).expect("write");
        let error = Objects::load(&store).expect_err("nonsense").to_string();
        assert!(error.contains("line 3") && error.contains("fall back"), "{error}");
        std::fs::write(&path, "hello\n").expect("write");
        assert!(Objects::load(&store).is_err());
    }

    #[test]
    fn the_log_does_not_grow_for_ever() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("open");
        let mut objects = Objects::load(&store).expect("load");
        for n in 0..MOST_STALE + 10 {
            objects.note(vec![object("a", &n.to_string())], vec![]).expect("note");
        }
        assert!(objects.lines < 100, "{}", objects.lines);
        assert_eq!(load(&store), [object("a", &(MOST_STALE + 9).to_string())]);
    }
}
