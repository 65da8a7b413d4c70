//! The checkpoints of a build by segment: those that it uses or has made, when the next one is due, and why there is none.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rustix::event::{EventfdFlags, epoll, eventfd};

mod pace;

use crate::model::Checkpointing;
use crate::poison::lock;
use crate::store::LayerPin;
use crate::warning::NoCheckpoint;
pub use pace::Due;
use pace::Pace;

/// The checkpoints of all segments of a build.
#[derive(Debug, Default)]
pub struct Checkpoints(Mutex<HashMap<usize, OfSegment>>);

#[derive(Debug, Default)]
struct OfSegment {
    pins: Vec<LayerPin>,
    pace: Pace,
    /// The number of steps whose changes are in the last one in the store.
    steps: usize,
    /// The snapshot above them is in the store.
    are_over: bool,
    /// Becomes readable when they are over. Made when the first image is written.
    over: Option<OwnedFd>,
    /// Why there was none after the last step that one was due after.
    why_not: Option<NoCheckpoint>,
}

impl Checkpoints {
    /// Whether one is due after a step of the segment that took so long.
    pub fn due(&self, segment: usize, checkpointing: Checkpointing, took: Duration) -> Due {
        self.with(segment, |of| of.pace.after(checkpointing, took))
    }

    /// The changes are copied.
    pub fn copied(&self, segment: usize) {
        self.with(segment, |of| {
            of.pace.copied();
            of.why_not = None;
        });
    }

    /// There is no checkpoint after a step that one was due after.
    pub fn missed(&self, segment: usize, why: NoCheckpoint) {
        self.with(segment, |of| {
            if matches!(why, NoCheckpoint::Dear) {
                of.pace.abandoned();
            }
            of.why_not = Some(why);
        });
    }

    /// Keeps one, of so many steps, in the store until the segment is there. Returns false where the segment is there already.
    pub fn pin(&self, segment: usize, steps: usize, pin: LayerPin) -> bool {
        self.with(segment, |of| {
            if !of.are_over {
                of.pins.push(pin);
                of.steps = of.steps.max(steps);
            }
            !of.are_over
        })
    }

    /// Returns the number of steps whose changes are in the last one in the store, and the reason why there is no later one.
    pub fn last(&self, segment: usize) -> (usize, Option<NoCheckpoint>) {
        self.with(segment, |of| (of.steps, of.why_not.clone()))
    }

    /// The snapshot above the checkpoints of a segment is in the store: nobody here uses them any more, and none that is
    /// being written is needed.
    pub fn end(&self, segment: usize) {
        self.with(segment, |of| {
            of.are_over = true;
            of.pins.clear();
            if let Some(over) = &of.over {
                // Nobody reads it, and a first one always fits.
                let _ = rustix::io::write(over, &1u64.to_ne_bytes());
            }
        });
    }

    /// Whether the snapshot above the checkpoints of a segment is in the store.
    pub fn are_over(&self, segment: usize) -> bool {
        self.with(segment, |of| of.are_over)
    }

    /// Something that is readable when `interrupt` is, or the checkpoints of the segment are over.
    ///
    /// # Errors
    /// Those of epoll_create1(2), epoll_ctl(2) and eventfd(2).
    pub fn until_over(&self, segment: usize, interrupt: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let both = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let add = |descriptor: BorrowedFd<'_>| {
            epoll::add(&both, descriptor, epoll::EventData::new_u64(0), epoll::EventFlags::IN)
        };
        add(interrupt)?;
        self.with(segment, |of| {
            let over = match of.over.take() {
                Some(over) => over,
                None => eventfd(u32::from(of.are_over), EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            };
            let added = add(std::os::fd::AsFd::as_fd(&over));
            of.over = Some(over);
            added.map_err(io::Error::from)
        })?;
        Ok(both)
    }

    fn with<T>(&self, segment: usize, work: impl FnOnce(&mut OfSegment) -> T) -> T {
        work(self.lock().entry(segment).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<usize, OfSegment>> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_readable(descriptor: &OwnedFd) -> bool {
        let mut polled = [PollFd::new(descriptor, PollFlags::IN)];
        poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
    }

    #[test]
    fn the_writing_of_one_ends_at_an_interrupt_and_when_the_snapshot_is_there() {
        let (interrupt, raise) = io::pipe().unwrap();
        let checkpoints = Checkpoints::default();
        let of = |segment| checkpoints.until_over(segment, interrupt.as_fd()).unwrap();
        let (one, two) = (of(1), of(2));
        assert_eq!([&one, &two].map(is_readable), [false, false]);
        checkpoints.end(1);
        assert_eq!([&one, &two, &of(1), &of(2)].map(is_readable), [true, false, true, false]);
        rustix::io::write(&raise, b"x").unwrap();
        assert!(is_readable(&two));
        checkpoints.end(3);
        assert!(is_readable(&of(3)));
    }
}
