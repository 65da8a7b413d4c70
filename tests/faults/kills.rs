//! Builds that end from outside at random moments: by signals, closed pipes and terminals, killed children, frozen
//! groups.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::built::descendants;
use crate::judge::{self, Finding, Kind};
use crate::numbers::Numbers;
use crate::project::{Project, Run};
use crate::pty::Terminal;
use crate::sample::Sample;
use crate::tally::Tally;

/// The number of tries of each way.
const TRIES: u32 = 8;

/// The time after which a build counts as one that does not end.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The way in which a build ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Signal(Signal),
    /// The readers of its output close their pipes.
    ClosedPipe,
    /// Its terminal closes.
    ClosedTerminal,
    /// One of the processes below it is killed, at random.
    KilledChild,
}

const ENDINGS: [Ending; 8] = [
    Ending::Signal(Signal::SIGKILL),
    Ending::Signal(Signal::SIGTERM),
    Ending::Signal(Signal::SIGINT),
    Ending::Signal(Signal::SIGHUP),
    Ending::Signal(Signal::SIGQUIT),
    Ending::ClosedPipe,
    Ending::ClosedTerminal,
    Ending::KilledChild,
];

pub fn all(tally: &Tally) {
    let mut random = Numbers(seed());
    println!("moments by the seed {}; RUNNER_TEST_SEED={0} tries them again", random.0);
    let sample = Sample::new();
    let begun = Instant::now();
    sample.project.apply();
    let mut whole = begun.elapsed();
    for turn in 0..TRIES {
        for ending in ENDINGS {
            for directory in ["store", "out"] {
                let _ = fs::remove_dir_all(sample.project.path(directory));
            }
            let moment = whole.mul_f64(fraction(&mut random));
            let ended = end(&sample.project, ending, moment, &mut random);
            let Some((run, early)) = ended else {
                tally.add(
                    "kill",
                    &format!("{ending:?} after {moment:?}"),
                    vec![Finding::new(Kind::Unexplained, "it would not end")],
                    String::new,
                );
                continue;
            };
            // Most moments must be before the end of the build, however fast the machine is.
            whole = whole.mul_f64(if early { 1.05 } else { 0.85 });
            let mut found = judge::ending(&run, &[], codes(ending));
            found.extend(judge::whole(&sample.project, &sample.right, run.code == 0));
            if matches!(ending, Ending::Signal(_)) && run.code == 130 {
                // A build that ends in order leaves nothing for the next start.
                found.extend(
                    judge::leftovers(&sample.project, &[run.pid])
                        .into_iter()
                        .map(|left| Finding::new(Kind::LeftBehind, left)),
                );
            }
            found.extend(judge::next_build(&sample.project, &sample.right, &[run.pid]));
            tally.add("kill", &format!("{ending:?} after {moment:?}, turn {turn}"), found, || run.to_string());
        }
    }
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        frozen(tally, signal);
    }
}

/// Returns the exit codes that are right. A build may end before the signal, and one that just starts has no handler
/// yet.
fn codes(ending: Ending) -> &'static [i32] {
    match ending {
        Ending::Signal(Signal::SIGKILL) => &[0, 137],
        Ending::Signal(Signal::SIGTERM) => &[0, 130, 143],
        Ending::Signal(Signal::SIGINT) => &[0, 130],
        Ending::Signal(Signal::SIGQUIT) => &[0, 130, 131],
        Ending::Signal(Signal::SIGHUP) | Ending::ClosedTerminal => &[0, 3, 129, 130],
        Ending::Signal(_) => &[],
        Ending::ClosedPipe => &[0, 3, 130, 141],
        Ending::KilledChild => &[0, 1, 3],
    }
}

