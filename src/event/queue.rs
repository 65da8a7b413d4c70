//! The queue from the threads that work to the one that shows: events in order, in bounded memory.
//!
//! A sender waits for room. A thread that follows a step reads no more of its output meanwhile, so a step that prints
//! faster than anybody reads waits in write(2), as it would with a pipe of a shell.

use std::borrow::Cow;
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::SystemTime;

use super::Event;
use crate::secret::Secrets;
use crate::warning::Warning;

/// How many events may wait to be shown.
const MAX_WAITING: usize = 4096;

/// How many bytes of the lines of steps may wait to be shown.
const MAX_WAITING_BYTES: usize = 4 << 20;

/// An event and when it happened.
#[derive(Debug)]
pub struct Stamped {
    /// When.
    pub time: SystemTime,
    /// What.
    pub event: Event,
    /// Given back when the event has been shown.
    _room: Option<Taken>,
}

impl Stamped {
    /// An event that was not in the queue.
    #[cfg(test)]
    pub fn new(time: SystemTime, event: Event) -> Self {
        Self { time, event, _room: None }
    }
}

/// The room for lines that wait.
#[derive(Debug, Default)]
struct Room {
    taken: Mutex<usize>,
    given_back: Condvar,
}

impl Room {
    /// Waits until these bytes have room. A line that is longer than all of it is alone there.
    fn take(self: &Arc<Self>, bytes: usize) -> Taken {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while *taken > 0 && *taken + bytes > MAX_WAITING_BYTES {
            taken = self.given_back.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken += bytes;
        Taken { room: Arc::clone(self), bytes }
    }
}

/// A part of the room.
#[derive(Debug)]
struct Taken {
    room: Arc<Room>,
    bytes: usize,
}

impl Drop for Taken {
    fn drop(&mut self) {
        *self.room.taken.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.room.given_back.notify_one();
    }
}

/// The sending end, one for each thread that works.
#[derive(Debug, Clone)]
pub struct Events {
    sender: mpsc::SyncSender<Stamped>,
    room: Arc<Room>,
    secrets: Arc<Secrets>,
}

impl Events {
    /// A channel: what is sent to the first comes out of the second, in order.
    pub fn channel() -> (Self, mpsc::Receiver<Stamped>) {
        let (sender, receiver) = mpsc::sync_channel(MAX_WAITING);
        (Self { sender, room: Arc::default(), secrets: Arc::default() }, receiver)
    }

    /// Masks these secrets in the words of what is sent. The lines of steps come masked: a secret may have several.
    #[must_use]
    pub fn masking(self, secrets: &Arc<Secrets>) -> Self {
        Self { secrets: Arc::clone(secrets), ..self }
    }

    /// Sends an event, with the time of now. A reporter that has gone away loses it: nothing of the work depends on
    /// being seen.
    pub fn send(&self, mut event: Event) {
        if let Event::Warning { message: words, .. } | Event::StepFinished { reason: Some(words), .. } = &mut event
            && let Cow::Owned(masked) = self.secrets.text(words)
        {
            *words = masked;
        }
        let room = match &event {
            Event::StepOutput { line, .. } | Event::StepLineGrows { line, .. } => Some(self.room.take(line.len())),
            _ => None,
        };
        let _ = self.sender.send(Stamped { time: SystemTime::now(), event, _room: room });
    }

    /// Sends a warning, of a step if it is about one.
    pub fn warn(&self, step: Option<&str>, warning: &Warning) {
        self.send(Event::Warning { step: step.map(str::to_owned), message: warning.to_string() });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::event::Stream;

    fn line(bytes: usize) -> Event {
        Event::StepOutput { step: "s".into(), stream: Stream::Stdout, line: "x".repeat(bytes) }
    }

    #[test]
    fn long_lines_that_wait_take_bounded_memory_and_all_arrive() {
        const LINE: usize = 1 << 20;
        let (events, receiver) = Events::channel();
        let sent = Arc::new(AtomicUsize::new(0));
        let room = Arc::clone(&events.room);
        let counted = Arc::clone(&sent);
        let sender = thread::spawn(move || {
            for _ in 0..64 {
                events.send(line(LINE));
                counted.fetch_add(1, Ordering::Relaxed);
            }
            events.send(line(2 * MAX_WAITING_BYTES));
        });
        let mut arrived = 0;
        for stamped in receiver {
            arrived += 1;
            let taken = *room.taken.lock().unwrap();
            assert!(taken <= MAX_WAITING_BYTES || arrived == 65, "{taken} bytes wait");
            // The one that is looked at, those in the room, and one that has just left it.
            assert!(sent.load(Ordering::Relaxed) <= arrived + MAX_WAITING_BYTES / LINE + 1);
            drop(stamped);
        }
        sender.join().unwrap();
        assert_eq!((arrived, *room.taken.lock().unwrap()), (65, 0));
    }

    #[test]
    fn a_sender_does_not_wait_for_a_reporter_that_is_gone() {
        let (events, receiver) = Events::channel();
        events.send(line(MAX_WAITING_BYTES));
        let waits = thread::spawn(move || (0..10).for_each(|_| events.send(line(MAX_WAITING_BYTES))));
        drop(receiver);
        waits.join().unwrap();
    }
}
