//! Init's loop: one poll(2) over the spare, the steps that run, and runner.

use crate::janitor::Janitor;
use crate::spare::{self, Privileges, Spare};
use crate::sys::{self, Ended, POLLIN, POLLRDHUP, Poll};
use crate::watched::Watched;
use crate::wire::{self, View, kind, stage};
use crate::{CONTROL, wire::REQUEST_DESCRIPTORS};

/// The most steps that run in one container at once; another waits in the socket.
const MOST_STEPS: usize = 1024;

/// Spares that end in a row before one has taken a request, until init gives up for that request.
const MOST_LOST: u32 = 100;

/// A step that runs.
#[derive(Clone, Copy)]
struct Step {
    process: i32,
    status: i32,
    namespace: i32,
    killed: bool,
}

/// The steps that run.
pub struct Steps {
    all: [Step; MOST_STEPS],
    count: usize,
}

impl Steps {
    const fn new() -> Self {
        let none = Step { process: -1, status: -1, namespace: -1, killed: true };
        Self { all: [none; MOST_STEPS], count: 0 }
    }

    fn running(&mut self) -> &mut [Step] {
        &mut self.all[..self.count]
    }
}

/// Serves requests until runner closes its end of the socket, by a process with these privileges.
pub fn serve(view: &View<'_>, watched: Watched, privileges: Privileges) -> ! {
    let mut steps = Steps::new();
    let mut polled = [Poll { descriptor: -1, events: 0, happened: 0 }; 3 + 2 * MOST_STEPS];
    let mut spare = None;
    let mut lost = 0;
    let mut awaited = false;
    // Before anything else takes its place.
    let mut feed = spare::feed().unwrap_or(-1);
    let janitor = if feed < 0 { Janitor::none() } else { Janitor::start() };
    loop {
        if spare.is_none() && !awaited && steps.count < MOST_STEPS {
            spare = make(view, watched, privileges, &mut feed, false);
            // What stands in the way may be gone when the next request comes.
            awaited = spare.is_none();
        }
        let polled_steps = steps.count;
        wait(&mut polled, feed, spare.as_ref(), awaited, steps.running());
        if polled[0].happened & !POLLIN != 0 {
            sys::exit(0);
        }
        let asked = polled[0].happened & POLLIN != 0;
        if let Some(Spare { process, namespace }) = spare {
            if polled[1].happened != 0 || polled[2].happened != 0 {
                let mut byte = [0u8; 1];
                // Also where it has ended: it may have become a step and ended since, between two looks of one poll.
                match sys::receive(feed, &mut byte, false) {
                    // It ended before it took a request: something killed it, or its view is not whole any more.
                    Err(sys::EAGAIN) if polled[2].happened != 0 => {
                        let _ = sys::reap(process);
                        sys::close(process);
                        janitor.take(namespace);
                        lost += 1;
                        awaited = true;
                        spare = None;
                    }
                    Err(sys::EAGAIN) => {}
                    received => {
                        // Where no status socket can be received, nobody can learn of the step's end: it is ended at once.
                        let status = received.map_or(-1, |received| received.descriptors[0]);
                        steps.all[steps.count] = Step { process, status, namespace, killed: status < 0 };
                        steps.count += 1;
                        if status < 0 {
                            sys::kill(process);
                        }
                        lost = 0;
                        spare = None;
                    }
                }
            }
        } else if asked && awaited {
            if lost < MOST_LOST {
                spare = make(view, watched, privileges, &mut feed, true);
            }
            if spare.is_none() {
                refuse();
                lost = 0;
            }
            awaited = spare.is_none();
        }
        follow(&mut steps, &polled[3..3 + 2 * polled_steps], &janitor, || watched.lost(view));
    }
}

/// Makes a spare, and where it is missing the way on which all of them report.
fn make(view: &View<'_>, watched: Watched, privileges: Privileges, feed: &mut i32, asked: bool) -> Option<Spare> {
    if *feed < 0 {
        *feed = spare::feed().ok()?;
    }
    spare::make(view, watched, privileges, asked).ok()
}

fn wait(polled: &mut [Poll], feed: i32, spare: Option<&Spare>, awaited: bool, steps: &[Step]) {
    // The spare reads the requests; init looks for them only while there is none.
    polled[0] = Poll { descriptor: CONTROL, events: POLLRDHUP | if awaited { POLLIN } else { 0 }, happened: 0 };
    polled[1] = Poll { descriptor: feed, events: POLLIN, happened: 0 };
    polled[2] = Poll { descriptor: spare.map_or(-1, |spare| spare.process), events: POLLIN, happened: 0 };
    let (pairs, _) = polled[3..].as_chunks_mut::<2>();
    for (pair, step) in pairs.iter_mut().zip(steps) {
        pair[0] = Poll { descriptor: step.process, events: POLLIN, happened: 0 };
        // A closed status socket means that the step is to end, and says so once.
        let status = if step.killed { -1 } else { step.status };
        pair[1] = Poll { descriptor: status, events: POLLRDHUP, happened: 0 };
    }
    if sys::poll(&mut polled[..3 + 2 * steps.len()]).is_err() {
        sys::exit(1);
    }
}

/// Reports the steps that have ended, and ends those that nobody wants any more. `polled` has a pair for each step of the
/// last poll; a step that began since stands behind those, and the next poll asks for it. (In the memory behind `polled`
/// are pairs of earlier steps, whose descriptors may have had the numbers that the new step's have.)
fn follow(steps: &mut Steps, polled: &[Poll], janitor: &Janitor, lost: impl Fn() -> Option<(u64, sys::Errno)>) {
    let (pairs, _) = polled.as_chunks::<2>();
    // From the last to the first: one that has ended gives its place to the last of all.
    for (index, [process, status]) in pairs.iter().enumerate().rev() {
        let step = steps.all[index];
        if process.happened != 0 {
            let ended = sys::reap(step.process);
            let (stage, detail) = lost().map_or((0, 0), |(index, _)| (stage::LOST_MOUNT, index));
            let message = match ended {
                Ok(Ended::Exited(code)) => wire::status(kind::EXITED, stage, code, detail),
                Ok(Ended::Signaled(signal)) => wire::status(kind::SIGNALED, stage, signal, detail),
                Err(error) => wire::status(kind::FAILED, stage::PROCESS, error.0, 0),
            };
            // Runner may have lost interest; and a step that failed to start has reported that itself.
            let _ = sys::send(step.status, &message, None);
            sys::close(step.status);
            sys::close(step.process);
            janitor.take(step.namespace);
            steps.count -= 1;
            steps.all[index] = steps.all[steps.count];
        } else if status.happened != 0 && !step.killed {
            steps.all[index].killed = true;
            sys::kill(step.process);
        }
    }
}

/// Takes a request in a spare's place, and answers that no process can be made.
fn refuse() {
    spare::with_request(false, |received, _| {
        let Ok(received) = received else { return };
        if received.count >= REQUEST_DESCRIPTORS {
            let status = received.descriptors[REQUEST_DESCRIPTORS - 1];
            let message = wire::status(kind::FAILED, stage::PROCESS, sys::EAGAIN.0, 0);
            let _ = sys::send(status, &message, None);
        }
        received.close();
    });
}
