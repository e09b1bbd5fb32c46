//! `PathIndex`: which entries of a route table could match a path, so that not all of them are asked.

use crate::routes::TableEntry;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use lateen_model::{PathMatch, Str, StringMatch};
use smallvec::SmallVec;
use std::cmp::Ordering;
use std::hash::BuildHasher as _;
use std::sync::Arc;

/// Entries in order.
type List = SmallVec<[Arc<TableEntry>; 2]>;

/// The entries of a route table by path: exact ones, prefixes by length, and those that must be asked in
/// order. A clone is cheap, and a change of it copies a few lists.
#[derive(Clone, Default)]
pub(crate) struct PathIndex {
    exact: ByText,
    prefixes: ByLength,
    segments: ByLength,
    others: List,
}

/// Where an entry stands in the index.
enum Place<'a> {
    Exact(&'a Str),
    Prefix(Str),
    Segments(&'a Str),
    Others,
}

impl<'a> Place<'a> {
    fn of(entry: &'a TableEntry) -> Self {
        match entry.path() {
            Some(PathMatch::Text(StringMatch::Exact(text))) => Self::Exact(text),
            Some(PathMatch::Text(StringMatch::Prefix(text))) => Self::Prefix(text.clone()),
            Some(PathMatch::Segments(text)) => Self::Segments(text),
            Some(PathMatch::Text(StringMatch::Regex(regex))) => match literal_prefix(regex.pattern()) {
                "" => Self::Others,
                prefix => Self::Prefix(prefix.into()),
            },
            Some(PathMatch::Text(_)) | None => Self::Others,
        }
    }
}

/// Whether that an entry is found under a path proves already that its match on the path holds.
pub(crate) fn proves(path: Option<&PathMatch>) -> bool {
    match path {
        Some(PathMatch::Text(StringMatch::Exact(_) | StringMatch::Prefix(_)) | PathMatch::Segments(_))
        | None => true,
        Some(PathMatch::Text(_)) => false,
    }
}

/// Text that everything begins with which a pattern matches as a whole; empty where that is not obvious.
fn literal_prefix(pattern: &str) -> &str {
    const SPECIAL: &[u8] = br"\.+*?()|[]{}^$#&-~ ";
    let bytes = pattern.as_bytes();
    if bytes.contains(&b'|') {
        return "";
    }
    let end = bytes.iter().position(|byte| SPECIAL.contains(byte) || !byte.is_ascii_graphic());
    let Some(end) = end else { return pattern };
    // What is repeated may also be absent.
    let repeated = matches!(bytes[end], b'*' | b'?' | b'{' | b'+');
    &pattern[..end.saturating_sub(usize::from(repeated))]
}

impl PathIndex {
    pub(crate) fn insert(&mut self, entry: &Arc<TableEntry>) {
        let add = |list: &mut List| {
            let at = list.partition_point(|other| other < entry);
            list.insert(at, Arc::clone(entry));
        };
        match Place::of(entry) {
            Place::Exact(text) => self.exact.change(text, add),
            Place::Prefix(text) => self.prefixes.change(&text, add),
            Place::Segments(text) => self.segments.change(text, add),
            Place::Others => add(&mut self.others),
        }
    }

    pub(crate) fn remove(&mut self, entry: &Arc<TableEntry>) {
        let remove = |list: &mut List| list.retain(|other| other != entry);
        match Place::of(entry) {
            Place::Exact(text) => self.exact.change(text, remove),
            Place::Prefix(text) => self.prefixes.change(&text, remove),
            Place::Segments(text) => self.segments.change(text, remove),
            Place::Others => remove(&mut self.others),
        }
    }

    /// The first entry in order that passes the test, among those that could match the path.
    pub(crate) fn first<'a>(
        &'a self,
        path: &'a str,
        mut test: impl FnMut(&TableEntry) -> bool,
    ) -> Option<&'a Arc<TableEntry>> {
        let mut best = None;
        let lists = self.exact.get(path).into_iter().chain(self.segments.lists(path, ends_a_segment));
        for list in lists.chain(self.prefixes.lists(path, |_, _| true)).chain([&self.others]) {
            best = first_of(list, best, &mut test);
        }
        best
    }
}

/// The first of a list that passes the test, unless the best so far comes before it.
fn first_of<'a>(
    list: &'a List,
    best: Option<&'a Arc<TableEntry>>,
    test: &mut impl FnMut(&TableEntry) -> bool,
) -> Option<&'a Arc<TableEntry>> {
    let mut before = list.iter().take_while(|entry| best.is_none_or(|best| *entry < best));
    before.find(|entry| test(entry)).or(best)
}

fn ends_a_segment(path: &[u8], length: usize) -> bool {
    path.get(length).is_none_or(|next| *next == b'/')
}

