//! Every known attack, whether it once broke out or not, tried from inside with each runtime, as one table.
//!
//! `cargo test --locked --test attacks` as root; a name or a row as an argument picks attacks, `--runtime NAME` one runtime in
//! place of `embedded` and `runc` (so does `RUNNER_ATTACKS_RUNTIMES=embedded,runc,crun`). An attack builds a project, runs runner
//! on it, and is judged by the state of the host or by lines that only an attack that got through can print. One that was not
//! really tried does not count as contained: it fails, too. Each family is a file.
//!
//! `RUNNER_ATTACKS_PATIENCE=20` waits twenty times as long for everything, on a machine that is as much slower (see `patience`):
//! an emulated one, for example. `RUNNER_ATTACKS_TIMES=1` prints how long each attack took, as soon as it ends.
#![expect(clippy::unwrap_used, reason = "an attack that panics was not tried, which the table shows")]

mod archives;
mod attack;
mod build;
#[path = "../host/caller_signals.rs"]
mod caller_signals;
mod calls;
mod cgroups;
mod descriptors;
mod devices;
mod groups;
mod host_paths;
mod lab;
mod leftovers;
mod limits;
mod mount_targets;
mod mounts;
mod mounts_taken;
mod outputs;
mod patience;
mod sent;
mod settings;
mod store_in_bind;
mod table;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use crate::attack::{Attack, Failure};
use crate::lab::Lab;
use crate::table::Row;

/// The number of attacks that are tried at once. Each has a project, a store and groups of its own.
const THREADS: usize = 3;

/// The families, those with the longest waits first.
const FAMILIES: [&[Attack]; 14] = [
    cgroups::ATTACKS,
    descriptors::ATTACKS,
    host_paths::ATTACKS,
    store_in_bind::ATTACKS,
    mounts::ATTACKS,
    mount_targets::ATTACKS,
    mounts_taken::ATTACKS,
    calls::ATTACKS,
    sent::ATTACKS,
    settings::ATTACKS,
    outputs::ATTACKS,
    archives::ATTACKS,
    limits::ATTACKS,
    devices::ATTACKS,
];

fn main() -> ExitCode {
    caller_signals::stop_ignoring_signals();
    let mut arguments = std::env::args().skip(1);
    let (mut filter, mut runtimes) = (None, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix("--runtime") {
            Some("") => runtimes.extend(arguments.next()),
            Some(value) => runtimes.push(value.trim_start_matches('=').to_owned()),
            // Flags of cargo's own test harness, as `--nocapture`, change nothing here.
            None if argument.starts_with('-') => {}
            None => filter = Some(argument),
        }
    }
    if runtimes.is_empty() {
        let named = std::env::var("RUNNER_ATTACKS_RUNTIMES").unwrap_or_else(|_| "embedded,runc".to_owned());
        runtimes = named.split(',').map(str::to_owned).collect();
    }
    match try_all(filter.as_deref(), &runtimes) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the table; returns whether every attack was contained.
fn try_all(filter: Option<&str>, runtimes: &[String]) -> Result<bool, String> {
    patience::from_environment()?;
    lab::check_host(runtimes)?;
    lab::choose_directory()?;
    let directory = tempfile::Builder::new().prefix("runner-attacks-").tempdir().map_err(|error| error.to_string())?;
    let lab = Lab::make(directory.path())?;
    // A panic is shown in the table.
    std::panic::set_hook(Box::new(|_| {}));
    let picked = |attack: &&Attack| filter.is_none_or(|filter| attack.row == filter || attack.name.contains(filter));
    let jobs: Vec<(&Attack, Lab)> = FAMILIES
        .iter()
        .flat_map(|family| family.iter().filter(picked))
        .flat_map(|attack| runtimes.iter().map(|runtime| (attack, lab.with_runtime(runtime))).collect::<Vec<_>>())
        .collect();
    let mut rows = try_some(jobs);
    if rows.is_empty() {
        return Err(format!("no attack is named {}", filter.unwrap_or_default()));
    }
    rows.sort_by(|a, b| a.order().cmp(&b.order()));
    print!("{}", table::text(&rows));
    Ok(rows.iter().all(|row| row.verdict.is_ok()))
}

fn try_some(jobs: Vec<(&Attack, Lab)>) -> Vec<Row> {
    let (jobs, rows) = (Mutex::new(jobs.into_iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let Some((attack, lab)) = jobs.lock().unwrap().next() else { return };
                    let row = try_one(attack, &lab);
                    rows.lock().unwrap().push(row);
                }
            });
        }
    });
    rows.into_inner().unwrap()
}

fn try_one(attack: &Attack, lab: &Lab) -> Row {
    let start = std::time::Instant::now();
    let verdict = catch_unwind(AssertUnwindSafe(|| (attack.run)(lab))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Failure::NotTried(format!("the attack panicked: {}", text.unwrap_or_default())))
    });
    if std::env::var_os("RUNNER_ATTACKS_TIMES").is_some() {
        let ending = match &verdict {
            Ok(()) => "contained",
            Err(Failure::GotOut(_)) => "GOT OUT",
            Err(Failure::NotTried(_)) => "NOT TRIED",
        };
        eprintln!("{:>8.2} s  {} {} {ending}", start.elapsed().as_secs_f64(), lab.runtime, attack.name);
    }
    Row { row: attack.row, name: attack.name, summary: attack.summary, runtime: lab.runtime.clone(), verdict }
}
