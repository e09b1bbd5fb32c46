//! How long the other side keeps a connection that waits, as far as it says or shows.
//!
//! A server that closes an idle connection just when a request is written to it makes a request fail that is not
//! idempotent. So connections are given up before their server does.

use std::time::Duration;

use lateen_runtime::clock::Instant;

use crate::http::head::{Known, ResponseHead};

/// How often idle connections are looked at, and so how late a close may be seen.
pub(crate) const LOOK: Duration = Duration::from_secs(1);
/// How much two observations may differ and still be the same timeout.
const ALIKE: Duration = Duration::from_millis(1_500);
/// What was learned is believed for so long.
const BELIEVED: Duration = Duration::from_secs(600);

/// What was seen of one hop.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Learned {
    /// How long a connection had been idle when it was found closed.
    seen: Option<Duration>,
    limit: Option<(Duration, Instant)>,
}

impl Learned {
    /// The longest a connection may wait.
    pub(crate) fn longest(&self, now: Instant) -> Option<Duration> {
        let (limit, until) = self.limit?;
        (now < until).then_some(limit)
    }

    /// In one look connections were found closed by the other side; the one that had waited least had waited so long.
    /// A restart closes all of them, whatever their age: only what is seen twice is a habit.
    pub(crate) fn closed(&mut self, idle: Duration, now: Instant) {
        if let Some(seen) = self.seen
            && seen.abs_diff(idle) <= ALIKE
        {
            let least = seen.min(idle).saturating_sub(LOOK);
            self.limit = Some((before(least), now + BELIEVED));
        }
        self.seen = Some(idle);
    }
}

/// A moment before `timeout` is over: what is on its way must still arrive.
fn before(timeout: Duration) -> Duration {
    timeout.saturating_sub(Duration::from_secs(1)).max(timeout / 2)
}

/// How long a connection may wait after this response, if it says so (`Keep-Alive: timeout=5`).
pub(crate) fn told(response: &ResponseHead) -> Option<Duration> {
    let value = std::str::from_utf8(response.fields.known(Known::KeepAlive)?).ok()?;
    let parameters = value.split(',').filter_map(|parameter| parameter.trim().split_once('='));
    let mut timeouts = parameters.filter(|(name, _)| name.trim_end().eq_ignore_ascii_case("timeout"));
    let seconds = timeouts.next()?.1.trim().trim_matches('"').parse::<u32>().ok()?;
    Some(before(Duration::from_secs(seconds.into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lateen_runtime::clock;

    #[test]
    fn what_servers_say() {
        let after = |value: &str| {
            let mut head = ResponseHead::default();
            head.fields.add(b"keep-alive", value.as_bytes());
            told(&head).map(|longest| longest.as_millis())
        };
        for (value, expected) in [
            ("timeout=5, max=100", Some(4_000)),
            ("max=100,Timeout = 60", Some(59_000)),
            ("timeout=1", Some(500)),
            ("timeout=0", Some(0)),
            ("timeout=x", None),
            ("5", None),
        ] {
            assert_eq!(after(value), expected, "{value}");
        }
        assert_eq!(told(&ResponseHead::default()), None);
    }

    #[test]
    fn a_habit_is_seen_twice() {
        let (now, second) = (clock::now(), Duration::from_secs(1));
        let mut learned = Learned::default();
        learned.closed(second * 6, now);
        assert_eq!(learned.longest(now), None);
        // A restart: connections of any age.
        learned.closed(second * 2, now);
        assert_eq!(learned.longest(now), None);
        learned.closed(second * 6, now);
        learned.closed(second * 5, now);
        assert_eq!(learned.longest(now), Some(second * 3));
        assert_eq!(learned.longest(now + BELIEVED), None);
    }
}
