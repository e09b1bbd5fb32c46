//! `Outliers`: endpoints that fail too often in a row are left out for a while (outlier detection).
//!
//! All workers of a proxy share what they find out. A worker keeps a copy of who is noted, and looks for a newer one
//! only when the version has changed: a request to a healthy endpoint costs a load of that number, no lock.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use lateen_engine::{BackendId, LeftOut};
use lateen_model::OutlierDetection;
use lateen_runtime::clock::{Duration, Instant};
use lateen_runtime::metrics::{Labels, Registry, SharedCounter, SharedGauge};

/// The longest that an endpoint is left out, unless its first time is longer (Envoy's `max_ejection_time`).
const LONGEST_EJECTION: Duration = Duration::from_secs(300);
/// A note that nothing was added to is forgotten after so many looks.
const QUIET_LOOKS: u32 = 360;

/// An endpoint as a member of a group: groups have policies of their own.
pub(crate) type Member = (BackendId, SocketAddr);

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// With an answer (a gRPC status as the HTTP status that means the same).
    Status(u16),
    /// Without one.
    NoAnswer,
}

/// What the workers of a proxy know together. Clones share it.
#[derive(Clone)]
pub struct Outliers(Arc<Shared>);

struct Shared {
    /// Raised when somebody is noted, forgotten, ejected, or returns.
    version: AtomicU64,
    state: Mutex<State>,
    metrics: Metrics,
}

#[derive(Default)]
struct State {
    noted: HashMap<Member, Standing, RandomState>,
    out: HashMap<BackendId, LeftOut, RandomState>,
    /// Some worker looks from time to time.
    swept: bool,
}

/// Failures in a row.
#[derive(Default)]
pub(crate) struct Counts {
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_failures: AtomicU32,
}

/// An endpoint that failed not long ago.
struct Standing {
    counts: Arc<Counts>,
    interval: Duration,
    /// When it is looked at next.
    due: Instant,
    /// Until when it is left out.
    until: Option<Instant>,
    /// The factor of its next time out.
    times: u32,
    seen: u32,
    quiet: u32,
}

struct Metrics {
    ejections: [SharedCounter; 3],
    refused: SharedCounter,
    ejected: SharedGauge,
}

/// What was counted when an endpoint was ejected; the place of its counter.
#[derive(Clone, Copy)]
enum Why {
    Errors = 0,
    GatewayErrors = 1,
    LocalFailures = 2,
}

impl Why {
    const ALL: [Self; 3] = [Self::Errors, Self::GatewayErrors, Self::LocalFailures];

    fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "consecutive_5xx",
            Self::GatewayErrors => "consecutive_gateway_errors",
            Self::LocalFailures => "consecutive_local_failures",
        }
    }
}

/// One worker's copy of what is known.
#[derive(Default)]
pub(crate) struct Seen {
    version: u64,
    counts: HashMap<Member, Arc<Counts>, RandomState>,
    out: HashMap<BackendId, LeftOut, RandomState>,
}

impl Default for Outliers {
    fn default() -> Self {
        Self::new(&Registry::new())
    }
}

