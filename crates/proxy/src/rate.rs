//! Buckets of tokens, for all workers of this proxy.
//!
//! A bucket is one number: the time at which it will be full again (GCRA, the generic cell rate algorithm). Taking a
//! token moves that time on; where it would lie further ahead than the burst allows, there is no token. So a bucket
//! needs no refilling, and one whose time has passed is as good as none and may be forgotten.

use std::cell::RefCell;
use std::collections::HashMap as StdMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use lateen_engine::{RateRule, RequestFacts};
use lateen_model::{Key, Str};
use lateen_runtime::clock::{self, Instant};

/// Buckets of one rule that are kept apart; further values of its key share one for each shard.
const MOST_BUCKETS: usize = 64 * 1024;
const SHARDS: usize = 16;
/// How often a full shard is searched for buckets that may be forgotten.
const TIDY: u64 = 1_000_000_000;

/// The rules and their buckets. Rules that change begin anew; those that stay keep what was counted.
pub struct RateTable {
    began: Instant,
    hasher: RandomState,
    rules: Mutex<StdMap<(Key, Str), Arc<Buckets>>>,
}

impl Default for RateTable {
    fn default() -> Self {
        Self { began: clock::now(), hasher: RandomState::default(), rules: Mutex::default() }
    }
}

/// What one rule counts.
pub(crate) struct Buckets {
    rule: Arc<RateRule>,
    /// Nanoseconds from one token to the next.
    interval: u64,
    /// How far ahead the time of a bucket may lie.
    burst: u64,
    /// The bucket of a rule without key.
    only: AtomicU64,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    /// The time of each bucket by the hash of its key, which is seeded by chance when the process starts.
    times: HashMap<u64, u64, RandomState>,
    /// Of all that have no place.
    others: u64,
    searched: u64,
}

/// What a bucket said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether there was a token.
    pub(crate) passes: bool,
    /// The most tokens the bucket holds.
    pub(crate) limit: u32,
    /// Tokens that are left.
    pub(crate) remaining: u32,
    /// Until the bucket is full again.
    pub(crate) reset: Duration,
    /// Until there is a token.
    pub(crate) wait: Duration,
}

/// The rules that a worker has asked for, so that it need not ask again: rules are looked up by where they are in memory,
/// which is theirs as long as they are kept here.
#[derive(Default)]
pub(crate) struct KnownRates(RefCell<HashMap<usize, Known, RandomState>>);

/// A rule, held so that its place in memory stays its own, and its buckets.
type Known = (Arc<RateRule>, Arc<Buckets>);

/// Rules of snapshots that are gone are forgotten with all others at this number.
const MOST_KNOWN: usize = 256;

impl KnownRates {
    /// The buckets of a rule.
    pub(crate) fn buckets(&self, rule: &Arc<RateRule>, table: &RateTable) -> Arc<Buckets> {
        let mut known = self.0.borrow_mut();
        let address = Arc::as_ptr(rule).addr();
        if let Some((_, buckets)) = known.get(&address) {
            return Arc::clone(buckets);
        }
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        let buckets = table.buckets(rule);
        known.insert(address, (Arc::clone(rule), Arc::clone(&buckets)));
        buckets
    }
}

