//! What needs real namespaces. There is no harness: `main` must be able to become the holder, or a helper
//! inside a pod, before any thread exists. Cases that the machine refuses say `ignored` and why;
//! `LATEEN_REQUIRE_NAMESPACES=1` turns that into a failure.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test that clippy takes for a program")]

#[path = "namespaced/helper.rs"]
mod helper;
#[path = "namespaced/life.rs"]
mod life;
#[path = "namespaced/privileges.rs"]
mod privileges;
#[path = "namespaced/shop.rs"]
mod shop;
#[path = "namespaced/traffic.rs"]
mod traffic;

use std::{future::Future, process::ExitCode};

use lateen_sandbox::{Environment, Probe, holder, probe};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    holder::run_if_asked();
    helper::run_if_asked();
    let arguments = Arguments::from_args();
    let probe = block_on(probe());
    let mut trials = life::plain_trials();
    let required = std::env::var_os("LATEEN_REQUIRE_NAMESPACES").is_some();
    if !probe.environment.has_namespaces() {
        probe.attempts.iter().for_each(|attempt| println!("ignored since {attempt}"));
    }
    for (name, case) in traffic::CASES.iter().chain(privileges::CASES).chain(life::CASES) {
        trials.push(trial(name, *case, &probe, required));
    }
    if nix::unistd::geteuid().is_root() {
        trials.push(trial(
            "everything_works_as_an_ordinary_user",
            life::as_an_ordinary_user,
            &probe,
            required,
        ));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A case in the environment that works here.
type Case = fn(Environment);

fn trial(name: &'static str, case: Case, probe: &Probe, required: bool) -> Trial {
    let environment = probe.environment;
    if environment.has_namespaces() {
        let trial = Trial::test(name, move || {
            case(environment);
            Ok(())
        });
        return trial.with_kind(environment.name());
    }
    let refused = move || Err(Failed::from("this machine refuses namespaces"));
    Trial::test(name, refused).with_ignored_flag(!required).with_kind("needs namespaces")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}
