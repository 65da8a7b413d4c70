//! Ends a step on request: sends SIGTERM to each of its processes, as a shell does to a job.
//!
//! The kernel does not deliver a signal of default action to the first process of a PID namespace, which is the step's
//! program. Such a program is stopped instead, so that a shell starts no more commands, and killed when all other processes of
//! the step have ended. A program that catches SIGTERM gets it. When it has cleaned up, it may reset the signal to its default
//! action and send it to itself, as make(1) does. The kernel does not deliver that either; the program is stopped then. A
//! program that ignores SIGTERM may continue until runner's deadline. A program that receives the signal by sigtimedwait(2)
//! looks as if it had the default action; the two differ in whether the signal becomes pending.
//!
//! The first process of a step with `init: true` is this program, see `reaper`. It gets the signal before all others, so that it
//! waits for them, and is not stopped.
//!
//! kill(2) reaches all processes of a namespace at once, also those that are being cloned, but only from inside. So a messenger
//! process enters the step's PID namespace, where the step can see it. The messenger has no descriptor, and no more rights than
//! the step: the same filter, the same mount namespace, and only the capability to send signals.
//!
//! ```text
//! init ──fork──▶ watcher ──fork──▶ entrant, enters ──fork──▶ messenger, in the step's namespace: kill(-1)
//!                   └── waits until only the step's first process remains, and kills that
//! ```

use crate::prefork::PreforkedStep;
use crate::proc;
use crate::sys::{self, Ended, Errno, Fork, POLLIN, Poll, Result, SIGCONT, SIGSTOP, SIGTERM, operation};
use crate::wire::StepSetup;

/// How often the watcher checks for the remaining processes of a step.
const INTERVAL_MILLISECONDS: i64 = 10;

/// The number of checks in a row that find that a first process, which caught SIGTERM before, has the default action now. It has
/// then probably sent the signal to itself.
const CHECKS_OF_FIRST: u32 = 10;

/// The bit of CAP_KILL, see capabilities(7).
const KILL: u64 = 1 << 5;

/// The state of the delivery of SIGTERM to a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// A process delivers the signal; init reaps it later.
    Started,
    /// No process can be made now: init tries again.
    Later,
    /// No process can deliver it, so the step was killed.
    Killed,
}

/// Returns whether a process may be made later: the limit on processes is reached, maybe by the step itself, or memory ran out.
fn is_temporary(error: Errno) -> bool {
    matches!(error, sys::EAGAIN | sys::ENOMEM)
}

/// Begins to end a step.
pub fn begin(step: &PreforkedStep, setup: &StepSetup<'_>) -> Delivery {
    match sys::fork() {
        Ok(Fork::Child) => watch(step, setup),
        Ok(Fork::Parent(_, watcher)) => {
            sys::close(watcher);
            Delivery::Started
        }
        Err(error) if is_temporary(error) => Delivery::Later,
        Err(_) => {
            sys::kill(step.pidfd);
            Delivery::Killed
        }
    }
}

/// The way in which the first process of a step reacts to SIGTERM.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FirstProcess {
    /// The kernel does not deliver the signal: the process is stopped.
    Stopped,
    /// The process got the signal already, and receives it by waiting for it, as a `reaper` does.
    Waits,
    /// The process has a handler for the signal, and must get it with the others, because a handler may ask for the sender.
    Catches,
    /// The process ignores or blocks the signal.
    Other,
}

impl FirstProcess {
    /// Finds out how the first process reacts. Sends it the signal if it must have that before the others, and stops it if the
    /// kernel does not deliver the signal.
    fn signal(step: &PreforkedStep) -> Self {
        if step.has_reaper {
            sys::signal(step.pidfd, SIGTERM);
            sys::signal(step.pidfd, SIGCONT);
            return Self::Waits;
        }
        if !proc::is_ended_by_sigterm(step.number) {
            return if proc::catches_sigterm(step.number) { Self::Catches } else { Self::Other };
        }
        sys::signal(step.pidfd, SIGTERM);
        if proc::drops_sigterm(step.number) {
            sys::signal(step.pidfd, SIGSTOP);
            return Self::Stopped;
        }
        sys::signal(step.pidfd, SIGCONT);
        Self::Waits
    }
}

