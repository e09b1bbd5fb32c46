//! `PathIndex`: which entries of a route table could match a path, so that not all of them are asked.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use lateen_model::{PathMatch, Str, StringMatch};
use smallvec::SmallVec;

/// What is known of the path when an entry is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    Matches,
    Unknown,
}

type Map = HashMap<Str, List, FixedState>;
/// Numbers of entries, ascending.
type List = SmallVec<[u32; 4]>;

/// The entries of a route table by path: exact ones, prefixes by length, and those that must be asked in order.
#[derive(Default)]
pub(crate) struct PathIndex {
    exact: Map,
    prefixes: ByLength,
    segments: ByLength,
    others: List,
}

/// Prefixes under their text; the lengths that occur, longest first.
#[derive(Default)]
struct ByLength {
    map: Map,
    lengths: Vec<usize>,
}

impl ByLength {
    fn add(&mut self, prefix: &Str, number: u32) {
        self.map.entry(prefix.clone()).or_default().push(number);
        if let Err(at) = self.lengths.binary_search_by(|length| prefix.len().cmp(length)) {
            self.lengths.insert(at, prefix.len());
        }
    }

    /// The lists of all prefixes that the path begins with and ends at a place that is good.
    fn lists<'a>(&'a self, path: &'a str, good: fn(&[u8], usize) -> bool) -> impl Iterator<Item = &'a List> {
        self.lengths
            .iter()
            .filter(move |length| **length <= path.len() && good(path.as_bytes(), **length))
            .filter_map(move |length| self.map.get(path.get(..*length)?))
    }
}

impl PathIndex {
    /// Adds an entry. Numbers must be added in ascending order.
    pub(crate) fn add(&mut self, path: Option<&PathMatch>, number: u32) {
        match path {
            Some(PathMatch::Text(StringMatch::Exact(text))) => {
                self.exact.entry(text.clone()).or_default().push(number);
            }
            Some(PathMatch::Text(StringMatch::Prefix(text))) => self.prefixes.add(text, number),
            Some(PathMatch::Segments(text)) => self.segments.add(text, number),
            Some(PathMatch::Text(_)) | None => self.others.push(number),
        }
    }

    /// The lowest number whose entry passes the test, among those that could match the path. The test is told
    /// whether the path is known to match already.
    pub(crate) fn first(&self, path: &str, mut test: impl FnMut(u32, Path) -> bool) -> Option<u32> {
        let mut best = None;
        let mut scan = |list: &List, path: Path| {
            let below = |number: &&u32| best.is_none_or(|best| **number < best);
            if let Some(number) = list.iter().take_while(below).find(|number| test(**number, path)) {
                best = Some(*number);
            }
        };
        self.exact.get(path).into_iter().for_each(|list| scan(list, Path::Matches));
        self.segments.lists(path, ends_a_segment).for_each(|list| scan(list, Path::Matches));
        self.prefixes.lists(path, |_, _| true).for_each(|list| scan(list, Path::Matches));
        scan(&self.others, Path::Unknown);
        best
    }
}

fn ends_a_segment(path: &[u8], length: usize) -> bool {
    path.get(length).is_none_or(|next| *next == b'/')
}
