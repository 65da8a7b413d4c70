//! Faults and kills: each class of system call fails once in turn, the host lacks something, builds end from outside. `judge`
//! checks after each of them that nothing is damaged and nothing remains.
//!
//! `cargo test --locked --test faults` runs all of it; the last lines are the totals. An argument chooses a part:
//! `hosts`, `runtimes`, `kills` or `injected`. `RUNNER_TEST_FAULT=TEXT` injects all faults whose printed description contains the
//! text, `RUNNER_TEST_FAULTS=N` that many errors and that many other faults, `RUNNER_TEST_SEED=N` kills at the same
//! moments.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

#[path = "../host/built.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod built;
#[path = "../host/caller_signals.rs"]
mod caller_signals;
mod calls;
mod hosts;
mod injected;
mod judge;
mod kills;
#[path = "../host/numbers.rs"]
mod numbers;
#[path = "../host/project.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod project;
#[path = "../host/pty.rs"]
#[expect(dead_code, reason = "other tests use the rest")]
mod pty;
#[path = "../host/runtime.rs"]
#[expect(dead_code, unused_macros, reason = "other tests use the rest")]
mod runtime;
mod runtimes;
mod sample;
mod sites;
mod tally;
mod tracer;

use std::process::ExitCode;
use std::thread;

use tally::Tally;

/// A part of the suite, by its name.
type Part = (&'static str, fn(&Tally));

const PARTS: [Part; 4] =
    [("hosts", hosts::all), ("runtimes", runtimes::all), ("kills", kills::all), ("injected", injected::all)];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        PARTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let only = arguments.iter().find(|argument| !argument.starts_with('-'));
    let tally = Tally::default();
    let chosen = PARTS.iter().filter(|(name, _)| only.is_none_or(|only| name.contains(only.as_str())));
    // All in parallel: each waits more than it computes.
    thread::scope(|scope| {
        for (name, run) in chosen {
            let part = thread::Builder::new().name((*name).to_owned());
            part.spawn_scoped(scope, || run(&tally)).unwrap();
        }
    });
    if tally.close() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
