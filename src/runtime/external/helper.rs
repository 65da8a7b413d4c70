//! `runner __external`: makes the PID namespace in which a session's steps run, and clears up after it.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::groups::{self, Groups, SessionGroups};
use super::shared::Shared;
use super::{Open, serve};
use crate::error::error_chain;
use crate::mount::MountTable;
use crate::runtime::container::last_words;
use crate::runtime::protocol::{Opened, receive, send};
use crate::runtime::{Outcome, reap};
use crate::sys::{self, Fork};

const NAMESPACES: u64 = (libc::CLONE_NEWPID | libc::CLONE_NEWNS) as u64;

/// How often processes that will not end are thawed.
const THAW_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Serves one session; the socket to runner is standard input.
pub fn main() -> ExitCode {
    last_words(watch())
}

/// Starts the helper proper and waits for its end; true when it ended well and nothing is left.
fn watch() -> io::Result<bool> {
    let socket = UnixStream::from(sys::take_stdin()?);
    // What runner hands down, the lock of its lease, is for its helpers and for nothing that a runtime starts.
    sys::close_all_on_exec()?;
    // On v1 a real-time process cannot be moved into a new group.
    sys::leave_real_time()?;
    // It would reach the steps, and is in no key.
    sys::ordinary_personality()?;
    let Some((open, _)) = receive::<Open>(&socket)? else { return Ok(true) };
    let groups = match groups::make(&open.id, &open.spec) {
        Ok(groups) => groups,
        Err(why) => {
            send(&socket, &Opened::Failed(why), &[])?;
            return Ok(false);
        }
    };
    let ended = serve_in(&groups, &open, socket);
    // By now the kernel has ended all that was in the namespace.
    Ok(groups.groups.remove() && ended?)
}

/// Runs the helper proper in those groups to its end; true when it ended well.
fn serve_in(session: &SessionGroups, open: &Open, socket: UnixStream) -> io::Result<bool> {
    // Closed as soon as the helper begins to end; it has not ended before all that it leaves behind has.
    let (begins_to_end, of_helper) = io::pipe()?;
    let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    match sys::fork_into(NAMESPACES, None, proc.as_fd())? {
        Fork::Child => {
            drop(begins_to_end);
            let served = match prepare(open, session) {
                Ok((groups, shared)) => serve::serve(open, &groups, &shared, &socket).inspect_err(|error| {
                    // Runner may be gone, and then nobody wants to know.
                    let _ = writeln!(io::stderr(), "{}", error_chain(error));
                }),
                Err(error) => send(&socket, &Opened::Failed(error_chain(&error)), &[]).and(Err(error)),
            };
            sys::exit_now(i32::from(served.is_err()));
        }
        Fork::Parent(helper) => {
            // It belongs to the helper, and is to close with it.
            drop(socket);
            drop(of_helper);
            let mut polled = [PollFd::new(&begins_to_end, PollFlags::IN)];
            while poll(&mut polled, None) == Err(rustix::io::Errno::INTR) {}
            // What is frozen does not end with its namespace, and may have been frozen at the last moment.
            let mut polled = [PollFd::new(&helper, PollFlags::IN)];
            while poll(&mut polled, Some(&THAW_AGAIN)) != Ok(1) {
                session.groups.kill();
            }
            match reap(helper.as_fd())? {
                Outcome::Signaled { signal } => {
                    Err(io::Error::other(format!("signal {signal} ended the process that calls the runtime")))
                }
                ended => Ok(ended == Outcome::Exited { code: 0 }),
            }
        }
    }
}

/// From a fresh clone to what a runtime can be called from.
fn prepare<'a>(open: &Open, session: &'a SessionGroups) -> io::Result<(Groups<'a>, Shared)> {
    // Who is first in its PID namespace ends by SIGKILL only when that comes from outside of it, as this one does.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    detach_others(open)?;
    let shared = Shared::place(open)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None)?;
    let groups = Groups::enter(session, &open.spec).map_err(io::Error::other)?;
    if open.makes_nodes {
        groups.enforced().map_err(io::Error::other)?;
    }
    Ok((groups, shared))
}

/// Takes away the mounts of other sessions: held here, their folders would stay in use after they have ended.
fn detach_others(open: &Open) -> io::Result<()> {
    let table = MountTable::read()?;
    for path in others(table.points(), open).into_iter().rev() {
        match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // It went with the one that it was mounted below.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(io::Error::other(format!("detach {}: {error}", path.display()))),
        }
    }
    Ok(())
}

/// The mount points below the workspace that are none of this session's, in the order of mountinfo, see proc(5).
fn others<'a>(points: impl Iterator<Item = &'a Path>, open: &Open) -> Vec<PathBuf> {
    points
        .filter(|point| point.starts_with(&open.workspace) && *point != open.workspace)
        .filter(|point| !open.kept.iter().any(|kept| point.starts_with(kept)))
        .map(Path::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_other_sessions_have_mounted_is_taken_away() {
        let open = Open {
            runtime: "/usr/sbin/runc".into(),
            id: "runner-x-1".into(),
            folder: "/s p/mnt/bundle1".into(),
            state: "/s p/mnt/state2".into(),
            workspace: "/s p/mnt".into(),
            kept: vec!["/s p/mnt/bundle1".into(), "/s p/mnt/mounts0".into()],
            spec: oci_spec::runtime::Spec::default(),
            makes_nodes: true,
        };
        let points = ["/", "/s p/mnt", "/s p/mnt/bundle1/rootfs", "/s p/mnt/bundle11/rootfs"];
        let points = points.into_iter().chain(["/s p/mnt/mounts0/mount1", "/s p/mnt/lower5", "/s"]);
        let expected = ["/s p/mnt/bundle11/rootfs", "/s p/mnt/lower5"].map(PathBuf::from);
        assert_eq!(others(points.map(Path::new), &open), expected);
    }
}
