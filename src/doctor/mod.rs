//! Checks what builds need of this host, and names the fix for what is missing.
//!
//! The checks try the features themselves: they write and mount an image, stack an overlay, set a device rule. They do so in a
//! mount namespace of a thread's own and in a cgroup that is removed at once.

mod cgroup;
mod kernel;
mod landlock;
mod mksquashfs;
mod runtimes;
mod seccomp;
mod trial;
mod trusted;

use std::path::Path;

use rustix::fs::StatVfsMountFlags;

use crate::error::{Exit, error_chain};
use crate::kernel_files;
use crate::resource_limits::{self, NofileError};
use crate::session::missing_capabilities;
use crate::text_width::wrap;

/// With fewer bytes of free space a build is likely to fail.
const MIN_SPACE: u64 = 1 << 30;

/// The columns of a check's status, and of the space behind it.
const STATUS_COLUMNS: usize = 9;

/// A check that is listed only where it fails.
const KERNEL_FILES: &str = "kernel files";

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Everything needed exists.
    Ok,
    /// Some builds fail here, or the feature could not be tried.
    Warning,
    /// No build can run here.
    Missing,
}

/// One feature or resource of a host that builds need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The name of the feature.
    pub name: String,
    /// How it went.
    pub status: Status,
    /// The facts that the check found.
    pub detail: String,
    /// The command that fixes it, or another fix.
    pub fix: Option<String>,
}

impl Check {
    fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status: Status::Ok, detail: detail.into(), fix: None }
    }

    fn warning(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status: Status::Warning, detail: detail.into(), fix: Some(fix.into()) }
    }

    fn missing(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status: Status::Missing, detail: detail.into(), fix: Some(fix.into()) }
    }
}

/// Checks everything that builds need of this host, with that runtime, and with the store in that directory, which need not exist
/// yet.
pub fn checks(store: &Path, runtime: &str) -> Vec<Check> {
    // As a build does: a check must fail only where a build fails.
    let open_files = open_files(resource_limits::raise_nofile());
    let mut checks = of_host(store);
    let is_ready = checks[0].status == Status::Ok && !checks.iter().any(|check| check.name == KERNEL_FILES);
    if let Some(missing) = open_files {
        checks.push(missing);
    } else if is_ready {
        checks.extend(runtimes::checks(runtime));
    }
    checks
}

/// Returns all checks but those of the runtimes; the privilege first.
fn of_host(store: &Path) -> Vec<Check> {
    let privilege = privilege();
    let is_privileged = privilege.status == Status::Ok;
    let mut checks = vec![privilege, kernel::check()];
    if let Some(missing) = kernel_files() {
        // The other checks need these files, and would only fail in other words.
        checks.push(missing);
        return checks;
    }
    checks.push(seccomp::check());
    checks.push(landlock::check());
    checks.push(mksquashfs::check());
    if is_privileged {
        checks.extend(trial::checks());
        checks.extend(cgroup::checks());
    } else {
        let fix = "sudo runner doctor";
        checks.push(Check::warning("mounts", "not tried: that needs root", fix));
        checks.push(Check::warning("cgroups", "not tried: that needs root", fix));
    }
    checks.push(space(store));
    checks
}

/// With fewer columns for its detail, a check's detail begins on a line of its own.
const MIN_DETAIL_COLUMNS: usize = 30;

/// Returns the checks as lines for people, for so many columns on a terminal, and a line that says whether this host can build.
pub fn text(checks: &[Check], columns: Option<usize>) -> String {
    let names = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let columns = columns.unwrap_or(usize::MAX);
    let is_narrow = columns < STATUS_COLUMNS + names + 2 + MIN_DETAIL_COLUMNS;
    let indent = " ".repeat(if is_narrow { STATUS_COLUMNS } else { STATUS_COLUMNS + names + 2 });
    let mut text = String::new();
    for Check { name, status, detail, fix } in checks {
        let status = match status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Missing => "missing",
        };
        if is_narrow {
            text.push_str(&format!("{status:<STATUS_COLUMNS$}{name}\n"));
            text.push_str(&wrap(detail, &indent, &indent, columns));
        } else {
            text.push_str(&wrap(detail, &format!("{status:<STATUS_COLUMNS$}{name:<names$}  "), &indent, columns));
        }
        if let Some(fix) = fix {
            text.push_str(&wrap(&format!("fix: {fix}"), &indent, &indent, columns));
        }
    }
    let missing = checks.iter().filter(|check| check.status == Status::Missing).count();
    let summary = match missing {
        0 => "this host can build".to_owned(),
        1 => "this host cannot build: one thing is missing".to_owned(),
        _ => format!("this host cannot build: {missing} things are missing"),
    };
    text + &wrap(&summary, "", "", columns)
}

/// Returns the program's exit code after these checks.
pub fn exit(checks: &[Check]) -> Exit {
    if checks.iter().any(|check| check.status == Status::Missing) { Exit::Host } else { Exit::Done }
}

fn privilege() -> Check {
    let name = "privilege";
    if !rustix::process::geteuid().is_root() {
        return Check::missing(name, "not root", "run it with sudo, or in a container with --privileged");
    }
    match caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_ADMIN) {
        Ok(true) => match missing_capabilities() {
            Ok(missing) if missing.is_empty() => Check::ok(name, "root with CAP_SYS_ADMIN"),
            Ok(missing) => {
                let names: Vec<String> = missing.into_iter().collect();
                Check::missing(name, format!("root without {}", names.join(", ")), "in Docker: docker run --privileged")
            }
            Err(error) => Check::missing(name, error.to_string(), "mount -t proc proc /proc"),
        },
        Ok(false) => Check::missing(name, "root without CAP_SYS_ADMIN", "in Docker: docker run --privileged"),
        Err(error) => {
            Check::missing(name, format!("cannot read the capabilities: {error}"), "mount -t proc proc /proc")
        }
    }
}