impl RateTable {
    /// The buckets of a rule.
    pub(crate) fn buckets(&self, rule: &Arc<RateRule>) -> Arc<Buckets> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (rule.policy.clone(), rule.rule.name.clone());
        match rules.get(&name) {
            Some(known) if *known.rule == **rule => Arc::clone(known),
            _ => {
                // Rules that no worker knows any more.
                rules.retain(|_, buckets| Arc::strong_count(buckets) > 1);
                let buckets = Arc::new(Buckets::new(rule));
                rules.insert(name, Arc::clone(&buckets));
                buckets
            }
        }
    }

    /// Counts a request.
    pub(crate) fn take(&self, buckets: &Buckets, request: &RequestFacts<'_>) -> Standing {
        let now = self.now();
        if buckets.rule.rule.key.is_empty() {
            return buckets.take_only(now);
        }
        let mut hasher = self.hasher.build_hasher();
        buckets.rule.hash_key(request, &mut hasher);
        buckets.take_keyed(hasher.finish(), now)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Buckets {
    fn new(rule: &Arc<RateRule>) -> Self {
        let nanos = u64::try_from(rule.rule.per.as_nanos()).unwrap_or(u64::MAX);
        let interval = (nanos / u64::from(rule.rule.requests).max(1)).max(1);
        let tokens = if rule.rule.requests == 0 { 0 } else { u64::from(rule.rule.burst) };
        Self {
            rule: Arc::clone(rule),
            interval,
            burst: interval.saturating_mul(tokens),
            only: AtomicU64::new(0),
            shards: Default::default(),
        }
    }

    /// The time of a bucket after a token was taken from it; none when there is none.
    fn after(&self, time: u64, now: u64) -> Option<u64> {
        let next = time.max(now).saturating_add(self.interval);
        (next - now <= self.burst).then_some(next)
    }

    fn standing(&self, passes: bool, time: u64, now: u64) -> Standing {
        let ahead = time.saturating_sub(now);
        let free = self.burst.saturating_sub(ahead) / self.interval;
        let wait = ahead.saturating_add(self.interval).saturating_sub(self.burst);
        Standing {
            passes,
            limit: u32::try_from(self.burst / self.interval).unwrap_or(u32::MAX),
            remaining: u32::try_from(free).unwrap_or(u32::MAX),
            reset: Duration::from_nanos(ahead),
            // A bucket that never has a token is asked again after a while all the same.
            wait: if self.burst == 0 { self.rule.rule.per } else { Duration::from_nanos(wait) },
        }
    }

    fn take_only(&self, now: u64) -> Standing {
        let order = Ordering::Relaxed;
        match self.only.fetch_update(order, order, |time| self.after(time, now)) {
            Ok(before) => self.standing(true, self.after(before, now).unwrap_or(before), now),
            Err(time) => self.standing(false, time, now),
        }
    }

    fn take_keyed(&self, key: u64, now: u64) -> Standing {
        let shard = usize::try_from(key >> 60).unwrap_or_default() % SHARDS;
        let mut shard = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        let time = shard.time(key, now);
        match self.after(*time, now) {
            Some(next) => {
                *time = next;
                self.standing(true, next, now)
            }
            None => self.standing(false, *time, now),
        }
    }
}

impl Shard {
    /// The time of a bucket, which is a new one where the key has none yet.
    fn time(&mut self, key: u64, now: u64) -> &mut u64 {
        const MOST: usize = MOST_BUCKETS / SHARDS;
        if self.times.len() >= MOST && !self.times.contains_key(&key) {
            if now.saturating_sub(self.searched) >= TIDY {
                self.searched = now;
                self.times.retain(|_, time| *time > now);
            }
            if self.times.len() >= MOST {
                return &mut self.others;
            }
        }
        self.times.entry(key).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_model::{LimitRule, Origin};

    const SECOND: u64 = 1_000_000_000;

    fn buckets(requests: u32, burst: u32) -> Buckets {
        let rule = LimitRule {
            name: "r".into(),
            matches: Vec::new(),
            key: Vec::new(),
            requests,
            per: Duration::from_secs(1),
            burst,
        };
        let policy = Key::new(Origin::RateLimitPolicy, lateen_model::Namespace::default(), "x");
        Buckets::new(&Arc::new(RateRule { policy, rule }))
    }

    fn passed(outcomes: impl Iterator<Item = Standing>) -> usize {
        outcomes.filter(|standing| standing.passes).count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let bucket = buckets(10, 5);
        assert_eq!(passed((0..20).map(|_| bucket.take_only(SECOND))), 5);
        // A hundred askings in each of ten seconds: ten pass in each, and the bucket is empty at the end of each.
        let steady = (0..1000u64).map(|n| bucket.take_only(2 * SECOND + n * SECOND / 100));
        let steady = passed(steady);
        assert!((100..=105).contains(&steady), "{steady}");
    }

    #[test]
    fn what_a_bucket_says() {
        let bucket = buckets(2, 2);
        let first = bucket.take_only(SECOND);
        assert_eq!((first.passes, first.limit, first.remaining), (true, 2, 1));
        assert_eq!(first.reset, Duration::from_millis(500));
        assert!(bucket.take_only(SECOND).passes);
        let refused = bucket.take_only(SECOND);
        assert_eq!((refused.passes, refused.remaining), (false, 0));
        assert_eq!((refused.wait, refused.reset), (Duration::from_millis(500), Duration::from_secs(1)));
        assert!(bucket.take_only(SECOND + SECOND / 2).passes);
    }

    #[test]
    fn keys_have_buckets_of_their_own_and_their_number_is_bounded() {
        let bucket = buckets(1, 1);
        assert!(bucket.take_keyed(1, SECOND).passes && bucket.take_keyed(2, SECOND).passes);
        assert!(!bucket.take_keyed(1, SECOND).passes);
        let spread = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for n in 10..200_000u64 {
            bucket.take_keyed(spread(n), SECOND);
        }
        let kept: usize = bucket.shards.iter().map(|shard| shard.lock().unwrap().times.len()).sum();
        assert!(kept <= MOST_BUCKETS, "{kept}");
        // All of them are full again, so new keys find a place.
        assert!(bucket.take_keyed(spread(7), 10 * SECOND).passes);
    }

    #[test]
    fn nothing_passes_where_nothing_may() {
        assert!(!buckets(0, 5).take_only(SECOND).passes && !buckets(5, 0).take_only(SECOND).passes);
    }

    #[test]
    fn a_rule_that_stays_keeps_what_it_counted() {
        let (table, rule) = (RateTable::default(), Arc::clone(&buckets(1, 1).rule));
        let same = Arc::new((*rule).clone());
        assert!(Arc::ptr_eq(&table.buckets(&rule), &table.buckets(&same)));
        let mut other = (*rule).clone();
        other.rule.burst = 2;
        assert!(!Arc::ptr_eq(&table.buckets(&rule), &table.buckets(&Arc::new(other))));
    }
}
