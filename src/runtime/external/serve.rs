//! The helper's loop: takes requests, follows every step's runtime and container, never waits for one alone.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Open;
use super::groups::Groups;
use super::step::Step;
use crate::runtime::protocol::{Opened, Start, receive, send};

/// How often a step is killed that does not end.
const KILL_AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Serves requests until runner closes its end; then the steps that still run end with this process.
///
/// # Errors
/// Where runner says what it cannot mean, or the system refuses the helper itself something.
pub fn serve(open: &Open, groups: &Groups<'_>, control: &UnixStream) -> io::Result<()> {
    send(control, &Opened::Ready, &[])?;
    let mut steps: Vec<Step> = Vec::new();
    let mut number = 0;
    let mut is_open = true;
    // Containers that have ended are still deleted.
    while is_open || steps.iter().any(Step::is_being_deleted) {
        let happened = wait(control, is_open, &steps)?;
        for (step, happened) in steps.iter_mut().zip(&happened.steps) {
            step.advance(open, groups, *happened)?;
        }
        steps.retain(|step| !step.is_over());
        if happened.asked {
            match receive::<Start>(control)? {
                None => is_open = false,
                Some((start, descriptors)) => {
                    number += 1;
                    let descriptors = <[OwnedFd; 4]>::try_from(descriptors)
                        .map_err(|_| io::Error::other("a request without its four descriptors"))?;
                    steps.extend(Step::begin(open, groups, number, start.process, descriptors));
                }
            }
        }
        reap_strays(&steps)?;
    }
    Ok(())
}

struct Happened {
    asked: bool,
    steps: Vec<StepEvent>,
}

/// What was seen of a step.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepEvent {
    /// The runtime's program has ended.
    pub command: bool,
    /// The container's first process has ended.
    pub container: bool,
    /// The step is to end.
    pub unwanted: bool,
}

fn wait(control: &UnixStream, is_open: bool, steps: &[Step]) -> io::Result<Happened> {
    let asking = if is_open { PollFlags::IN } else { PollFlags::empty() };
    let mut polled = vec![PollFd::from_borrowed_fd(control.as_fd(), asking)];
    for step in steps {
        let [command, container, status] = step.descriptors();
        // What there is nothing to learn of stands in with no flags.
        let readable = |fd: Option<_>| match fd {
            Some(fd) => PollFd::from_borrowed_fd(fd, PollFlags::IN | PollFlags::RDHUP),
            None => PollFd::from_borrowed_fd(control.as_fd(), PollFlags::empty()),
        };
        polled.extend([readable(command), readable(container), readable(status)]);
    }
    // What is frozen meanwhile does not end before it is thawed.
    let again = steps.iter().any(Step::is_unwanted).then_some(&KILL_AGAIN);
    match poll(&mut polled, again) {
        Ok(0) => steps.iter().filter(|step| step.is_unwanted()).for_each(Step::kill),
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let seen: Vec<bool> = polled.iter().map(|fd| fd.revents().intersects(!PollFlags::NVAL)).collect();
    let events = steps.iter().zip(seen[1..].chunks_exact(3)).map(|(step, seen)| {
        let [command, container, status] = step.descriptors().map(|fd| fd.is_some());
        StepEvent { command: command && seen[0], container: container && seen[1], unwanted: status && seen[2] }
    });
    Ok(Happened { asked: is_open && seen[0], steps: events.collect() })
}

/// Takes the exit status of processes that a runtime has left to this one, and that are no container's first.
fn reap_strays(steps: &[Step]) -> io::Result<()> {
    // While a container is being created its first process is not known yet.
    while !steps.iter().any(Step::is_being_created) {
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let ended = match waitid(Id::All, peek) {
            Ok(ended) => ended.pid(),
            Err(nix::Error::ECHILD) => None,
            Err(error) => return Err(error.into()),
        };
        match ended {
            Some(pid) if !steps.iter().any(|step| step.has(pid)) => {
                waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG)?;
            }
            // There is none, or its step takes it in its turn.
            _ => return Ok(()),
        }
    }
    Ok(())
}
