//! Tells a step to end: SIGTERM to each of its processes, as a shell's job would get it.
//!
//! The kernel keeps a signal of default action from the first process of a PID namespace, which is the step's program. Such
//! a program is stopped in place of being ended, so that a shell starts nothing more, and killed when all else of the step
//! has ended. One that catches SIGTERM gets it. When that has cleaned up, it may give the signal its default action and send
//! it to itself, as make(1) does, which the kernel keeps from it too; it is stopped then. One that ignores SIGTERM may
//! continue, until runner's patience ends. One that takes the signal by sigtimedwait(2) looks like one of default action, and
//! is told apart by what becomes of the signal.
//!
//! The first process of a step with `init: true` is this program, see `reaper`: it gets the signal before all others, so that
//! it waits for them, and is not stopped.
//!
//! kill(2) reaches all processes of a namespace at once, also those that are being cloned, but only from inside. So a
//! process enters the step's PID namespace, where the step can see it. It has no descriptor, and no more rights than the
//! step: its filter, its mount namespace, and of capabilities the one to send signals.
//!
//! ```text
//! init ──fork──▶ watcher ──fork──▶ entrant, enters ──fork──▶ messenger, in the step's namespace: kill(-1)
//!                   └── waits until nothing but the step's first process is left, and kills that
//! ```

use crate::proc;
use crate::spare::Spare;
use crate::sys::{self, Ended, Errno, Fork, POLLIN, Poll, Result, SIGCONT, SIGSTOP, SIGTERM, operation};
use crate::wire::View;

/// How often the watcher looks for what is left of a step.
const AGAIN_MILLISECONDS: i64 = 10;

/// As many looks in a row find a first process that caught SIGTERM and would be ended by it now, until it is taken for one
/// that has sent the signal to itself.
const LOOKS_AT_FIRST: u32 = 10;

/// CAP_KILL, a bit, see capabilities(7).
const KILL: u64 = 1 << 5;

/// How far the telling of a step has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// A process does it, whose exit status is to be taken.
    Watched,
    /// No process can be made now: it is to be tried again.
    Later,
    /// Nobody can tell it.
    Killed,
}

/// Whether a process may be made later: there are as many as may be, which the step can have made, or there is no memory.
fn passes(error: Errno) -> bool {
    matches!(error, sys::EAGAIN | sys::ENOMEM)
}

/// Tells a step to end.
pub fn begin(step: &Spare, view: &View<'_>) -> Begun {
    match sys::fork() {
        Ok(Fork::Child) => watch(step, view),
        Ok(Fork::Parent(_, watcher)) => {
            sys::close(watcher);
            Begun::Watched
        }
        Err(error) if passes(error) => Begun::Later,
        Err(_) => {
            sys::kill(step.process);
            Begun::Killed
        }
    }
}

/// How the first process of a step takes SIGTERM.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    /// The kernel keeps it from it: it is stopped.
    Stopped,
    /// It has been sent it and takes it by waiting for it, as a `reaper` does.
    Waits,
    /// It catches it: it is to get it with the others. One that takes the signal by a handler may ask where it comes from.
    Catches,
    /// It ignores or blocks it.
    Other,
}

impl First {
    /// Finds that out; sends it the signal where it is to have it before the others, and stops it where it does not take it.
    fn tell(step: &Spare) -> Self {
        if step.is_behind {
            sys::signal(step.process, SIGTERM);
            sys::signal(step.process, SIGCONT);
            return Self::Waits;
        }
        if !proc::is_ended_by_sigterm(step.number) {
            return if proc::catches_sigterm(step.number) { Self::Catches } else { Self::Other };
        }
        sys::signal(step.process, SIGTERM);
        if proc::drops_sigterm(step.number) {
            sys::signal(step.process, SIGSTOP);
            return Self::Stopped;
        }
        sys::signal(step.process, SIGCONT);
        Self::Waits
    }
}

