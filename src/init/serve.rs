//! Runs init's loop: one poll(2) over the preforked process, the running steps, and runner.

use crate::dev::{Dev, Pool};
use crate::ending::{self, Delivery};
use crate::janitor::Janitor;
use crate::prefork::{self, PreforkedStep, Privileges, Started};
use crate::sys::{self, Ended, POLLIN, POLLRDHUP, Poll};
use crate::watched::WatchedMounts;
use crate::wire::{self, StepSetup, kind, stage};
use crate::{CONTROL, wire::REQUEST_DESCRIPTORS};

/// The most steps that run in one container at once; the request of another one waits in the socket.
const MAX_STEPS: usize = 1024;

/// The number of preforked processes in a row that end before one has received a request, until init refuses that request.
const MAX_LOST: u32 = 100;

/// A running step.
#[derive(Clone, Copy)]
struct Step {
    process: PreforkedStep,
    status: i32,
    /// The step's `/dev`, for a later step.
    dev: Option<Dev>,
    /// Whether runner has requested its end.
    end_requested: bool,
    /// Whether the step must still get SIGTERM, as soon as a process for that can be made.
    signal_pending: bool,
    is_killed: bool,
}

/// The running steps.
pub struct Steps {
    all: [Step; MAX_STEPS],
    count: usize,
    /// The number of processes that send signals to steps, and are not reaped yet.
    messengers: usize,
}

impl Steps {
    const fn new() -> Self {
        let none = PreforkedStep { pidfd: -1, number: 0, mounts: -1, pids: -1, has_reaper: false };
        let none =
            Step { process: none, status: -1, dev: None, end_requested: true, signal_pending: false, is_killed: true };
        Self { all: [none; MAX_STEPS], count: 0, messengers: 0 }
    }

    fn running(&mut self) -> &mut [Step] {
        &mut self.all[..self.count]
    }

    /// Reaps the processes that have sent signals to steps.
    fn reap_messengers(&mut self, preforked: Option<&PreforkedStep>) {
        while self.messengers > 0 {
            let Some(ended) = sys::ended_child() else { return };
            if self.running().iter().map(|step| &step.process).chain(preforked).any(|other| other.number == ended) {
                // This process is reaped in its turn, and the next ones after it.
                return;
            }
            let _ = sys::wait(ended);
            self.messengers -= 1;
        }
    }
}

/// Serves requests until runner closes its end of the socket, in a process with these privileges.
pub fn serve(setup: &StepSetup<'_>, watched: WatchedMounts, privileges: Privileges) -> ! {
    let mut steps = Steps::new();
    let mut polled = [Poll { descriptor: -1, events: 0, happened: 0 }; 3 + 2 * MAX_STEPS];
    let mut preforked = None;
    let mut devs = Pool::new();
    let mut lost = 0;
    let mut awaits_request = false;
    // Made first, because it needs the lowest free descriptor.
    let mut reports = prefork::report_socket().unwrap_or(-1);
    let janitor = if reports < 0 { Janitor::none() } else { Janitor::start() };
    loop {
        if preforked.is_none() && !awaits_request && steps.count < MAX_STEPS {
            preforked = prefork(setup, watched, privileges, &mut reports, false, (&mut devs, &janitor));
            // The obstacle may have gone when the next request arrives.
            awaits_request = preforked.is_none();
        }
        let polled_steps = steps.count;
        wait(&mut polled, reports, preforked.as_ref(), awaits_request, &mut steps);
        if polled[0].happened & !POLLIN != 0 {
            sys::exit(0);
        }
        let has_request = polled[0].happened & POLLIN != 0;
        steps.reap_messengers(preforked.as_ref());
        if let Some(ready @ PreforkedStep { pidfd, mounts, pids, .. }) = preforked {
            if polled[1].happened != 0 || polled[2].happened != 0 {
                // The report may also come from a process that has ended: it may have become a step and ended during one poll.
                match prefork::receive_started(reports) {
                    // The process ended before it received a request: something killed it, or it has lost a mount.
                    None if polled[2].happened != 0 => {
                        let _ = sys::reap(pidfd);
                        sys::close(pidfd);
                        sys::close(pids);
                        janitor.take(mounts);
                        lost += 1;
                        awaits_request = true;
                        preforked = None;
                    }
                    None => {}
                    Some(Started { status, has_reaper, dev }) => {
                        let process = PreforkedStep { has_reaper, ..ready };
                        // Without a status socket init cannot report the step's end, so it kills the step at once.
                        let is_killed = status < 0;
                        steps.all[steps.count] =
                            Step { process, status, dev, end_requested: false, signal_pending: false, is_killed };
                        steps.count += 1;
                        if is_killed {
                            sys::kill(pidfd);
                        }
                        lost = 0;
                        preforked = None;
                    }
                }
            }
        } else if has_request && awaits_request {
            if lost < MAX_LOST {
                preforked = prefork(setup, watched, privileges, &mut reports, true, (&mut devs, &janitor));
            }
            if preforked.is_none() {
                refuse();
                lost = 0;
            }
            awaits_request = preforked.is_none();
        }
        follow(&mut steps, &polled[3..3 + 2 * polled_steps], &janitor, &mut devs, setup, || watched.lost(setup));
    }
}

