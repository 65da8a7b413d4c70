//! One system call of a build fails in each run.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::errno::Errno;

use crate::calls::Fault;
use crate::judge::{self, Finding, Kind, Outputs};
use crate::project::Project;
use crate::sample::Sample;
use crate::sites;
use crate::tally::Tally;
use crate::tracer::{self, Injection};

/// The number of pairs of a call and an error that are tried, and of a call and another fault.
const ERRORS: usize = 540;
const OTHERS: usize = 50;

/// A run that injects fewer errors than this fails.
const MIN_ERRORS: usize = 500;

/// The number of parallel builds.
const AT_ONCE: usize = 2;

pub fn all(tally: &Tally) {
    let Sample { project, right } = Sample::new();
    let clean = tracer::build(&project, None);
    assert_eq!((clean.run.code, judge::outputs(&project)), (0, right.clone()), "{}", clean.run);
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let only = variable("RUNNER_TEST_FAULT");
    let most = variable("RUNNER_TEST_FAULTS").map(|most| most.parse().unwrap());
    let most = if only.is_some() { Some(usize::MAX) } else { most };
    let is_error = |fault| matches!(fault, Fault::Errno(_));
    let mut chosen = sites::choose(&clean.sites, most.unwrap_or(ERRORS), is_error);
    chosen.extend(sites::choose(&clean.sites, most.unwrap_or(OTHERS), |fault| !is_error(fault)));
    chosen.retain(|injection| only.as_ref().is_none_or(|only| injection.to_string().contains(only)));
    println!("{} calls of a build; {} faults to inject", clean.sites.len(), chosen.len());
    let errors = AtomicUsize::new(0);
    let queue = Mutex::new(chosen.into_iter());
    std::thread::scope(|scope| {
        for project in [(); AT_ONCE].map(|()| Sample::new().project) {
            let (errors, queue, right) = (&errors, &queue, &right);
            scope.spawn(move || {
                loop {
                    let Some(injection) = queue.lock().unwrap().next() else { return };
                    if one(&project, &injection, right, tally) && is_error(injection.fault) {
                        errors.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let errors = errors.into_inner();
    if most.is_none() && errors < MIN_ERRORS {
        let found = Finding::new(Kind::Unexplained, format!("{errors} errors were injected, fewer than {MIN_ERRORS}"));
        tally.add("all", "the calls of a build", vec![found], String::new);
    }
}

/// Injects one fault and checks the result; returns whether it was injected.
///
/// Threads may take another order in each run, so that the call is not made: the run is repeated, and does not count where the
/// call is never made.
fn one(project: &Project, injection: &Injection, right: &Outputs, tally: &Tally) -> bool {
    const TRIES: u32 = 3;
    for _ in 0..TRIES {
        for directory in ["store", "out"] {
            let _ = fs::remove_dir_all(project.path(directory));
        }
        let traced = tracer::build(project, Some(injection));
        if !traced.fired {
            continue;
        }
        let run = &traced.run;
        let (causes, codes) = expected(injection);
        let mut found = judge::ending(run, &causes, codes);
        if traced.hung {
            found.push(Finding::new(Kind::Unexplained, "it would not end"));
        }
        found.extend(judge::whole(project, right, run.code == 0));
        found.extend(judge::next_build(project, right, &[run.pid]));
        tally.add(injection.site.call, &injection.to_string(), found, || run.to_string());
        return true;
    }
    tally.not_met(&injection.to_string());
    false
}

/// Returns the causes that a message may name, and the exit codes that are right.
fn expected(injection: &Injection) -> (Vec<String>, &'static [i32]) {
    const FAILED: &[i32] = &[0, 1, 3];
    // The manifest, or a file that it names, cannot be read.
    const INPUT_FAILED: &[i32] = &[0, 1, 2, 3];
    const INPUTS: [&str; 6] = ["/build.yaml", "/runner.toml", "/src", "/gate", "/bin", "/usr/bin"];
    const KILLED: &[i32] = &[0, 1, 3, 137];
    match injection.fault {
        Fault::Errno(errno) => {
            let words = std::io::Error::from(errno).to_string();
            let words = words.split(" (os error").next().unwrap().to_owned();
            let is_input = INPUTS.iter().any(|input| injection.site.on.starts_with(input));
            let codes = if is_input { INPUT_FAILED } else { FAILED };
            let also = match injection.site.call {
                // A mount that stays is reported when runner unmounts the one above it.
                "umount2" => Some("Device or resource busy"),
                // The standard library's message for any thread that cannot be made.
                "clone3" => Some("Resource temporarily unavailable"),
                // Init's own message.
                "execve" if errno == Errno::ENOMEM => Some("Out of memory"),
                // The standard library checks whether a directory exists, and reports its mkdir(2) where it cannot.
                "statx" => Some("File exists"),
                _ => None,
            };
            ([words].into_iter().chain(also.map(str::to_owned)).collect(), codes)
        }
        Fault::Short => (Vec::new(), &[0]),
        Fault::Kill => (Vec::new(), KILLED),
    }
}