impl Outliers {
    /// Counts into `registry`.
    pub fn new(registry: &Registry) -> Self {
        let ejections =
            registry.counter("lateen_outlier_ejections_total", "endpoints left out by outlier detection");
        let refused = registry.counter(
            "lateen_outlier_ejections_refused_total",
            "endpoints that stayed since too many were left out already",
        );
        let ejected = registry.gauge("lateen_outlier_ejected_endpoints", "endpoints that are left out now");
        let counter = |why: Why| registry.shared_counter(ejections, &Labels::new([("reason", why.as_str())]));
        let metrics = Metrics {
            ejections: Why::ALL.map(counter),
            refused: registry.shared_counter(refused, &Labels::none()),
            ejected: registry.shared_gauge(ejected, &Labels::none()),
        };
        Self(Arc::new(Shared { version: AtomicU64::new(0), state: Mutex::default(), metrics }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who of a group is left out now.
    pub(crate) fn left_out(&self, seen: &mut Seen, group: BackendId) -> Option<LeftOut> {
        if !self.refresh(seen) {
            return None;
        }
        seen.out.get(&group).cloned()
    }

    /// Takes what is new. False while nobody has ever failed.
    fn refresh(&self, seen: &mut Seen) -> bool {
        let version = self.0.version.load(Ordering::Acquire);
        if version != seen.version {
            let state = self.state();
            // Read again: what is copied is at least as new.
            seen.version = self.0.version.load(Ordering::Acquire);
            seen.counts = state
                .noted
                .iter()
                .map(|(member, standing)| (*member, Arc::clone(&standing.counts)))
                .collect();
            seen.out.clone_from(&state.out);
        }
        version != 0
    }

    /// Counts how a try ended; `size` is how many endpoints the group has. True when the caller must see to it that
    /// `sweep` is called from now on.
    pub(crate) fn report(
        &self,
        seen: &mut Seen,
        member: Member,
        policy: &OutlierDetection,
        outcome: Outcome,
        size: usize,
        now: Instant,
    ) -> bool {
        let failed = is_failure(policy, outcome);
        let any = self.refresh(seen);
        if !failed {
            if any && let Some(counts) = seen.counts.get(&member) {
                counts.forget();
            }
            return false;
        }
        let (counts, begins) = match seen.counts.get(&member) {
            Some(counts) => (Arc::clone(counts), false),
            None => self.note(member, policy, now),
        };
        if let Some(why) = counts.add(policy, outcome) {
            self.eject(member, policy, why, size, now);
        }
        begins
    }

    fn note(&self, member: Member, policy: &OutlierDetection, now: Instant) -> (Arc<Counts>, bool) {
        let mut state = self.state();
        let standing = state.noted.entry(member).or_insert_with(|| Standing {
            counts: Arc::default(),
            interval: policy.interval,
            due: now + policy.interval,
            until: None,
            times: 0,
            seen: 0,
            quiet: 0,
        });
        let counts = Arc::clone(&standing.counts);
        let begins = !std::mem::replace(&mut state.swept, true);
        self.changed();
        (counts, begins)
    }

    /// Called while the state is locked.
    fn changed(&self) {
        self.0.version.fetch_add(1, Ordering::Release);
    }

    fn eject(&self, member: Member, policy: &OutlierDetection, why: Why, size: usize, now: Instant) {
        let mut state = self.state();
        let out = state.out.get(&member.0).map_or(0, LeftOut::len);
        let Some(standing) = state.noted.get_mut(&member).filter(|standing| standing.until.is_none()) else {
            return;
        };
        let (group, endpoint) = member;
        if out > 0 && 100 * (out + 1) > usize::from(policy.max_ejection_percent) * size {
            self.0.metrics.refused.increment();
            tracing::info!(group = group.0, %endpoint, reason = why.as_str(), out, "endpoint stays: too many are out");
            return;
        }
        standing.times = standing.times.saturating_add(1);
        let longest = LONGEST_EJECTION.max(policy.base_ejection_time);
        let time = policy.base_ejection_time.saturating_mul(standing.times).min(longest);
        standing.until = Some(now + time);
        (standing.interval, standing.due) = (policy.interval, standing.due.min(now + policy.interval));
        self.settle(&mut state, group);
        self.0.metrics.ejections[why as usize].increment();
        tracing::info!(group = group.0, %endpoint, reason = why.as_str(), ?time, "endpoint is left out");
    }

    /// Makes the list of a group anew.
    fn settle(&self, state: &mut State, group: BackendId) {
        let out = state.noted.iter().filter(|((of, _), standing)| *of == group && standing.until.is_some());
        let out: Vec<SocketAddr> = out.map(|((_, endpoint), _)| *endpoint).collect();
        match LeftOut::new(out) {
            Some(out) => state.out.insert(group, out),
            None => state.out.remove(&group),
        };
        let ejected: usize = state.out.values().map(LeftOut::len).sum();
        self.0.metrics.ejected.set(i64::try_from(ejected).unwrap_or(i64::MAX));
        self.changed();
    }

    /// Lets those return whose time is over. Gives how long until the next look; none when nobody is noted any more.
    pub(crate) fn sweep(&self, now: Instant) -> Option<Duration> {
        let mut state = self.state();
        let mut returned = Vec::new();
        let before = state.noted.len();
        state.noted.retain(|member, standing| {
            if standing.due <= now {
                standing.due = now + standing.interval;
                if standing.until.is_some_and(|until| until <= now) {
                    standing.until = None;
                    standing.counts.forget();
                    returned.push(*member);
                } else if standing.until.is_none() {
                    return standing.is_worth_it();
                }
            }
            true
        });
        for (group, endpoint) in &returned {
            self.settle(&mut state, *group);
            tracing::info!(group = group.0, %endpoint, "endpoint returns");
        }
        if state.noted.len() != before {
            self.changed();
        }
        let next = state.noted.values().map(|standing| standing.due).min();
        state.swept = next.is_some();
        next.map(|due| due.saturating_duration_since(now))
    }
}

impl Standing {
    /// After an interval in which it was in use, well or not: whether there is anything to remember of it.
    fn is_worth_it(&mut self) -> bool {
        self.times = self.times.saturating_sub(1);
        let counted = self.counts.sum();
        self.quiet = if counted == self.seen { self.quiet + 1 } else { 0 };
        self.seen = counted;
        (self.times > 0 || counted > 0) && self.quiet < QUIET_LOOKS
    }
}

impl Counts {
    fn forget(&self) {
        for count in [&self.errors, &self.gateway_errors, &self.local_failures] {
            // A store would take the line from the other workers each time.
            if count.load(Ordering::Relaxed) != 0 {
                count.store(0, Ordering::Relaxed);
            }
        }
    }

    fn sum(&self) -> u32 {
        let counts = [&self.errors, &self.gateway_errors, &self.local_failures];
        counts.into_iter().fold(0, |sum, count| sum.saturating_add(count.load(Ordering::Relaxed)))
    }

    /// One more failure; what is full by it.
    fn add(&self, policy: &OutlierDetection, outcome: Outcome) -> Option<Why> {
        let full = |count: &AtomicU32, most: u32| {
            let full = count.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= most && most > 0;
            if full {
                count.store(0, Ordering::Relaxed);
            }
            full
        };
        let local = outcome == Outcome::NoAnswer;
        if local && policy.split_local_errors {
            return full(&self.local_failures, policy.consecutive_local_failures)
                .then_some(Why::LocalFailures);
        }
        self.local_failures.store(0, Ordering::Relaxed);
        let gateway = local || matches!(outcome, Outcome::Status(502..=504));
        let by_gateway = if gateway {
            full(&self.gateway_errors, policy.consecutive_gateway_errors)
        } else {
            self.gateway_errors.store(0, Ordering::Relaxed);
            false
        };
        let by_errors = full(&self.errors, policy.consecutive_5xx);
        if by_gateway {
            return Some(Why::GatewayErrors);
        }
        by_errors.then_some(Why::Errors)
    }
}

fn is_failure(policy: &OutlierDetection, outcome: Outcome) -> bool {
    match outcome {
        Outcome::NoAnswer => true,
        Outcome::Status(status) if policy.error_statuses.is_empty() => (500..600).contains(&status),
        Outcome::Status(status) => {
            policy.error_statuses.iter().any(|(first, last)| (*first..=*last).contains(&status))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_runtime::clock;

    const GROUP: BackendId = BackendId(7);

    fn endpoint(number: u8) -> SocketAddr {
        SocketAddr::new([10, 0, 0, number].into(), 80)
    }

    /// What two workers of one proxy find out.
    struct Scene {
        outliers: Outliers,
        workers: [Seen; 2],
        policy: OutlierDetection,
        size: usize,
        now: Instant,
    }

    impl Scene {
        fn new(change: impl FnOnce(&mut OutlierDetection)) -> Self {
            let mut policy =
                OutlierDetection { consecutive_5xx: 3, max_ejection_percent: 50, ..Default::default() };
            change(&mut policy);
            let outliers = Outliers::default();
            Self { outliers, workers: Default::default(), policy, size: 4, now: clock::now() }
        }

        fn tell(&mut self, worker: usize, number: u8, outcome: Outcome) {
            let seen = &mut self.workers[worker];
            let member = (GROUP, endpoint(number));
            self.outliers.report(seen, member, &self.policy, outcome, self.size, self.now);
        }

        fn fail(&mut self, number: u8, times: u32) {
            (0..times).for_each(|_| self.tell(0, number, Outcome::Status(500)));
        }

        /// Who the other worker leaves out.
        fn out(&mut self) -> Vec<u8> {
            let out = self.outliers.left_out(&mut self.workers[1], GROUP);
            let last = |address: &SocketAddr| {
                address.ip().to_string().rsplit('.').next().and_then(|n| n.parse().ok())
            };
            out.iter().flat_map(LeftOut::iter).filter_map(last).collect()
        }

        fn later(&mut self, seconds: u64) -> Option<Duration> {
            self.now += Duration::from_secs(seconds);
            self.outliers.sweep(self.now)
        }
    }

    #[test]
    fn errors_in_a_row_are_counted_over_all_workers() {
        let mut scene = Scene::new(|_| {});
        let error = Outcome::Status(500);
        scene.tell(0, 1, error);
        scene.tell(1, 1, error);
        // An answer of either worker begins the row anew.
        scene.tell(1, 1, Outcome::Status(404));
        scene.tell(0, 1, error);
        scene.tell(0, 1, error);
        assert!(scene.out().is_empty());
        scene.tell(1, 1, Outcome::NoAnswer);
        assert_eq!(scene.out(), [1]);
    }

    #[test]
    fn gateway_errors_and_failures_without_an_answer_have_rows_of_their_own() {
        let mut scene =
            Scene::new(|policy| (policy.consecutive_5xx, policy.consecutive_gateway_errors) = (0, 2));
        for outcome in [Outcome::Status(503), Outcome::Status(500), Outcome::Status(502)] {
            scene.tell(0, 1, outcome);
        }
        assert!(scene.out().is_empty(), "500 is none");
        scene.tell(0, 1, Outcome::NoAnswer);
        assert_eq!(scene.out(), [1]);
        let mut split = Scene::new(|policy| {
            (policy.split_local_errors, policy.consecutive_local_failures) = (true, 2);
        });
        split.fail(1, 2);
        split.tell(0, 1, Outcome::NoAnswer);
        assert!(split.out().is_empty());
        split.tell(0, 1, Outcome::NoAnswer);
        assert_eq!(split.out(), [1]);
        let mut teapot = Scene::new(|policy| policy.error_statuses = vec![(418, 418)]);
        teapot.fail(1, 9);
        assert!(teapot.out().is_empty());
        (0..3).for_each(|_| teapot.tell(0, 1, Outcome::Status(418)));
        assert_eq!(teapot.out(), [1]);
    }

    #[test]
    fn no_more_than_the_limit_but_one_at_least() {
        let mut scene = Scene::new(|policy| policy.max_ejection_percent = 10);
        for number in 1..=4 {
            scene.fail(number, 3);
        }
        assert_eq!(scene.out(), [1]);
        let mut half = Scene::new(|_| {});
        for number in 1..=4 {
            half.fail(number, 3);
        }
        assert_eq!(half.out(), [1, 2]);
    }

    #[test]
    fn they_return_later_each_time_and_are_forgiven_in_time() {
        let mut scene = Scene::new(|_| {});
        scene.fail(1, 3);
        scene.later(20);
        assert_eq!(scene.out(), [1]);
        scene.later(10);
        assert!(scene.out().is_empty());
        // Again at once: twice as long.
        scene.fail(1, 3);
        scene.later(50);
        assert_eq!(scene.out(), [1]);
        scene.later(10);
        assert!(scene.out().is_empty());
        // Each good interval takes one off; then nothing is remembered and nobody looks any more.
        assert!(scene.later(10).is_some());
        assert_eq!(scene.later(10), None);
        scene.fail(1, 3);
        scene.later(30);
        assert!(scene.out().is_empty());
    }

    #[test]
    fn one_look_is_kept_going_as_long_as_somebody_is_noted() {
        let mut scene = Scene::new(|_| {});
        let now = scene.now;
        let mut report = |number: u8, outcome| {
            let member = (GROUP, endpoint(number));
            scene.outliers.report(&mut scene.workers[0], member, &scene.policy, outcome, 4, now)
        };
        assert!(!report(1, Outcome::Status(200)));
        assert!(report(1, Outcome::NoAnswer));
        assert!(!report(1, Outcome::NoAnswer) && !report(2, Outcome::NoAnswer));
        assert!(!report(1, Outcome::Status(200)) && !report(2, Outcome::Status(200)));
        assert_eq!(scene.later(10), None);
        let again = (GROUP, endpoint(1));
        let outcome = Outcome::NoAnswer;
        assert!(scene.outliers.report(&mut scene.workers[0], again, &scene.policy, outcome, 4, scene.now));
    }
}
