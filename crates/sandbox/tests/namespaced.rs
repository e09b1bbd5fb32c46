//! What needs real namespaces. There is no harness: `main` must be able to become the holder before any
//! thread exists.

use lateen_sandbox::{Environment, holder, probe};

fn main() {
    holder::run_if_asked();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let probe = runtime.block_on(probe());
    assert!(
        probe.environment == Environment::Plain || probe.attempts.last().is_some_and(|a| a.failure.is_none())
    );
}
