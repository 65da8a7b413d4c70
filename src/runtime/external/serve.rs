//! Runs the helper's loop: receives requests, follows every step's runtime and container, and never waits for one alone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::OpenRequest;
use super::groups::Groups;
use super::shared::SharedBinds;
use super::step::Step;
use crate::runtime::protocol::{OpenReply, StartRequest, receive, send};

/// How often the loop checks a step that is being ended.
const ENDING_INTERVAL: Duration = Duration::from_millis(20);

/// Serves requests until runner closes its end; the steps that are still running then end with this process.
///
/// # Errors
/// Where a request of runner is damaged, or a system call of the helper itself fails.
pub fn serve(open: &OpenRequest, groups: &Groups<'_>, shared: &SharedBinds, control: &UnixStream) -> io::Result<()> {
    send(control, &OpenReply::Ready(Vec::new()), &[])?;
    let mut steps: Vec<Step> = Vec::new();
    let mut number = 0;
    let mut is_open = true;
    // The loop still deletes containers that have ended.
    while is_open || steps.iter().any(Step::is_being_deleted) {
        let events = wait(control, is_open, &steps)?;
        if events.timed_out {
            steps.iter_mut().filter(|step| step.is_ending()).for_each(Step::continue_ending);
        }
        steps.iter_mut().for_each(Step::end_overdue_call);
        for (step, event) in steps.iter_mut().zip(&events.steps) {
            step.advance(open, groups, shared, *event)?;
        }
        steps.retain(|step| !step.is_finished());
        if events.has_request {
            match receive::<StartRequest>(control)? {
                None => {
                    is_open = false;
                    steps.iter_mut().for_each(Step::shorten_deadline);
                }
                Some((start, descriptors)) => {
                    number += 1;
                    let descriptors = <[OwnedFd; 4]>::try_from(descriptors)
                        .map_err(|_| io::Error::other("a request without its four descriptors"))?;
                    steps.extend(Step::begin(open, groups, shared, number, start.process, descriptors));
                }
            }
        }
        reap_orphans(&steps)?;
    }
    Ok(())
}

/// The results of one poll(2).
struct Events {
    timed_out: bool,
    has_request: bool,
    steps: Vec<StepEvent>,
}

/// The events of one step.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepEvent {
    /// The runtime's program has ended.
    pub command: bool,
    /// The container's first process has ended.
    pub container: bool,
    /// Runner has sent something on the status socket, or has closed it.
    pub status: bool,
}

fn wait(control: &UnixStream, is_open: bool, steps: &[Step]) -> io::Result<Events> {
    // Descriptors without a further event are omitted: for a socket whose other end is closed, poll(2) returns at once, whatever
    // events are requested.
    let requests = is_open.then(|| control.as_fd());
    let descriptors: Vec<Option<BorrowedFd<'_>>> =
        std::iter::once(requests).chain(steps.iter().flat_map(Step::descriptors)).collect();
    let mut polled: Vec<PollFd<'_>> = descriptors
        .iter()
        .flatten()
        .map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN | PollFlags::RDHUP))
        .collect();
    // A process that is frozen meanwhile does not end before it is thawed.
    let again = steps.iter().any(Step::is_ending).then_some(ENDING_INTERVAL);
    let timeout = steps.iter().filter_map(Step::remaining_time).chain(again).min();
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    let timed_out = match poll(&mut polled, timeout.as_ref()) {
        Ok(count) => count == 0,
        Err(rustix::io::Errno::INTR) => false,
        Err(error) => return Err(error.into()),
    };
    let mut results = polled.iter().map(|fd| fd.revents().intersects(!PollFlags::NVAL));
    let ready: Vec<bool> = descriptors.iter().map(|fd| fd.is_some() && results.next() == Some(true)).collect();
    let steps = ready[1..].chunks_exact(3);
    let steps = steps.map(|ready| StepEvent { command: ready[0], container: ready[1], status: ready[2] });
    Ok(Events { timed_out, has_request: ready[0], steps: steps.collect() })
}

/// Reaps the orphans of a runtime that are not the first process of a container.
fn reap_orphans(steps: &[Step]) -> io::Result<()> {
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
            // No child has ended, or the step of the child reaps it in its turn.
            _ => return Ok(()),
        }
    }
    Ok(())
}
