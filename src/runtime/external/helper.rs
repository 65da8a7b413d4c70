//! Runs `runner __external`: makes the PID namespace in which a session's steps run, and cleans up after it.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::groups::{self, Groups, SessionGroups};
use super::shared::SharedBinds;
use super::{OpenRequest, serve};
use crate::error::error_chain;
use crate::mount::MountTable;
use crate::runtime::container::helper_exit_code;
use crate::runtime::protocol::{OpenReply, receive, send};
use crate::runtime::{Outcome, reap};
use crate::sys::{self, Fork};

const NAMESPACES: u64 = (libc::CLONE_NEWPID | libc::CLONE_NEWNS) as u64;

/// How often the helper thaws and kills processes that do not end.
const THAW_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Serves one session; the socket to runner is standard input.
pub fn main() -> ExitCode {
    helper_exit_code(watch())
}

/// Starts the helper proper and waits for its end. Returns whether it succeeded and nothing remains.
fn watch() -> io::Result<bool> {
    let socket = UnixStream::from(sys::take_stdin()?);
    // The lock of runner's lease, which helpers inherit, must not reach processes that a runtime starts.
    sys::close_all_on_exec()?;
    // On v1 a real-time process cannot be moved into a new group.
    sys::leave_real_time()?;
    // The steps would inherit the personality, which is in no cache key.
    sys::ordinary_personality()?;
    let Some((open, _)) = receive::<OpenRequest>(&socket)? else { return Ok(true) };
    let groups = match groups::make(&open.id, &open.spec) {
        Ok(groups) => groups,
        Err(why) => {
            send(&socket, &OpenReply::Failed(why), &[])?;
            return Ok(false);
        }
    };
    let ended = serve_in(&groups, &open, socket);
    // By now the kernel has ended all processes of the namespace.
    Ok(groups.groups.remove() && ended?)
}

/// Runs the helper proper in these groups to its end. Returns whether it succeeded.
fn serve_in(session: &SessionGroups, open: &OpenRequest, socket: UnixStream) -> io::Result<bool> {
    // The pipe closes as soon as the helper begins to end. The helper has ended only when all processes of its namespace have.
    let (begins_to_end, of_helper) = io::pipe()?;
    let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    match sys::fork_into(NAMESPACES, None, proc.as_fd())? {
        Fork::Child => {
            drop(begins_to_end);
            let served = match prepare(open, session) {
                Ok((groups, shared)) => serve::serve(open, &groups, &shared, &socket).inspect_err(|error| {
                    // Runner may have ended, and then nobody reads the message.
                    let _ = writeln!(io::stderr(), "{}", error_chain(error));
                }),
                Err(error) => send(&socket, &OpenReply::Failed(error_chain(&error)), &[]).and(Err(error)),
            };
            sys::exit_now(i32::from(served.is_err()));
        }
        Fork::Parent(helper) => {
            // The socket belongs to the helper, and must close with it.
            drop(socket);
            drop(of_helper);
            let mut polled = [PollFd::new(&begins_to_end, PollFlags::IN)];
            while poll(&mut polled, None) == Err(rustix::io::Errno::INTR) {}
            // A frozen process does not end with its namespace, and one may have been frozen at the last moment.
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

/// Prepares a new clone of the helper, so that it can call a runtime.
fn prepare<'a>(open: &OpenRequest, session: &'a SessionGroups) -> io::Result<(Groups<'a>, SharedBinds)> {
    // A SIGKILL ends the first process of a PID namespace only when it comes from outside of the namespace, as this one does.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    detach_others(open)?;
    let shared = SharedBinds::attach(open)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", flags, None)?;
    let groups = Groups::enter(session, &open.spec).map_err(io::Error::other)?;
    if open.makes_nodes {
        groups.enforced().map_err(io::Error::other)?;
    }
    Ok((groups, shared))
}

/// Unmounts the mounts of other sessions: in this mount namespace they would be in use after those sessions have ended.
fn detach_others(open: &OpenRequest) -> io::Result<()> {
    let table = MountTable::read()?;
    for path in others(table.points(), open).into_iter().rev() {
        match unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // It was unmounted together with the mount above it.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(io::Error::other(format!("detach {}: {error}", path.display()))),
        }
    }
    Ok(())
}

/// Returns the mount points below the workspace that do not belong to this session, in the order of mountinfo, see proc(5).
fn others<'a>(points: impl Iterator<Item = &'a Path>, open: &OpenRequest) -> Vec<PathBuf> {
    points
        .filter(|point| point.starts_with(&open.workspace) && *point != open.workspace)
        .filter(|point| !open.own_directories.iter().any(|own| point.starts_with(own)))
        .map(Path::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_of_other_sessions_are_unmounted() {
        let open = OpenRequest {
            runtime: "/usr/sbin/runc".into(),
            id: "runner-x-1".into(),
            directory: "/s p/mnt/bundle1".into(),
            state: "/s p/mnt/state2".into(),
            workspace: "/s p/mnt".into(),
            own_directories: vec!["/s p/mnt/bundle1".into(), "/s p/mnt/mounts0".into()],
            spec: oci_spec::runtime::Spec::default(),
            makes_nodes: true,
        };
        let points = ["/", "/s p/mnt", "/s p/mnt/bundle1/rootfs", "/s p/mnt/bundle11/rootfs"];
        let points = points.into_iter().chain(["/s p/mnt/mounts0/mount1", "/s p/mnt/lower5", "/s"]);
        let expected = ["/s p/mnt/bundle11/rootfs", "/s p/mnt/lower5"].map(PathBuf::from);
        assert_eq!(others(points.map(Path::new), &open), expected);
    }
}