/// Preforks a process, and makes the report socket where that is missing.
fn prefork(
    setup: &StepSetup<'_>,
    watched: WatchedMounts,
    privileges: Privileges,
    reports: &mut i32,
    has_request: bool,
    (devs, janitor): (&mut Pool, &Janitor),
) -> Option<PreforkedStep> {
    if *reports < 0 {
        *reports = prefork::report_socket().ok()?;
    }
    let dev = devs.take();
    let preforked = prefork::prefork(setup, watched, privileges, has_request, dev).ok();
    if let (None, Some(dev)) = (&preforked, dev) {
        devs.put(dev, janitor);
    }
    preforked
}

fn wait(polled: &mut [Poll], reports: i32, preforked: Option<&PreforkedStep>, awaits_request: bool, steps: &mut Steps) {
    /// How often init reaps messengers, while there are any, and sends pending signals.
    const INTERVAL_MILLISECONDS: i64 = 100;
    let has_messengers = steps.messengers > 0;
    let steps = steps.running();
    let has_timeout = has_messengers || steps.iter().any(|step| step.signal_pending);
    // The preforked process receives the requests; init polls for them only while it has no such process.
    let events = POLLRDHUP | if awaits_request { POLLIN } else { 0 };
    polled[0] = Poll { descriptor: CONTROL, events, happened: 0 };
    polled[1] = Poll { descriptor: reports, events: POLLIN, happened: 0 };
    polled[2] = Poll { descriptor: preforked.map_or(-1, |process| process.pidfd), events: POLLIN, happened: 0 };
    let (pairs, _) = polled[3..].as_chunks_mut::<2>();
    for (pair, step) in pairs.iter_mut().zip(&*steps) {
        pair[0] = Poll { descriptor: step.process.pidfd, events: POLLIN, happened: 0 };
        // Runner closes the status socket to have the step killed; the poll reports that only once.
        let status = if step.is_killed { -1 } else { step.status };
        let events = POLLRDHUP | if step.end_requested { 0 } else { POLLIN };
        pair[1] = Poll { descriptor: status, events, happened: 0 };
    }
    let polled = &mut polled[..3 + 2 * steps.len()];
    let result = if has_timeout { sys::poll_for(polled, INTERVAL_MILLISECONDS).map(drop) } else { sys::poll(polled) };
    if result.is_err() {
        sys::exit(1);
    }
}

/// Reports the steps that have ended, and ends those whose end runner has requested. `polled` has a pair for each step of the
/// last poll. A step that began since follows them in the list, and the next poll includes it. (The memory behind `polled`
/// has pairs of earlier steps, whose descriptors may have had the numbers of the new step's.)
fn follow(
    steps: &mut Steps,
    polled: &[Poll],
    janitor: &Janitor,
    devs: &mut Pool,
    setup: &StepSetup<'_>,
    lost: impl Fn() -> Option<(u64, sys::Errno)>,
) {
    let (pairs, _) = polled.as_chunks::<2>();
    // From the last to the first: the last step of all replaces one that has ended.
    for (index, [process, status]) in pairs.iter().enumerate().rev() {
        let step = steps.all[index];
        if process.happened != 0 {
            let ended = sys::reap(step.process.pidfd);
            let (stage, detail) = lost().map_or((0, 0), |(index, _)| (stage::LOST_MOUNT, index));
            let message = match ended {
                Ok(Ended::Exited(code)) => wire::status(kind::EXITED, stage, code, detail),
                Ok(Ended::Signaled(signal)) => wire::status(kind::SIGNALED, stage, signal, detail),
                Err(error) => wire::status(kind::FAILED, stage::PROCESS, error.0, 0),
            };
            janitor.take(step.process.mounts);
            // A memory limit counts the files of a step in its `/dev`, so they must be removed before the next step begins.
            if step.dev.is_some_and(|dev| devs.put_back(dev, setup, janitor)) {
                janitor.wait();
            }
            // Runner may have closed its end; and a step that failed to start has reported that itself.
            let _ = sys::send(step.status, &message, &[]);
            sys::close(step.status);
            sys::close(step.process.pidfd);
            sys::close(step.process.pids);
            steps.count -= 1;
            steps.all[index] = steps.all[steps.count];
        } else if status.happened & !POLLIN != 0 && !step.is_killed {
            steps.all[index].is_killed = true;
            steps.all[index].signal_pending = false;
            sys::kill(step.process.pidfd);
        } else if step.signal_pending || status.happened != 0 && !step.end_requested && is_end_requested(step.status) {
            let delivery = ending::begin(&step.process, setup);
            steps.all[index].end_requested = true;
            steps.all[index].signal_pending = delivery == Delivery::Later;
            steps.messengers += usize::from(delivery == Delivery::Started);
        }
    }
}

/// Returns whether runner requests the end of the step with this status socket.
fn is_end_requested(status: i32) -> bool {
    let mut byte = [0u8; 1];
    sys::receive(status, &mut byte, false).is_ok_and(|received| {
        received.close();
        received.length == wire::END.len() && byte == wire::END
    })
}

/// Receives a request in place of a preforked process, and replies that no process can be made.
fn refuse() {
    prefork::with_request(false, |received, _| {
        let Ok(received) = received else { return };
        if received.count >= REQUEST_DESCRIPTORS {
            let status = received.descriptors[REQUEST_DESCRIPTORS - 1];
            let message = wire::status(kind::FAILED, stage::PROCESS, sys::EAGAIN.0, 0);
            let _ = sys::send(status, &message, &[]);
        }
        received.close();
    });
}
