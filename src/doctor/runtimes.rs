//! Runtimes: finds them, and checks whether each runs a container here and denies it the host's devices.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

use super::trusted::distrust;
use super::{Check, cgroup};
use crate::error::error_chain;
use crate::fs::opened::OpenedPaths;
use crate::model::{Capability, Checkpointing, Container, Limits, Network, Principal, Rootfs, Scratch, Seccomp, User};
use crate::mount::enter_private_namespace;
use crate::named_paths::NamedPaths;
use crate::rootfs;
use crate::runtime::external::{FindError, Program};
use crate::runtime::process::{self, Command, Credentials};
use crate::runtime::{Outcome, Runtime, Stdio, cgroups};
use crate::session::{LowerLayer, MountSources, Session, Workspace};
use crate::settings::EMBEDDED;

/// The runtimes that are checked with any settings.
const KNOWN: [&str; 2] = ["runc", "crun"];

/// The script of the trial: makes the node of /dev/loop-control, which is not allowed, and fails if it can open the node.
const SCRIPT: &str = r#"mknod /node c 10 237 || exit 100
case "$( (: < /node) 2>&1 )" in *"not permitted"*) exit 0 ;; *) exit 101 ;; esac"#;
const PROGRAMS: [&str; 2] = ["/bin/sh", "/bin/mknod"];

const TIMEOUT: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// Checks the built-in runtime, the known ones, and the one that the settings name.
pub(super) fn checks(chosen: &str) -> Vec<Check> {
    let mut checks = vec![embedded()];
    checks.extend(KNOWN.iter().map(|name| external(name, *name == chosen)));
    if chosen != EMBEDDED && !KNOWN.contains(&chosen) {
        checks.push(external(chosen, true));
    }
    checks
}

fn embedded() -> Check {
    match on_a_thread(Runtime::Embedded, "/tmp") {
        Ok(()) => Check::ok(EMBEDDED, "runs a container, which cannot open other devices"),
        Err(error) => Check::missing(EMBEDDED, error, "see the checks above; in Docker: docker run --privileged"),
    }
}

pub(super) fn external(name: &str, is_chosen: bool) -> Check {
    let program = match Program::find(name, &std::env::var_os("PATH").unwrap_or_default()) {
        Ok(program) => program,
        Err(FindError::NotInPath { .. }) if !is_chosen => {
            return Check::ok(name, format!("not in PATH; only `--runtime {name}` needs it"));
        }
        Err(error) => {
            let fix = error.hint();
            return failed(is_chosen, name, error_chain(&error), &fix);
        }
    };
    // The settings name a program by a flag or a variable alone, so the caller chose it.
    if !is_chosen && let Some(reason) = distrust(program.path()) {
        let detail = format!("{} is not tried: {reason}", program.path().display());
        return Check::warning(
            name,
            detail,
            format!("take that directory out of PATH, or ask with RUNNER_RUNTIME={name}"),
        );
    }
    let version = match program.version() {
        Ok(version) => version,
        Err(error) => {
            let fix = error.hint();
            return failed(is_chosen, name, error_chain(&error), &fix);
        }
    };
    let found = format!("{version}, {}", program.path().display());
    // The trial hides the files of its directory.
    let work_dir = if program.path().starts_with("/tmp") { "/mnt" } else { "/tmp" };
    match on_a_thread(Runtime::External(program), work_dir) {
        Ok(()) if has_cves_of_2025(&version) => Check::warning(
            name,
            format!(
                "{found}: before 1.2.8 and 1.3.3, links in an image can lead its mounts out of it (CVE-2025-31133)"
            ),
            "see that the package has that fixed, or use another runtime",
        ),
        Ok(()) => Check::ok(name, format!("{found}: runs a container, which cannot open other devices")),
        Err(error) if error.contains("cgroup") => {
            let layout = cgroup::layout_name();
            let detail = format!("{found}: this host's cgroup layout ({layout}) stops it: {error}");
            failed(is_chosen, name, detail, "boot with systemd.unified_cgroup_hierarchy=1; or use another runtime")
        }
        Err(error) => failed(is_chosen, name, format!("{found}: {error}"), "use another runtime"),
    }
}

/// Returns whether it is a runc before 1.2.8 and 1.3.3, which fixed CVE-2025-31133, CVE-2025-52565 and CVE-2025-52881.
fn has_cves_of_2025(version: &str) -> bool {
    let Some(numbers) = version.strip_prefix("runc version ") else { return false };
    let mut numbers = numbers.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0_u32);
    match (next(), next(), next()) {
        (0, ..) | (1, 0 | 1, _) => true,
        (1, 2, patch) => patch < 8,
        (1, 3, patch) => patch < 3,
        _ => false,
    }
}

