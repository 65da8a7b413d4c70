//! The queue of events from the working threads to the reporting thread: in order, and in bounded memory.
//!
//! A sender waits for room. A thread that follows a step then reads no more of its output, so a step that prints
//! faster than the reporters show waits in write(2), as it would with a pipe of a shell.

use std::borrow::Cow;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Instant, SystemTime};

use super::Event;
use crate::poison::{self, lock};
use crate::secret::Secrets;
use crate::warning::Warning;

/// The number of events that may wait to be shown.
const MAX_WAITING: usize = 4096;

/// The bytes of output lines that may wait to be shown.
const MAX_WAITING_BYTES: usize = 4 << 20;

/// An event and its time.
#[derive(Debug)]
pub struct Stamped {
    /// The time of the event.
    pub time: SystemTime,
    /// The same on a clock that nobody sets.
    pub at: Instant,
    /// The event.
    pub event: Event,
    /// The bytes reserved in the queue, released when the event has been shown.
    _reserved: Option<ReservedBytes>,
}

impl Stamped {
    /// Returns an event that was not in the queue.
    pub fn new(time: SystemTime, event: Event) -> Self {
        Self { time, at: Instant::now(), event, _reserved: None }
    }
}

/// The room for waiting lines.
#[derive(Debug, Default)]
struct Room {
    used_bytes: Mutex<usize>,
    released: Condvar,
}

impl Room {
    /// Waits until these bytes have room. A line that is longer than the whole room waits until it is empty.
    fn reserve(self: &Arc<Self>, bytes: usize) -> ReservedBytes {
        let mut used_bytes = lock(&self.used_bytes);
        while *used_bytes > 0 && *used_bytes + bytes > MAX_WAITING_BYTES {
            used_bytes = poison::wait(&self.released, used_bytes);
        }
        *used_bytes += bytes;
        ReservedBytes { room: Arc::clone(self), bytes }
    }
}

/// Bytes reserved in the room.
#[derive(Debug)]
struct ReservedBytes {
    room: Arc<Room>,
    bytes: usize,
}

impl Drop for ReservedBytes {
    fn drop(&mut self) {
        *lock(&self.room.used_bytes) -= self.bytes;
        self.room.released.notify_one();
    }
}

/// The sending end of the queue, one for each working thread.
#[derive(Debug, Clone)]
pub struct Events {
    sender: mpsc::SyncSender<Stamped>,
    room: Arc<Room>,
    secrets: Arc<Secrets>,
}

impl Events {
    /// Returns the two ends of a new queue.
    pub fn channel() -> (Self, mpsc::Receiver<Stamped>) {
        let (sender, receiver) = mpsc::sync_channel(MAX_WAITING);
        (Self { sender, room: Arc::default(), secrets: Arc::default() }, receiver)
    }

    /// Masks these secrets in warnings and reasons. The output of steps is already masked: a secret may span several
    /// lines.
    #[must_use]
    pub fn masking(self, secrets: &Arc<Secrets>) -> Self {
        Self { secrets: Arc::clone(secrets), ..self }
    }

    /// Sends an event with the current time. If the reporter has ended, the event is lost: no work depends on the
    /// display.
    pub fn send(&self, mut event: Event) {
        if let Event::Warning { message: words, .. }
        | Event::RequestWaits { reason: words, .. }
        | Event::StepFinished { reason: Some(words), .. } = &mut event
            && let Cow::Owned(masked) = self.secrets.text(words)
        {
            *words = masked;
        }
        let room = match &event {
            Event::StepOutput { line, .. } | Event::StepLineGrows { line, .. } => Some(self.room.reserve(line.len())),
            _ => None,
        };
        let _ = self.sender.send(Stamped { _reserved: room, ..Stamped::new(SystemTime::now(), event) });
    }

    /// Sends a warning, with the step that it is about, if there is one.
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
    fn waiting_long_lines_take_bounded_memory_and_all_arrive() {
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
            let used_bytes = *room.used_bytes.lock().unwrap();
            assert!(used_bytes <= MAX_WAITING_BYTES || arrived == 65, "{used_bytes} bytes wait");
            // The event that was received, those in the room, and one that has just left it.
            assert!(sent.load(Ordering::Relaxed) <= arrived + MAX_WAITING_BYTES / LINE + 1);
            drop(stamped);
        }
        sender.join().unwrap();
        assert_eq!((arrived, *room.used_bytes.lock().unwrap()), (65, 0));
    }

    #[test]
    fn a_sender_does_not_wait_for_a_reporter_that_has_ended() {
        let (events, receiver) = Events::channel();
        events.send(line(MAX_WAITING_BYTES));
        let waits = thread::spawn(move || (0..10).for_each(|_| events.send(line(MAX_WAITING_BYTES))));
        drop(receiver);
        waits.join().unwrap();
    }
}