/// Lists of prefixes, and how many have each length, longest first.
#[derive(Clone, Default)]
struct ByLength {
    lists: ByText,
    lengths: Vec<(usize, usize)>,
}

impl ByLength {
    fn change(&mut self, prefix: &Str, change: impl FnOnce(&mut List)) {
        let before = self.lists.len;
        self.lists.change(prefix, change);
        let found = self.lengths.binary_search_by(|(length, _)| prefix.len().cmp(length));
        match (self.lists.len.cmp(&before), found) {
            (Ordering::Greater, Ok(at)) => self.lengths[at].1 += 1,
            (Ordering::Greater, Err(at)) => self.lengths.insert(at, (prefix.len(), 1)),
            (Ordering::Less, Ok(at)) if self.lengths[at].1 > 1 => self.lengths[at].1 -= 1,
            (Ordering::Less, Ok(at)) => drop(self.lengths.remove(at)),
            (Ordering::Less, Err(_)) | (Ordering::Equal, _) => {}
        }
    }

    /// The lists of all prefixes that the path begins with and ends at a place that is good.
    fn lists<'a>(&'a self, path: &'a str, good: fn(&[u8], usize) -> bool) -> impl Iterator<Item = &'a List> {
        self.lengths
            .iter()
            .filter(move |(length, _)| *length <= path.len() && good(path.as_bytes(), *length))
            .filter_map(move |(length, _)| self.lists.get(path.get(..*length)?))
    }
}

/// How many texts a shard may have on average before their number is doubled.
const PER_SHARD: usize = 32;

type Shard = HashTable<(Str, List)>;

/// Lists under a text. A change copies the one shard that it touches; small tables have one shard.
#[derive(Clone, Default)]
struct ByText {
    shards: Vec<Arc<Shard>>,
    len: usize,
}

impl ByText {
    fn get(&self, text: &str) -> Option<&List> {
        if self.len == 0 {
            return None;
        }
        let hash = hash(text);
        let found = self.shards[self.shard_of(hash)].find(hash, |(known, _)| known.as_str() == text);
        found.map(|(_, list)| list)
    }

    /// Changes the list of a text; a text whose list is left empty is forgotten.
    fn change(&mut self, text: &Str, change: impl FnOnce(&mut List)) {
        if self.len >= self.shards.len() * PER_SHARD {
            self.grow();
        }
        let hash = hash(text);
        let at = self.shard_of(hash);
        let shard = Arc::make_mut(&mut self.shards[at]);
        match shard.entry(hash, |(known, _)| known == text, |(known, _)| self::hash(known)) {
            Entry::Occupied(mut found) => {
                let list = &mut found.get_mut().1;
                change(list);
                if list.is_empty() {
                    found.remove();
                    self.len -= 1;
                }
            }
            Entry::Vacant(free) => {
                let mut list = List::new();
                change(&mut list);
                if !list.is_empty() {
                    free.insert((text.clone(), list));
                    self.len += 1;
                }
            }
        }
    }

    fn grow(&mut self) {
        let count = (self.shards.len() * 2).max(1);
        let mut shards = vec![Shard::new(); count];
        for (text, list) in self.shards.iter().flat_map(|shard| shard.iter()) {
            let hash = hash(text);
            let shard = &mut shards[place(hash, count)];
            shard.insert_unique(hash, (text.clone(), list.clone()), |(known, _)| self::hash(known));
        }
        self.shards = shards.into_iter().map(Arc::new).collect();
    }

    fn shard_of(&self, hash: u64) -> usize {
        place(hash, self.shards.len())
    }
}

/// The shard of a hash; their number is a power of two. A table takes its lowest and highest bits.
fn place(hash: u64, shards: usize) -> usize {
    (hash >> 32) as usize & (shards - 1)
}

fn hash(text: &str) -> u64 {
    FixedState::default().hash_one(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_model::FullRegex;

    #[test]
    fn what_a_pattern_begins_with() {
        for (pattern, prefix) in [
            ("/api/v[0-9]+", "/api/v"),
            ("/api/v?", "/api/"),
            ("/api/v*x", "/api/"),
            ("/api/v{0,2}", "/api/"),
            ("/a|/b", ""),
            ("(?i)/api", ""),
            ("^/api", ""),
            ("/api", "/api"),
            (r"/a\.b", "/a"),
            ("/é", "/"),
            ("?", ""),
        ] {
            assert_eq!(literal_prefix(pattern), prefix, "{pattern}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_matches_begins_with_it(
            pattern in "[ab/.*+?|()\\[\\]{}0-2\\\\^$-]{0,8}",
            text in "[ab/]{0,5}",
        ) {
            if let Ok(regex) = FullRegex::parse(&pattern) {
                let prefix = literal_prefix(&pattern);
                proptest::prop_assert!(!regex.is_match(&text) || text.starts_with(prefix));
            }
        }
    }
}
