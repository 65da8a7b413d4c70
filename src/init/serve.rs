//! Init's loop: one poll(2) over the spare, the steps that run, and runner.

use crate::dev::{Dev, Pool};
use crate::ending::{self, Begun};
use crate::janitor::Janitor;
use crate::spare::{self, Privileges, Spare};
use crate::sys::{self, Ended, POLLIN, POLLRDHUP, Poll};
use crate::watched::Watched;
use crate::wire::{self, View, kind, stage};
use crate::{CONTROL, wire::REQUEST_DESCRIPTORS};

/// The most steps that run in one container at once; another waits in the socket.
const MAX_STEPS: usize = 1024;

/// Spares that end in a row before one has taken a request, until init gives up for that request.
const MAX_LOST: u32 = 100;

/// A step that runs.
#[derive(Clone, Copy)]
struct Step {
    spare: Spare,
    status: i32,
    /// Its `/dev`, for a step after it.
    dev: Option<Dev>,
    /// It was asked to end.
    asked: bool,
    /// It is to be told so, as soon as a process can be made for that.
    to_tell: bool,
    killed: bool,
}

/// The steps that run.
pub struct Steps {
    all: [Step; MAX_STEPS],
    count: usize,
    /// Processes whose exit status nobody has taken, which have told steps to end.
    messengers: usize,
}

impl Steps {
    const fn new() -> Self {
        let none = Spare { process: -1, number: 0, mounts: -1, pids: -1, is_behind: false };
        let none = Step { spare: none, status: -1, dev: None, asked: true, to_tell: false, killed: true };
        Self { all: [none; MAX_STEPS], count: 0, messengers: 0 }
    }

    fn running(&mut self) -> &mut [Step] {
        &mut self.all[..self.count]
    }

    /// Takes the exit statuses of processes that have told steps to end.
    fn reap_messengers(&mut self, spare: Option<&Spare>) {
        while self.messengers > 0 {
            let Some(ended) = sys::ended_child() else { return };
            if self.running().iter().map(|step| &step.spare).chain(spare).any(|other| other.number == ended) {
                // Its turn comes, and then the others'.
                return;
            }
            let _ = sys::wait(ended);
            self.messengers -= 1;
        }
    }
}

/// Serves requests until runner closes its end of the socket, by a process with these privileges.
pub fn serve(view: &View<'_>, watched: Watched, privileges: Privileges) -> ! {
    let mut steps = Steps::new();
    let mut polled = [Poll { descriptor: -1, events: 0, happened: 0 }; 3 + 2 * MAX_STEPS];
    let mut spare = None;
    let mut devs = Pool::new();
    let mut lost = 0;
    let mut awaited = false;
    // Before anything else takes its place.
    let mut feed = spare::feed().unwrap_or(-1);
    let janitor = if feed < 0 { Janitor::none() } else { Janitor::start() };
    loop {
        if spare.is_none() && !awaited && steps.count < MAX_STEPS {
            spare = make(view, watched, privileges, &mut feed, false, (&mut devs, &janitor));
            // What stands in the way may be gone when the next request comes.
            awaited = spare.is_none();
        }
        let polled_steps = steps.count;
        wait(&mut polled, feed, spare.as_ref(), awaited, &mut steps);
        if polled[0].happened & !POLLIN != 0 {
            sys::exit(0);
        }
        let asked = polled[0].happened & POLLIN != 0;
        steps.reap_messengers(spare.as_ref());
        if let Some(ready @ Spare { process, mounts, pids, .. }) = spare {
            if polled[1].happened != 0 || polled[2].happened != 0 {
                // Also where it has ended: it may have become a step and ended since, between two looks of one poll.
                match spare::receive_begun(feed) {
                    // It ended before it took a request: something killed it, or its view is not whole any more.
                    None if polled[2].happened != 0 => {
                        let _ = sys::reap(process);
                        sys::close(process);
                        sys::close(pids);
                        janitor.take(mounts);
                        lost += 1;
                        awaited = true;
                        spare = None;
                    }
                    None => {}
                    Some(spare::Begun { status, is_behind, dev }) => {
                        let begun = Spare { is_behind, ..ready };
                        // Where no status socket can be received, nobody can learn of the step's end: it is ended at once.
                        let killed = status < 0;
                        steps.all[steps.count] =
                            Step { spare: begun, status, dev, asked: false, to_tell: false, killed };
                        steps.count += 1;
                        if killed {
                            sys::kill(process);
                        }
                        lost = 0;
                        spare = None;
                    }
                }
            }
        } else if asked && awaited {
            if lost < MAX_LOST {
                spare = make(view, watched, privileges, &mut feed, true, (&mut devs, &janitor));
            }
            if spare.is_none() {
                refuse();
                lost = 0;
            }
            awaited = spare.is_none();
        }
        follow(&mut steps, &polled[3..3 + 2 * polled_steps], &janitor, &mut devs, view, || watched.lost(view));
    }
}

