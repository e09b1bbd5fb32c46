//! Our proxy beside peers that nobody here wrote.
//!
//! Each case needs some of them. One that is not on this machine makes the case ignored, which says why, or failed
//! when `LATEEN_REQUIRE_PEERS=1`. `.ci/peers` installs them all.

use std::process::ExitCode;

use lateen_peers::peers::{self, Peer};
use libtest_mimic::{Arguments, Failed, Trial};

#[path = "peers/clients.rs"]
mod clients;
#[path = "peers/differential.rs"]
mod differential;
#[path = "peers/restart.rs"]
mod restart;
#[path = "peers/smuggling.rs"]
mod smuggling;

/// A case: its name, whom it needs, and what it does.
type Case = (&'static str, &'static [Peer], fn() -> anyhow::Result<()>);

fn main() -> ExitCode {
    if let Some(code) = lateen_peers::process::become_what_was_asked() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // One at a time: each case starts several processes, and some send at a steady rate.
    arguments.test_threads.get_or_insert(1);
    let cases = [differential::CASES, smuggling::CASES, clients::CASES, restart::CASES];
    let trials = cases.into_iter().flatten().map(trial).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(&(name, needs, case): &Case) -> Trial {
    let missing = peers::missing(needs);
    let ignored = missing.is_some() && !peers::required();
    let kind = missing.clone().unwrap_or_default();
    let run = move || match missing {
        Some(missing) => Err(Failed::from(missing)),
        None => case().map_err(|error| Failed::from(format!("{error:#}"))),
    };
    Trial::test(name, run).with_ignored_flag(ignored).with_kind(kind)
}
