//! Waiting without sleeping for a guess.

use std::future::Future;
use std::time::Duration;

/// Longer than anything takes that works, on a machine that is busy.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// Asks again until there is an answer.
///
/// # Panics
/// When there is none within [`DEADLINE`]; `what` says what was waited for.
pub async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    in_time(what, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
}

/// Waits for a future.
///
/// # Panics
/// When it takes longer than [`DEADLINE`].
pub async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}