/// Makes a spare, and where it is missing the way on which all of them report.
fn make(
    view: &View<'_>,
    watched: Watched,
    privileges: Privileges,
    feed: &mut i32,
    asked: bool,
    (devs, janitor): (&mut Pool, &Janitor),
) -> Option<Spare> {
    if *feed < 0 {
        *feed = spare::feed().ok()?;
    }
    let dev = devs.take();
    let made = spare::make(view, watched, privileges, asked, dev).ok();
    if let (None, Some(dev)) = (&made, dev) {
        devs.put(dev, janitor);
    }
    made
}

fn wait(polled: &mut [Poll], feed: i32, spare: Option<&Spare>, awaited: bool, steps: &mut Steps) {
    /// How often the ends of messengers are looked for, while there are any, and steps told that could not be.
    const AGAIN_MILLISECONDS: i64 = 100;
    let has_messengers = steps.messengers > 0;
    let steps = steps.running();
    let looks_again = has_messengers || steps.iter().any(|step| step.to_tell);
    // The spare reads the requests; init looks for them only while there is none.
    polled[0] = Poll { descriptor: CONTROL, events: POLLRDHUP | if awaited { POLLIN } else { 0 }, happened: 0 };
    polled[1] = Poll { descriptor: feed, events: POLLIN, happened: 0 };
    polled[2] = Poll { descriptor: spare.map_or(-1, |spare| spare.process), events: POLLIN, happened: 0 };
    let (pairs, _) = polled[3..].as_chunks_mut::<2>();
    for (pair, step) in pairs.iter_mut().zip(&*steps) {
        pair[0] = Poll { descriptor: step.spare.process, events: POLLIN, happened: 0 };
        // A closed status socket means that the step is to be killed, and says so once.
        let status = if step.killed { -1 } else { step.status };
        let events = POLLRDHUP | if step.asked { 0 } else { POLLIN };
        pair[1] = Poll { descriptor: status, events, happened: 0 };
    }
    let polled = &mut polled[..3 + 2 * steps.len()];
    let result = if looks_again { sys::poll_for(polled, AGAIN_MILLISECONDS).map(drop) } else { sys::poll(polled) };
    if result.is_err() {
        sys::exit(1);
    }
}

/// Reports the steps that have ended, and ends those that runner wants no more. `polled` has a pair for each step of the
/// last poll; a step that began since stands behind those, and the next poll asks for it. (In the memory behind `polled`
/// are pairs of earlier steps, whose descriptors may have had the numbers that the new step's have.)
fn follow(
    steps: &mut Steps,
    polled: &[Poll],
    janitor: &Janitor,
    devs: &mut Pool,
    view: &View<'_>,
    lost: impl Fn() -> Option<(u64, sys::Errno)>,
) {
    let (pairs, _) = polled.as_chunks::<2>();
    // From the last to the first: one that has ended gives its place to the last of all.
    for (index, [process, status]) in pairs.iter().enumerate().rev() {
        let step = steps.all[index];
        if process.happened != 0 {
            let ended = sys::reap(step.spare.process);
            let (stage, detail) = lost().map_or((0, 0), |(index, _)| (stage::LOST_MOUNT, index));
            let message = match ended {
                Ok(Ended::Exited(code)) => wire::status(kind::EXITED, stage, code, detail),
                Ok(Ended::Signaled(signal)) => wire::status(kind::SIGNALED, stage, signal, detail),
                Err(error) => wire::status(kind::FAILED, stage::PROCESS, error.0, 0),
            };
            janitor.take(step.spare.mounts);
            // A limit of memory counts the files of a step in its `/dev`: they are gone when the next one begins.
            if step.dev.is_some_and(|dev| devs.put_back(dev, view, janitor)) {
                janitor.wait();
            }
            // Runner may have lost interest; and a step that failed to start has reported that itself.
            let _ = sys::send(step.status, &message, &[]);
            sys::close(step.status);
            sys::close(step.spare.process);
            sys::close(step.spare.pids);
            steps.count -= 1;
            steps.all[index] = steps.all[steps.count];
        } else if status.happened & !POLLIN != 0 && !step.killed {
            steps.all[index].killed = true;
            steps.all[index].to_tell = false;
            sys::kill(step.spare.process);
        } else if step.to_tell || status.happened != 0 && !step.asked && is_asked(step.status) {
            let begun = ending::begin(&step.spare, view);
            steps.all[index].asked = true;
            steps.all[index].to_tell = begun == Begun::Later;
            steps.messengers += usize::from(begun == Begun::Watched);
        }
    }
}

/// Whether runner asks for the end of the step of that status socket.
fn is_asked(status: i32) -> bool {
    let mut byte = [0u8; 1];
    sys::receive(status, &mut byte, false).is_ok_and(|received| {
        received.close();
        received.length == wire::END.len() && byte == wire::END
    })
}

/// Takes a request in a spare's place, and answers that no process can be made.
fn refuse() {
    spare::with_request(false, |received, _| {
        let Ok(received) = received else { return };
        if received.count >= REQUEST_DESCRIPTORS {
            let status = received.descriptors[REQUEST_DESCRIPTORS - 1];
            let message = wire::status(kind::FAILED, stage::PROCESS, sys::EAGAIN.0, 0);
            let _ = sys::send(status, &message, &[]);
        }
        received.close();
    });
}