/// Builds, and ends the build at that moment; returns whether it ran until then. None where it does not end.
fn end(project: &Project, ending: Ending, moment: Duration, random: &mut Numbers) -> Option<(Run, bool)> {
    if ending == Ending::ClosedTerminal {
        let mut terminal = Terminal::new(project, &["apply"]);
        // setsid(1) itself fails on a closed terminal, and before it the process has the name of this one.
        let name = format!("/proc/{}/comm", terminal.process.id());
        while fs::read_to_string(&name).is_ok_and(|name| name != "runner\n") {
            assert!(terminal.process.try_wait().unwrap().is_none(), "setsid(1) has failed");
            thread::sleep(Duration::from_micros(100));
        }
        thread::sleep(moment);
        let early = terminal.process.try_wait().unwrap().is_none();
        terminal.screen = fs::File::open("/dev/null").unwrap().into();
        let code = wait(&mut terminal.process)?;
        let pid = terminal.process.id();
        return Some((Run { code, stdout: String::new(), stderr: String::new(), pid }, early));
    }
    let mut build = project.spawn(&["apply"]);
    thread::sleep(moment);
    let early = build.try_wait().unwrap().is_none();
    let pid = Pid::from_raw(build.id().cast_signed());
    match ending {
        Ending::Signal(signal) if early => kill(pid, signal).unwrap(),
        Ending::ClosedPipe => drop((build.stdout.take(), build.stderr.take())),
        Ending::KilledChild => {
            let below = descendants(build.id());
            if !below.is_empty() {
                // It may have ended by now.
                let _ = kill(Pid::from_raw(random.of(&below).cast_signed()), Signal::SIGKILL);
            }
        }
        Ending::Signal(_) | Ending::ClosedTerminal => {}
    }
    let code = wait(&mut build)?;
    let text = |stream: Option<&mut dyn Read>| {
        let mut text = String::new();
        if let Some(stream) = stream {
            stream.read_to_string(&mut text).unwrap();
        }
        text
    };
    let stdout = text(build.stdout.as_mut().map(|stream| stream as &mut dyn Read));
    let stderr = text(build.stderr.as_mut().map(|stream| stream as &mut dyn Read));
    Some((Run { code, stdout, stderr, pid: build.id() }, early))
}

/// Waits for its end; returns the code that a shell shows.
fn wait(child: &mut Child) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    let deadline = Instant::now() + TIMEOUT;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        }
        thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// Ends a build whose container is frozen, so that no signal reaches the processes in it.
fn frozen(tally: &Tally, signal: Signal) {
    let sample = Sample::with_gate();
    let mut build = sample.project.command(&["apply"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    sample.await_gate();
    let pid = build.id();
    let groups = groups_of(pid);
    let froze = groups.iter().filter(|group| freeze(group)).count();
    let mut found = Vec::new();
    if froze == 0 {
        found.push(Finding::new(Kind::Unexplained, "its container has no group that can be frozen"));
    }
    kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    let code = wait(&mut build);
    let run = code.map(|code| Run { code, stdout: String::new(), stderr: String::new(), pid });
    match &run {
        None => found.push(Finding::new(Kind::Unexplained, "it would not end")),
        Some(run) => found.extend(judge::ending(run, &[], if signal == Signal::SIGKILL { &[137] } else { &[130] })),
    }
    if run.is_none() {
        // A test that fails must leave nothing behind either.
        for group in &groups {
            let _ = fs::write(group.join("freezer.state"), "THAWED");
            let _ = fs::write(group.join("cgroup.freeze"), "0");
        }
    }
    sample.open_gate();
    found.extend(judge::next_build(&sample.project, &sample.right, &[pid]));
    tally.add("kill", &format!("{signal} while the container is frozen"), found, String::new);
}

/// Returns the cgroups of a runner's container, wherever this host has the freezer.
fn groups_of(pid: u32) -> Vec<PathBuf> {
    let below = descendants(pid);
    let mut groups: Vec<PathBuf> = below.iter().flat_map(|pid| memberships(*pid)).collect();
    groups.sort();
    groups.dedup();
    let of_caller = memberships(std::process::id());
    groups.retain(|group| !of_caller.contains(group));
    groups
}

fn memberships(pid: u32) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let group = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let unified = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(PathBuf::from);
        let root = match controllers {
            "" => unified.into_iter().find(|root| root.join("cgroup.procs").exists())?,
            "freezer" => PathBuf::from("/sys/fs/cgroup/freezer"),
            _ => return None,
        };
        Some(root.join(path))
    };
    text.lines().filter_map(group).collect()
}

fn freeze(group: &std::path::Path) -> bool {
    fs::write(group.join("freezer.state"), "FROZEN").is_ok() || fs::write(group.join("cgroup.freeze"), "1").is_ok()
}

/// Returns the seed of the moments: the caller's, or an unpredictable one.
fn seed() -> u64 {
    let seed = std::env::var("RUNNER_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    seed.unwrap_or_else(|| RandomState::new().build_hasher().finish())
}

/// Returns a number from 0 to 1.
fn fraction(numbers: &mut Numbers) -> f64 {
    f64::from(u32::try_from(numbers.next() >> 32).unwrap()) / f64::from(u32::MAX)
}