/// Returns the check that fails for too few open files.
fn open_files(raised: Result<(), NofileError>) -> Option<Check> {
    let error = raised.err()?;
    Some(Check::missing("open files", error_chain(&error), error.hint()))
}

/// Returns the check that fails for a file of the kernel that is missing.
fn kernel_files() -> Option<Check> {
    let error = kernel_files::check_proc().and_then(|()| kernel_files::check_null()).err()?;
    Some(Check::missing(KERNEL_FILES, error.to_string(), error.hint().unwrap_or_default()))
}

fn space(store: &Path) -> Check {
    let name = "store";
    let Some(ancestor) = store.ancestors().find(|path| path.exists()) else {
        return Check::missing(
            name,
            format!("{} cannot be reached", store.display()),
            "choose another with --store DIRECTORY",
        );
    };
    match rustix::fs::statvfs(ancestor) {
        Ok(found) if found.f_flag.contains(StatVfsMountFlags::RDONLY) => Check::missing(
            name,
            format!("{} is on a read-only filesystem", store.display()),
            "choose another with --store DIRECTORY",
        ),
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let detail = format!("{}: {:.1} GiB free", store.display(), free as f64 / (1_u64 << 30) as f64);
            if free < MIN_SPACE {
                Check::warning(name, detail, "make room there, or choose another with --store DIRECTORY")
            } else {
                Check::ok(name, detail)
            }
        }
        Err(error) => {
            Check::missing(name, format!("{}: {error}", ancestor.display()), "choose another with --store DIRECTORY")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::cgroup::LimitSupport;

    #[test]
    fn checks_are_lines_with_their_fixes() {
        let checks = [Check::ok("kernel", "6.1"), Check::missing("mksquashfs", "not in PATH", "apt-get install it")];
        assert_eq!(
            text(&checks, None),
            "ok       kernel      6.1\n\
             missing  mksquashfs  not in PATH\n                     fix: apt-get install it\n\
             this host cannot build: one thing is missing\n"
        );
        assert_eq!(exit(&checks), Exit::Host);
    }

    #[test]
    fn each_missing_feature_has_a_message_with_its_fix() {
        let full = |name| Check { name: format!("store on {name}"), ..space(Path::new(name)) };
        let checks = [
            kernel::of("5.4.0-150-generic"),
            kernel::of("6.1.0-25-amd64"),
            kernel::of("unknown"),
            seccomp::of(Err(io::Error::from_raw_os_error(libc::ENOSYS))),
            seccomp::of(Err(io::Error::from_raw_os_error(libc::EPERM))),
            landlock::of(Ok(1)),
            landlock::of(Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))),
            mksquashfs::of("4.4"),
            mksquashfs::of("snapshot"),
            runtimes::external("nope", true),
            runtimes::external("nope", false),
            runtimes::external("/nowhere/crun", true),
            runtimes::external("/etc/passwd", true),
            cgroup::limits(|controller| if controller == "cpu" { LimitSupport::Holds } else { LimitSupport::Nowhere }),
            cgroup::limits(
                |controller| if controller == "cpu" { LimitSupport::Lacks("/g".into()) } else { LimitSupport::Holds },
            ),
            open_files(Err(NofileError::TooFew { most: 100 })).unwrap(),
            open_files(Err(NofileError::Raise(io::Error::from_raw_os_error(libc::EPERM)))).unwrap(),
            full("/proc/store"),
            full("/sys/store"),
        ];
        crate::messages::compare("doctor", [text(&checks, None)]);
    }

    #[test]
    fn in_few_columns_the_detail_of_a_check_is_below_its_name() {
        let checks =
            [Check::ok("kernel", "6.1"), Check::missing("device rules", "none can be set", "boot another kernel")];
        assert_eq!(
            text(&checks, Some(30)),
            "ok       kernel\n         6.1\nmissing  device rules\n         none can be set\n         fix: boot another\n         \
             kernel\nthis host cannot build: one\nthing is missing\n"
        );
        assert_eq!(text(&checks, Some(53)).lines().nth(1), Some("missing  device rules  none can be set"));
    }

    #[test]
    fn warnings_do_not_stop_builds() {
        let checks = [Check::warning("store", "0.5 GiB free", "make room")];
        assert!(text(&checks, None).ends_with("this host can build\n"));
        assert_eq!(exit(&checks), Exit::Done);
    }

    #[test]
    fn a_store_that_does_not_exist_yet_is_checked_by_its_parents_space() {
        let directory = tempfile::tempdir().unwrap();
        let check = space(&directory.path().join("a/b"));
        assert_ne!(check.status, Status::Missing, "{check:?}");
        assert_eq!(space(Path::new("/proc/none")).status, Status::Warning);
    }

    #[test]
    fn the_host_of_the_tests_can_build() {
        let directory = tempfile::tempdir().unwrap();
        let checks = of_host(&directory.path().join("store"));
        assert_eq!(exit(&checks), Exit::Done, "{}", text(&checks, None));
        assert!(std::fs::read_dir(directory.path()).unwrap().next().is_none());
    }
}