fn watch(step: &Spare, view: &View<'_>) -> ! {
    // A messenger whose parent has ended is this one's to reap: before that the step's namespace does not end.
    let _ = sys::prctl(operation::SET_CHILD_SUBREAPER, 1, 0);
    // A reaper that has started nothing yet might not be one yet, whom the kernel keeps the signal from.
    if step.is_behind && !proc::has_live_child(step.number).unwrap_or(true) {
        sys::kill(step.process);
    }
    let mut first = First::tell(step);
    let mut told = tell_all(step, view, first == First::Catches);
    let mut looks = 0;
    after_telling(step, first, told);
    loop {
        let has_messenger = sys::reap_all(|_, _| {});
        let mut polled = [Poll { descriptor: step.process, events: POLLIN, happened: 0 }];
        let has_ended = sys::poll_for(&mut polled, AGAIN_MILLISECONDS).unwrap_or(false);
        if has_ended && !has_messenger {
            sys::exit(0);
        }
        if told.is_err_and(passes) {
            told = tell_all(step, view, first == First::Catches);
            after_telling(step, first, told);
        }
        match first {
            First::Stopped if !proc::has_live_child(step.number).unwrap_or(true) => sys::kill(step.process),
            First::Stopped | First::Waits => {}
            First::Catches | First::Other => {
                looks = if proc::is_ended_by_sigterm(step.number) { looks + 1 } else { 0 };
                if looks == LOOKS_AT_FIRST {
                    first = First::Stopped;
                    sys::signal(step.process, SIGSTOP);
                }
            }
        }
    }
}

/// Does what is left to do when the others have been told, or cannot be.
fn after_telling(step: &Spare, first: First, told: Result<()>) {
    match (first, told) {
        (_, Err(error)) if passes(error) => {}
        (First::Stopped, Err(_)) => sys::kill(step.process),
        // Its program has been told nothing.
        (First::Waits, Err(_)) if step.is_behind => sys::kill(step.process),
        (First::Catches, Err(_)) | (First::Other, _) => {
            sys::signal(step.process, SIGTERM);
            sys::signal(step.process, SIGCONT);
        }
        (First::Stopped | First::Waits | First::Catches, _) => {}
    }
}

/// Sends SIGTERM to all processes of the step; to the first one if that is to be.
fn tell_all(step: &Spare, view: &View<'_>, with_first: bool) -> Result<()> {
    if !with_first {
        return send_all(step, view, false);
    }
    // It is stopped until all have been told, itself last. If it ran it would see the others end before its own signal, and
    // could take that for a failure of theirs, after which ninja(1) leaves half-written files.
    sys::signal(step.process, SIGSTOP);
    let sent = send_all(step, view, true);
    if sent.is_err() {
        sys::signal(step.process, SIGCONT);
    }
    sent
}

fn send_all(step: &Spare, view: &View<'_>, with_first: bool) -> Result<()> {
    match sys::fork()? {
        Fork::Child => sys::exit(enter(step, view, with_first).map_or_else(|error| error.0, |()| 0)),
        Fork::Parent(_, entrant) => {
            let ended = sys::reap(entrant);
            sys::close(entrant);
            match ended? {
                Ended::Exited(0) => Ok(()),
                Ended::Exited(error) => Err(Errno(error)),
                Ended::Signaled(_) => Err(sys::EACCES),
            }
        }
    }
}

fn enter(step: &Spare, view: &View<'_>, with_first: bool) -> Result<()> {
    const FIRST: u32 = 1;
    sys::enter(step.mounts)?;
    sys::enter(step.pids)?;
    sys::close_from(0)?;
    // From here on it is no more than the step is, and harder to look into.
    sys::prctl(operation::SET_DUMPABLE, 0, 0)?;
    sys::prctl(operation::SET_NO_NEW_PRIVS, 1, 0)?;
    sys::set_capabilities(KILL, KILL, 0)?;
    if !view.own_filter.is_empty() {
        sys::load_filter(view.own_filter)?;
    }
    match sys::fork_plainly()? {
        None => {
            // What is stopped takes the signal when it continues.
            for signal in [SIGTERM, SIGCONT] {
                // First the others: what the first one starts at once, to clean up, is not to be told.
                sys::signal_all(signal);
                if with_first {
                    sys::signal_number(FIRST, signal);
                }
            }
            sys::exit(0)
        }
        // Not before all have been told.
        Some(messenger) => sys::wait(messenger),
    }
}
