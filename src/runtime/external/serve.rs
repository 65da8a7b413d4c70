//! The helper's loop: takes requests, follows every step's runtime and container, never waits for one alone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Open;
use super::groups::Groups;
use super::shared::Shared;
use super::step::Step;
use crate::runtime::protocol::{Opened, Start, receive, send};

/// How often a step that is to end is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Serves requests until runner closes its end; then the steps that still run end with this process.
///
/// # Errors
/// Where runner says what it cannot mean, or the system refuses the helper itself something.
pub fn serve(open: &Open, groups: &Groups<'_>, shared: &Shared, control: &UnixStream) -> io::Result<()> {
    send(control, &Opened::Ready(Vec::new()), &[])?;
    let mut steps: Vec<Step> = Vec::new();
    let mut number = 0;
    let mut is_open = true;
    // Containers that have ended are still deleted.
    while is_open || steps.iter().any(Step::is_being_deleted) {
        let happened = wait(control, is_open, &steps)?;
        if happened.nothing {
            steps.iter_mut().filter(|step| step.is_ending()).for_each(Step::end_further);
        }
        steps.iter_mut().for_each(Step::end_overdue_call);
        for (step, happened) in steps.iter_mut().zip(&happened.steps) {
            step.advance(open, groups, shared, *happened)?;
        }
        steps.retain(|step| !step.is_over());
        if happened.asked {
            match receive::<Start>(control)? {
                None => {
                    is_open = false;
                    steps.iter_mut().for_each(Step::hurry);
                }
                Some((start, descriptors)) => {
                    number += 1;
                    let descriptors = <[OwnedFd; 4]>::try_from(descriptors)
                        .map_err(|_| io::Error::other("a request without its four descriptors"))?;
                    steps.extend(Step::begin(open, groups, shared, number, start.process, descriptors));
                }
            }
        }
        reap_strays(&steps)?;
    }
    Ok(())
}

struct Happened {
    nothing: bool,
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
    /// Runner has sent something on the status socket, or has closed it.
    pub status: bool,
}

fn wait(control: &UnixStream, is_open: bool, steps: &[Step]) -> io::Result<Happened> {
    // What there is nothing to learn of is left out: of a socket whose other end is closed, poll(2) says so at once even
    // where nobody asks.
    let asked_of = is_open.then(|| control.as_fd());
    let descriptors: Vec<Option<BorrowedFd<'_>>> =
        std::iter::once(asked_of).chain(steps.iter().flat_map(Step::descriptors)).collect();
    let mut polled: Vec<PollFd<'_>> = descriptors
        .iter()
        .flatten()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN | PollFlags::RDHUP))
        .collect();
    // What is frozen meanwhile does not end before it is thawed.
    let again = steps.iter().any(Step::is_ending).then_some(LOOK_AGAIN);
    let timeout = steps.iter().filter_map(Step::time_left).chain(again).min();
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let nothing = match poll(&mut polled, timeout.as_ref()) {
        Ok(count) => count == 0,
        Err(rustix::io::Errno::INTR) => false,
        Err(error) => return Err(error.into()),
    };
    let mut answers = polled.iter().map(|fd| fd.revents().intersects(!PollFlags::NVAL));
    let seen: Vec<bool> = descriptors.iter().map(|fd| fd.is_some() && answers.next() == Some(true)).collect();
    let events = seen[1..].chunks_exact(3);
    let events = events.map(|seen| StepEvent { command: seen[0], container: seen[1], status: seen[2] });
    Ok(Happened { nothing, asked: seen[0], steps: events.collect() })
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