/// Returns the check of a runtime that fails. Builds continue without one that was not chosen.
fn failed(is_chosen: bool, name: &str, detail: String, fix: &str) -> Check {
    if is_chosen { Check::missing(name, detail, fix) } else { Check::warning(name, detail, fix) }
}

/// Tries a runtime on a thread of its own, whose mount namespace ends with it.
fn on_a_thread(runtime: Runtime, work_dir: &'static str) -> Result<(), String> {
    let trial = move || try_out(runtime, Path::new(work_dir)).map_err(|error| error_chain(&*error));
    let trial = thread::Builder::new().name("doctor".into()).spawn(trial);
    let trial = trial.map_err(|error| format!("cannot start a thread to try it on: {error}"))?;
    trial.join().unwrap_or_else(|_| Err("the trial panicked".into()))
}

fn try_out(runtime: Runtime, work_dir: &Path) -> Result<(), Box<dyn Error>> {
    enter_private_namespace()?;
    let lease = format!("doctor-{}", std::process::id());
    let workspace = Workspace::open(work_dir, &work_dir.join("disk"), &lease, runtime)?;
    let container = container();
    let outcome = run(&workspace, &container);
    let closed = workspace.close();
    cgroups::remove_own(&lease);
    match outcome? {
        Outcome::Exited { code: 0 } => Ok(closed?),
        Outcome::Exited { code: 100 } => Err("no device node can be made in a container".into()),
        Outcome::Exited { code: 101 } => Err("a device that is not listed can be opened in a container".into()),
        Outcome::NotStarted { why, .. } => Err(why.into()),
        outcome => Err(format!("a container ended with {}", outcome.exit_code()).into()),
    }
}

fn run(workspace: &Workspace, container: &Container) -> Result<Outcome, Box<dyn Error>> {
    let scratch = Arc::new(workspace.scratch(container.scratch)?);
    let directory = scratch.directory("rootfs")?;
    let to = rustix::fs::open(&directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rootfs::assemble(&PROGRAMS.map(PathBuf::from), &OpenedPaths::default(), to.as_fd())?;
    drop(to);
    let lower = LowerLayer::root(directory, Arc::clone(&scratch));
    let (paths, sources) = (NamedPaths::default(), MountSources::none());
    let mut session = Session::prepare(workspace, container, vec![lower], scratch, None, &paths, sources)?;
    session.start()?;
    let command = Command {
        argv: ["/bin/sh", "-c", SCRIPT].map(String::from).to_vec(),
        env: &BTreeMap::new(),
        cwd: &container.cwd,
        user: &Credentials::root(),
        source_date_epoch: None,
    };
    let null = || io::Result::Ok(File::options().read(true).write(true).open("/dev/null")?.into());
    let stdio = Stdio { stdin: null()?, stdout: null()?, stderr: null()? };
    let running = session.run(process::process(container, command)?, &stdio)?;
    let mut polled = [PollFd::from_borrowed_fd(running.descriptor(), PollFlags::IN)];
    let is_late = poll(&mut polled, Some(&TIMEOUT)) == Ok(0);
    if is_late {
        running.kill();
    }
    let outcome = running.ended()?.outcome;
    session.close()?;
    if is_late { Err("it does not end".into()) } else { Ok(outcome) }
}

/// Returns the smallest container, which may make nodes.
fn container() -> Container {
    Container {
        variant_of: None,
        name: "doctor".into(),
        rootfs: Rootfs::Scratch,
        hostname: "doctor".into(),
        read_only: false,
        network: Network::None,
        user: User { user: Principal::Id(0), group: None },
        cwd: "/".into(),
        env: BTreeMap::new(),
        capabilities: vec![Capability::Mknod],
        no_new_privileges: true,
        seccomp: Seccomp::Default,
        mounts: Vec::new(),
        devices: Vec::new(),
        limits: Limits { nofile: None, memory: None, millicpus: None, pids: None },
        scratch: Scratch::Tmpfs(64 << 20),
        unmask: Default::default(),
        shell: None,
        has_scripts: false,
        init: false,
        xino: true,
        checkpoint: Checkpointing::Off,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runc_with_known_vulnerabilities_is_recognised_by_its_version() {
        for version in ["1.1.5+ds1", "1.2.7", "1.3.2", "1.3.0-rc.1", "0.9", "1.2"] {
            assert!(has_cves_of_2025(&format!("runc version {version}")), "{version}");
        }
        for version in ["1.2.8", "1.3.3", "1.3.10+ds1", "1.4.0", "2.0.0"] {
            assert!(!has_cves_of_2025(&format!("runc version {version}")), "{version}");
        }
        assert!(!has_cves_of_2025("crun version 1.8.1"));
    }
}
