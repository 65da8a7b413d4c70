//! From a fresh clone of a session's init to a step: its own view of `/proc`, its user, its limits, its program.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid, setsid};
use oci_spec::runtime::{Capability, LinuxCapabilities, Mount, PosixRlimit, PosixRlimitType, Process, Spec};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};

use super::{Open, terminal};
use crate::runtime::spec::{MASKED_PATHS, READ_ONLY_PATHS};
use crate::runtime::{self, Outcome, too_many_files};
use crate::sys;

/// What is a step's own, see namespaces(7): it sees no process but those that it starts, leaves no System V object
/// behind, and mounts nothing for anyone else.
pub const NAMESPACES: u64 = (libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWIPC) as u64;

/// The parts of a container's view that belong to one process table or IPC namespace: a step gets them anew.
pub fn own_view(spec: &Spec) -> (Vec<Mount>, Vec<String>, Vec<String>) {
    let fresh = spec.mounts().iter().flatten().filter(|mount| is_fresh(mount)).cloned().collect();
    let in_proc =
        |paths: &[&str]| paths.iter().filter(|path| path.starts_with("/proc/")).map(ToString::to_string).collect();
    (fresh, in_proc(&MASKED_PATHS), in_proc(&READ_ONLY_PATHS))
}

/// The cgroup mounts that nothing inside may change. libcontainer 0.7 does not make them so on cgroup v1, where each
/// controller is a mount of its own: a step could lift its own limits.
pub fn read_only_cgroups(spec: &Spec) -> Vec<PathBuf> {
    let read_only = |mount: &&Mount| mount.options().iter().flatten().any(|option| option == "ro");
    let cgroup = |mount: &&Mount| matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2"));
    let mounts = spec.mounts().iter().flatten().filter(cgroup).filter(read_only);
    mounts.map(|mount| mount.destination().clone()).collect()
}

fn is_fresh(mount: &Mount) -> bool {
    let default_shm = mount.destination() == Path::new("/dev/shm") && mount.typ().as_deref() == Some("tmpfs");
    matches!(mount.typ().as_deref(), Some("proc" | "mqueue")) || default_shm
}

/// What is known of a step's view before the container is there.
pub struct Blueprint {
    fresh: Vec<Mount>,
    masked: Vec<String>,
    read_only: Vec<String>,
    cgroups: Vec<PathBuf>,
}

/// What each step's view is made from: taken before the first step could change anything inside.
pub struct View {
    proc: OwnedFd,
    fresh: Vec<(FreshMount, String)>,
    masked_files: Vec<String>,
    masked_folders: Vec<String>,
    read_only: Vec<String>,
    /// The capabilities that this kernel knows: maybe fewer than the library.
    known: caps::CapsHashSet,
}

struct FreshMount {
    kind: String,
    attributes: MountAttrFlags,
    data: Vec<(String, String)>,
}

impl Blueprint {
    /// From the first message of runner.
    pub fn new(open: &Open) -> Self {
        Self {
            fresh: open.fresh.clone(),
            masked: open.masked.clone(),
            read_only: open.read_only.clone(),
            cgroups: open.cgroups.clone(),
        }
    }