fn watch(step: &PreforkedStep, setup: &StepSetup<'_>) -> ! {
    // This process reaps a messenger whose parent has ended: before that the step's namespace does not end.
    let _ = sys::prctl(operation::SET_CHILD_SUBREAPER, 1, 0);
    // A reaper that has started nothing yet might not run that program yet: then the kernel would not deliver the signal.
    if step.has_reaper && !proc::has_live_child(step.number).unwrap_or(true) {
        sys::kill(step.pidfd);
    }
    let mut first = FirstProcess::signal(step);
    let mut sent = signal_all(step, setup, first == FirstProcess::Catches);
    let mut checks = 0;
    after_signal(step, first, sent);
    loop {
        let has_messenger = sys::reap_all(|_, _| {});
        let mut polled = [Poll { descriptor: step.pidfd, events: POLLIN, happened: 0 }];
        let has_ended = sys::poll_for(&mut polled, INTERVAL_MILLISECONDS).unwrap_or(false);
        if has_ended && !has_messenger {
            sys::exit(0);
        }
        if sent.is_err_and(is_temporary) {
            sent = signal_all(step, setup, first == FirstProcess::Catches);
            after_signal(step, first, sent);
        }
        match first {
            FirstProcess::Stopped if !proc::has_live_child(step.number).unwrap_or(true) => sys::kill(step.pidfd),
            FirstProcess::Stopped | FirstProcess::Waits => {}
            FirstProcess::Catches | FirstProcess::Other => {
                checks = if proc::is_ended_by_sigterm(step.number) { checks + 1 } else { 0 };
                if checks == CHECKS_OF_FIRST {
                    first = FirstProcess::Stopped;
                    sys::signal(step.pidfd, SIGSTOP);
                }
            }
        }
    }
}

/// Signals or kills the first process, when the others have got the signal, or cannot get it.
fn after_signal(step: &PreforkedStep, first: FirstProcess, sent: Result<()>) {
    match (first, sent) {
        (_, Err(error)) if is_temporary(error) => {}
        (FirstProcess::Stopped, Err(_)) => sys::kill(step.pidfd),
        // The reaper's program has got no signal.
        (FirstProcess::Waits, Err(_)) if step.has_reaper => sys::kill(step.pidfd),
        (FirstProcess::Catches, Err(_)) | (FirstProcess::Other, _) => {
            sys::signal(step.pidfd, SIGTERM);
            sys::signal(step.pidfd, SIGCONT);
        }
        (FirstProcess::Stopped | FirstProcess::Waits | FirstProcess::Catches, _) => {}
    }
}

/// Sends SIGTERM to all processes of the step; to the first one only if `with_first`.
fn signal_all(step: &PreforkedStep, setup: &StepSetup<'_>, with_first: bool) -> Result<()> {
    if !with_first {
        return send_all(step, setup, false);
    }
    // The first process is stopped until all have the signal, itself last. If it ran, it would see the others end before its own
    // signal, and could think that they have failed, after which ninja(1) leaves half-written files.
    sys::signal(step.pidfd, SIGSTOP);
    let sent = send_all(step, setup, true);
    if sent.is_err() {
        sys::signal(step.pidfd, SIGCONT);
    }
    sent
}

fn send_all(step: &PreforkedStep, setup: &StepSetup<'_>, with_first: bool) -> Result<()> {
    match sys::fork()? {
        Fork::Child => sys::exit(enter(step, setup, with_first).map_or_else(|error| error.0, |()| 0)),
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

fn enter(step: &PreforkedStep, setup: &StepSetup<'_>, with_first: bool) -> Result<()> {
    const FIRST: u32 = 1;
    sys::enter(step.mounts)?;
    sys::enter(step.pids)?;
    sys::close_from(0)?;
    // From here on this process has no more rights than the step, and the step cannot inspect it.
    sys::prctl(operation::SET_DUMPABLE, 0, 0)?;
    sys::prctl(operation::SET_NO_NEW_PRIVS, 1, 0)?;
    sys::set_capabilities(KILL, KILL, 0)?;
    if !setup.own_filter.is_empty() {
        sys::load_filter(setup.own_filter)?;
    }
    match sys::fork_plainly()? {
        None => {
            // A stopped process receives the signal when it continues.
            for signal in [SIGTERM, SIGCONT] {
                // The others come first: a process that the first one then starts to clean up must not get the signal.
                sys::signal_all(signal);
                if with_first {
                    sys::signal_number(FIRST, signal);
                }
            }
            sys::exit(0)
        }
        // Returns only when all have got the signal.
        Some(messenger) => sys::wait(messenger),
    }
}
