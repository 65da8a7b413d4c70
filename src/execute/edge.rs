//! Guards the threads of a run: reports a panic as a failure, so that the run does not wait for a report that never
//! comes.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::failure::Failure;
use super::interrupt::Interrupt;

/// Catches the panics of a run's threads.
#[derive(Debug, Default)]
pub(super) struct Edge {
    panicked: AtomicBool,
}

impl Edge {
    /// Does the work of a thread. Its locks are released when this returns. Its incomplete changes belong to the run,
    /// which ends.
    ///
    /// # Errors
    /// The failure of the work; for a panic, one that says that runner is to blame.
    pub(super) fn guard<T>(&self, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            self.panicked.store(true, Ordering::SeqCst);
            Err(Failure::host(format!("runner has a bug, please report it: {}", words(&*panic))))
        })
    }

    /// Whether a thread has panicked.
    pub(super) fn has_panicked(&self) -> bool {
        self.panicked.load(Ordering::SeqCst)
    }
}

/// Returns the words of a panic.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "a panic".to_owned())
}

/// Interrupts the run's other threads, where the thread of the dispatcher panics.
pub(super) struct EndsWithPanic<'a>(pub(super) &'a Interrupt);

impl Drop for EndsWithPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.set();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::poison;
    use crate::threads::Crew;

    #[test]
    fn a_panic_of_a_thread_is_a_failure_and_releases_its_locks() {
        let (sender, receiver) = mpsc::channel();
        let (edge, lock) = (Edge::default(), std::sync::RwLock::new(0));
        thread::scope(|scope| {
            let (crew, _dismissal) = Crew::new(scope);
            for panics in [false, true] {
                let (edge, lock, sender) = (&edge, &lock, sender.clone());
                crew.hand(move |_| {
                    let result = edge.guard(|| {
                        let _locked = poison::write(lock);
                        assert!(!panics, "panics {panics}");
                        Ok(7)
                    });
                    sender.send(result.map_err(|failure| failure.reason)).unwrap();
                });
            }
        });
        drop(sender);
        let mut results: Vec<_> = receiver.into_iter().collect();
        results.sort();
        assert_eq!(results, [Ok(7), Err("runner has a bug, please report it: panics true".to_owned())]);
        assert!(
            edge.has_panicked()
                && lock.try_write().is_err_and(|error| matches!(error, std::sync::TryLockError::Poisoned(_)))
        );
    }

    #[test]
    fn a_panic_of_the_dispatcher_interrupts_the_other_threads() {
        let interrupt = Interrupt::new().unwrap();
        let decide = |panics: bool| {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let _ends = EndsWithPanic(&interrupt);
                assert!(!panics);
            }));
            (caught.is_err(), interrupt.is_set())
        };
        assert_eq!(decide(false), (false, false));
        assert_eq!(decide(true), (true, true));
    }
}