    /// Looks, from inside, at which of the paths there are. The kernel's configuration decides, so all steps agree.
    ///
    /// Then makes the cgroups read-only, and takes away each /proc that shows init: a step that may unmount would find it
    /// below its own.
    ///
    /// # Errors
    /// Where the container has no /proc, or what the system calls say.
    pub fn prepare(&self) -> io::Result<View> {
        let kind =
            |path: &String| rustix::fs::lstat(path.as_str()).ok().map(|stat| FileType::from_raw_mode(stat.st_mode));
        let (masked_folders, masked_files): (Vec<_>, Vec<_>) = self
            .masked
            .iter()
            .filter(|path| kind(path).is_some())
            .cloned()
            .partition(|path| kind(path) == Some(FileType::Directory));
        let view = View {
            proc: rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?,
            fresh: self
                .fresh
                .iter()
                .map(|mount| (fresh_mount(mount), mount.destination().display().to_string()))
                .collect(),
            masked_files,
            masked_folders,
            read_only: self.read_only.iter().filter(|path| kind(path).is_some()).cloned().collect(),
            known: caps::runtime::thread_all_supported(),
        };
        for cgroup in &self.cgroups {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mount = rustix::fs::open(cgroup, flags, Mode::empty())?;
            sys::set_mount_attributes(mount.as_fd(), libc::MOUNT_ATTR_RDONLY, true)?;
        }
        for (_, target) in view.fresh.iter().filter(|(fresh, _)| fresh.kind == "proc") {
            unmount(target.as_str(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
        }
        Ok(view)
    }
}

fn fresh_mount(mount: &Mount) -> FreshMount {
    let mut attributes = MountAttrFlags::empty();
    let mut data = Vec::new();
    for option in mount.options().iter().flatten() {
        match option.as_str() {
            "nosuid" => attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID,
            "nodev" => attributes |= MountAttrFlags::MOUNT_ATTR_NODEV,
            "noexec" => attributes |= MountAttrFlags::MOUNT_ATTR_NOEXEC,
            "ro" => attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY,
            other => {
                if let Some((key, value)) = other.split_once('=') {
                    data.push((key.to_owned(), value.to_owned()));
                }
            }
        }
    }
    FreshMount { kind: mount.typ().clone().unwrap_or_default(), attributes, data }
}

impl View {
    /// The /proc of init itself, which is mounted nowhere any more.
    pub fn proc(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }
}

impl FreshMount {
    fn make(&self) -> rustix::io::Result<OwnedFd> {
        let context = fsopen(self.kind.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in &self.data {
            fsconfig_set_string(context.as_fd(), key.as_str(), value.as_str())?;
        }
        fsconfig_create(context.as_fd())?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, self.attributes)
    }
}

/// Mounts over `target`, which must be no link: what an earlier step put in the way must not be followed.
fn mount_over(mount: &OwnedFd, target: &str) -> io::Result<()> {
    let place = rustix::fs::open(target, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount.as_fd(), "", place.as_fd(), "", flags)?)
}

/// Mounts a step's own view over init's, in a mount namespace that only this process is in.
///
/// # Errors
/// What mount(2) says; where an earlier step has put something in the way.
pub fn mount_view(view: &View) -> io::Result<()> {
    let cloned = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    for (fresh, target) in &view.fresh {
        mount_over(&fresh.make()?, target)?;
    }
    for path in &view.read_only {
        let tree = open_tree(CWD, path.as_str(), cloned)?;
        let read_only =
            libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
        sys::set_mount_attributes(tree.as_fd(), read_only, true)?;
        mount_over(&tree, path)?;
    }
    if !view.masked_files.is_empty() {
        let null = null_device()?;
        for path in &view.masked_files {
            mount_over(&open_tree(null.as_fd(), "", cloned | OpenTreeFlags::AT_EMPTY_PATH)?, path)?;
        }
    }
    for path in &view.masked_folders {
        let empty =
            FreshMount { kind: "tmpfs".into(), attributes: MountAttrFlags::MOUNT_ATTR_RDONLY, data: Vec::new() };
        mount_over(&empty.make()?, path)?;
    }
    Ok(())
}

/// /dev/null, if it still is that: a mount can only be cloned in the namespace that it is in, so this cannot be kept
/// from before the first step, and an earlier step may have put something else there.
fn null_device() -> io::Result<OwnedFd> {
    let null = rustix::fs::open("/dev/null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&null)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == rustix::fs::makedev(1, 3) {
        Ok(null)
    } else {
        Err(io::Error::other("an earlier step has replaced /dev/null"))
    }
}

/// A standard stream, with the container's null device in place of the host's: by a descriptor of that a step could give
/// it another mode and owner.
fn own_null(stream: OwnedFd) -> io::Result<OwnedFd> {
    let stat = rustix::fs::fstat(&stream)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != rustix::fs::makedev(1, 3) {
        return Ok(stream);
    }
    let own = null_device()?;
    let path = format!("/proc/self/fd/{}", own.as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// Turns this process into the step's. Comes back only when that fails, with the reason.
pub fn become_step(view: &View, process: &Process, stdio: [OwnedFd; 3], status: &UnixStream) -> Outcome {
    match set_up(view, process, stdio, status) {
        Ok(()) => execute(process),
        Err((what, error)) => Outcome::NotStarted { why: format!("it cannot {what}: {error}"), code: 125 },
    }
}

type SetUp = Result<(), (String, io::Error)>;

/// Says what was being done when it failed.
fn doing<E: Into<io::Error>>(what: &str) -> impl FnOnce(E) -> (String, io::Error) + '_ {
    move |error| (what.to_owned(), error.into())
}

fn set_up(view: &View, process: &Process, stdio: [OwnedFd; 3], status: &UnixStream) -> SetUp {
    setsid().map_err(doing("start a session of processes"))?;
    let [stdin, stdout, stderr] = if process.terminal() == Some(true) {
        let all = || -> io::Result<_> {
            let terminal = terminal::open(process, status)?;
            Ok([terminal.try_clone()?, terminal.try_clone()?, terminal])
        };
        all().map_err(doing("make a terminal"))?
    } else {
        let [stdin, stdout, stderr] = stdio;
        let own = || -> io::Result<_> { Ok([own_null(stdin)?, own_null(stdout)?, own_null(stderr)?]) };
        own().map_err(doing("open /dev/null"))?
    };
    rustix::stdio::dup2_stdin(&stdin).map_err(doing("set standard input"))?;
    rustix::stdio::dup2_stdout(&stdout).map_err(doing("set standard output"))?;
    rustix::stdio::dup2_stderr(&stderr).map_err(doing("set standard error"))?;
    rustix::process::umask(Mode::from_raw_mode(process.user().umask().unwrap_or(0o022)));
    let cwd = process.cwd();
    std::env::set_current_dir(cwd).map_err(doing(&format!("go to the working folder {}", cwd.display())))?;
    for limit in process.rlimits().iter().flatten() {
        set_limit(limit).map_err(doing("set resource limits"))?;
    }
    set_user(process, &view.known)?;
    if process.no_new_privileges() == Some(true) {
        nix::sys::prctl::set_no_new_privs().map_err(doing("set no_new_privs"))?;
    }
    sys::default_signals().map_err(doing("reset signals"))?;
    sys::close_all_on_exec().map_err(doing("close descriptors"))?;
    Ok(())
}

fn set_limit(limit: &PosixRlimit) -> io::Result<()> {
    match limit.typ() {
        PosixRlimitType::RlimitNofile => match setrlimit(Resource::RLIMIT_NOFILE, limit.soft(), limit.hard()) {
            Err(nix::Error::EPERM) => {
                let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
                Err(io::Error::other(too_many_files(limit.hard(), most)))
            }
            other => Ok(other?),
        },
        other => Err(io::Error::other(format!("{other:?} is not a limit that a step has"))),
    }
}

fn set_user(process: &Process, known: &caps::CapsHashSet) -> SetUp {
    let as_io = |error: caps::errors::CapsError| io::Error::other(error.to_string());
    let user = process.user();
    let groups: Vec<Gid> = user.additional_gids().iter().flatten().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    let none = LinuxCapabilities::default();
    let wanted = process.capabilities().as_ref().unwrap_or(&none);
    let bounding = set_of(wanted.bounding().as_ref());
    for capability in known.difference(&bounding) {
        caps::drop(None, caps::CapSet::Bounding, *capability)
            .map_err(|error| ("drop a capability".to_owned(), as_io(error)))?;
    }
    caps::securebits::set_keepcaps(true).map_err(|error| ("keep capabilities".to_owned(), as_io(error)))?;
    setgroups(&groups).map_err(doing("set supplementary groups"))?;
    setresgid(gid, gid, gid).map_err(doing("set the group"))?;
    setresuid(uid, uid, uid).map_err(doing("set the user"))?;
    let sets = [
        (caps::CapSet::Effective, wanted.effective()),
        (caps::CapSet::Inheritable, wanted.inheritable()),
        (caps::CapSet::Permitted, wanted.permitted()),
    ];
    for (kind, set) in sets {
        caps::set(None, kind, &set_of(set.as_ref())).map_err(|error| ("set capabilities".to_owned(), as_io(error)))?;
    }
    // All at once, and not each that there could be: the set is empty but for a process that asks for more.
    let set_ambient = || {
        caps::clear(None, caps::CapSet::Ambient)?;
        set_of(wanted.ambient().as_ref()).into_iter().try_for_each(|one| caps::raise(None, caps::CapSet::Ambient, one))
    };
    set_ambient().map_err(|error| ("set ambient capabilities".to_owned(), as_io(error)))
}

fn set_of(capabilities: Option<&std::collections::HashSet<Capability>>) -> caps::CapsHashSet {
    capabilities.into_iter().flatten().filter_map(|capability| format!("CAP_{capability}").parse().ok()).collect()
}

/// Replaces this process by the step's program, sought in the step's own PATH as execvp(3) does.
fn execute(process: &Process) -> Outcome {
    let strings = |list: &Option<Vec<String>>| -> Result<Vec<CString>, std::ffi::NulError> {
        list.iter().flatten().map(|text| CString::new(text.as_bytes())).collect()
    };
    let (Ok(argv), Ok(env)) = (strings(process.args()), strings(process.env())) else {
        return Outcome::NotStarted { why: "an argument or a variable holds a NUL byte".into(), code: 126 };
    };
    let Some(command) = argv.first() else {
        return Outcome::NotStarted { why: "there is no command".into(), code: 127 };
    };
    let name = OsStr::from_bytes(command.as_bytes());
    let mut failure = nix::Error::ENOENT;
    for candidate in candidates(name, &env) {
        let Ok(candidate) = CString::new(candidate.as_bytes()) else { continue };
        let Err(error) = nix::unistd::execve(&candidate, &argv, &env);
        match error {
            nix::Error::ENOENT | nix::Error::ENOTDIR => {}
            nix::Error::EACCES => failure = error,
            other => return not_executed(name, other),
        }
    }
    not_executed(name, failure)
}

fn candidates(name: &OsStr, env: &[CString]) -> Vec<std::ffi::OsString> {
    if name.as_bytes().contains(&b'/') {
        return vec![name.to_owned()];
    }
    let path = env.iter().find_map(|variable| variable.as_bytes().strip_prefix(b"PATH=")).unwrap_or_default();
    path.split(|byte| *byte == b':')
        .map(|folder| if folder.is_empty() { &b"."[..] } else { folder })
        .map(|folder| Path::new(OsStr::from_bytes(folder)).join(name).into_os_string())
        .collect()
}

fn not_executed(name: &OsStr, error: nix::Error) -> Outcome {
    let name = name.to_string_lossy();
    match error {
        nix::Error::ENOENT => runtime::not_executed(&name, None),
        nix::Error::E2BIG => {
            let why = format!("{name}: its arguments are too long: the kernel takes 128 KiB each, see execve(2)");
            Outcome::NotStarted { why, code: 126 }
        }
        error => runtime::not_executed(&name, Some(error.desc())),
    }
}
