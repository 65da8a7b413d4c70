//! Sets up the container in its first process, from the clone to init: namespaces, mounts, the new root, the program.
//!
//! No hostile process runs yet, but the root's content is hostile: every mount point in it is a descriptor that was resolved
//! inside the root, and never a path.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sched::CloneFlags;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, OpenTreeFlags, UnmountFlags, open_tree};

use super::{cgroup_mounts, step_setup};
use crate::error::context;
use crate::fs::in_root::{self, open_beneath};
use crate::runtime::attach::{self, AttachedMounts};
use crate::sys::{self, MountChange};

/// The score of init: when memory runs out, the kernel kills a step before it, and the session reports that.
const OOM_SCORE: &str = "-999";

/// The descriptors that init begins with; see `src/init/main.rs`.
pub struct InitDescriptors {
    /// The socket of requests.
    pub requests: OwnedFd,
    /// The description of every step's own mounts.
    pub setup: OwnedFd,
    /// Init's program.
    pub program: OwnedFd,
}

/// Builds the container, in whose cgroups this process is, and becomes its init. Returns only when that fails.
///
/// # Errors
/// Names the action that failed.
pub fn become_init(spec: &Spec, descriptors: InitDescriptors) -> io::Result<Infallible> {
    // A signal ends the first process of a PID namespace only when it comes from outside of the namespace, as this one does.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    nix::unistd::setsid().map_err(context("start a session of processes"))?;
    rustix::process::umask(Mode::empty());
    if let Some(hostname) = spec.hostname() {
        nix::unistd::sethostname(hostname).map_err(context("set the hostname"))?;
    }
    // Without CAP_SYS_RESOURCE the score is unchanged, and the kernel is as likely to kill init as a step.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(context("make the mount namespace private"))?;
    let root = spec.root().as_ref().ok_or_else(|| io::Error::other("config.json has no root"))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root_fd = openat(CWD, root.path(), flags, Mode::empty()).map_err(context("open the root"))?;
    if has_namespace(spec, LinuxNamespaceType::Cgroup) {
        // The groups that this process is in become the root of the cgroups that it sees.
        nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP).map_err(context("make a cgroup namespace"))?;
    }
    let mut attached = AttachedMounts::default();
    for mount in spec.mounts().iter().flatten() {
        if step_setup::is_fresh(mount) {
            // Only its mount point: each step mounts its own, and makes the mount points inside that.
            if !step_setup::is_in_fresh(spec, mount) {
                attached.mount_point(root_fd.as_fd(), mount.destination(), true)?;
            }
            if step_setup::contains_mounts(spec, mount) {
                attached.attach(root_fd.as_fd(), mount)?;
            }
        } else if matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2")) {
            cgroup_mounts::attach(&mut attached, root_fd.as_fd(), mount)?;
        } else {
            attached.attach(root_fd.as_fd(), mount)?;
        }
    }
    protect(root_fd.as_fd(), &attached, spec)?;
    drop(attached);
    if root.readonly() == Some(true) {
        let read_only = MountChange { set: libc::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0 };
        sys::change_mount(root_fd.as_fd(), read_only, false).map_err(context("make the root read-only"))?;
    }
    // A new proc(5), because that belongs to this PID namespace; and one with processes alone.
    let proc =
        attach::filesystem("proc", None, &[("subset".into(), Some("pid".into()))]).map_err(context("mount a /proc"))?;
    enter_root(root_fd)?;
    execute(descriptors, proc)
}

/// Returns whether config.json requests a namespace of this kind.
pub fn has_namespace(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    namespaces.into_iter().flatten().any(|namespace| namespace.typ() == kind)
}

/// Hides the masked paths outside of `/proc`, and makes the read-only paths there read-only.
fn protect(root: BorrowedFd<'_>, attached: &AttachedMounts, spec: &Spec) -> io::Result<()> {
    let linux = spec.linux().as_ref();
    let masked = linux.and_then(|linux| linux.masked_paths().as_ref()).into_iter().flatten();
    let read_only = linux.and_then(|linux| linux.readonly_paths().as_ref()).into_iter().flatten();
    for path in read_only.filter(|path| !step_setup::in_proc(spec, path)) {
        let Some(place) = open_existing(root, attached, path)? else { continue };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
        let mount = open_tree(&place, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?;
        sys::change_mount(mount.as_fd(), MountChange { set: libc::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0 }, true)?;
        attach::put(mount.as_fd(), place.as_fd()).map_err(context(format_args!("make {path} read-only")))?;
    }
    for path in masked.filter(|path| !step_setup::in_proc(spec, path)) {
        let Some(place) = open_existing(root, attached, path)? else { continue };
        let mount = if FileType::from_raw_mode(fstat(&place)?.st_mode) == FileType::Directory {
            let empty = attach::filesystem("tmpfs", Some(Path::new("tmpfs")), &[])?;
            let hidden = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
            let change = MountChange { set: hidden | libc::MOUNT_ATTR_NOEXEC, clear: 0, propagation: 0 };
            sys::change_mount(empty.as_fd(), change, false)?;
            empty
        } else {
            let null = in_root::open(root, Path::new("/dev/null"), OFlags::PATH | OFlags::NOFOLLOW)?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            open_tree(&null, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?
        };
        attach::put(mount.as_fd(), place.as_fd()).map_err(context(format_args!("hide {path}")))?;
    }
    Ok(())
}

/// Opens a path, if this kernel has it, from the mount in which it lies, and not through the directories above that mount.
fn open_existing(root: BorrowedFd<'_>, attached: &AttachedMounts, path: &str) -> io::Result<Option<OwnedFd>> {
    let path = Path::new(path);
    let opened = match attached.enclosing(path) {
        Some((at, enclosing)) => open_beneath(enclosing, path.strip_prefix(at).unwrap_or(path), OFlags::PATH),
        None => in_root::open(root, path, OFlags::PATH | OFlags::NOFOLLOW),
    };
    match opened {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(context(format_args!("open {}", path.display()))(error)),
    }
}

/// Makes `root` the root directory, and unmounts the host's root, see pivot_root(2).
fn enter_root(root: OwnedFd) -> io::Result<()> {
    rustix::process::fchdir(&root).map_err(context("go to the root"))?;
    drop(root);
    rustix::process::pivot_root(".", ".").map_err(context("change the root"))?;
    // Both roots are at the same path now, the old one on top.
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(context("unmount the host's root"))?;
    rustix::process::chdir("/").map_err(context("go to the new root"))
}

/// Executes init with its three descriptors, and no other of this process.
fn execute(descriptors: InitDescriptors, proc: OwnedFd) -> io::Result<Infallible> {
    let InitDescriptors { requests, setup, program } = descriptors;
    rustix::stdio::dup2_stdin(&requests)?;
    rustix::stdio::dup2_stdout(&proc)?;
    rustix::stdio::dup2_stderr(&setup)?;
    sys::default_signals()?;
    sys::close_all_on_exec()?;
    let none: [&std::ffi::CStr; 0] = [];
    nix::unistd::fexecve(program, &[c"runner-init"], &none).map_err(context("start init"))
}
