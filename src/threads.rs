//! Threads that the host may refuse, at a limit of processes: fewer of them do the same work then.

use std::io;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Builder, JoinHandle, Scope};

use crate::error::doing;

/// Where work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// On a thread that was made for it, and ends with it.
    ItsOwn,
    /// On the caller's.
    Callers,
}

/// Does work on a thread of its own, or at once on the caller's where the host refuses one.
///
/// The work must not wait for its caller.
pub fn beside<'s>(scope: &'s Scope<'s, '_>, work: impl FnOnce(On) + Send + 's) {
    // A failed spawn drops its closure; a second handle keeps the work.
    let shared = Arc::new(Mutex::new(Some(work)));
    let theirs = Arc::clone(&shared);
    let take = |work: &Mutex<Option<_>>| work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let run = move || {
        if let Some(work) = take(&theirs) {
            work(On::ItsOwn);
        }
    };
    if Builder::new().spawn_scoped(scope, run).is_err()
        && let Some(work) = take(&shared)
    {
        work(On::Callers);
    }
}

/// Does the same work on that many threads, or fewer; on the caller's where none can be made. Returns each one's
/// result.
pub fn share<T: Send>(most: usize, work: impl Fn(On) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let spawn = || Builder::new().spawn_scoped(scope, || work(On::ItsOwn)).ok();
        let threads: Vec<_> = (0..most).map_while(|_| spawn()).collect();
        if threads.is_empty() {
            return vec![work(On::Callers)];
        }
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Starts a thread that nothing else can stand in for.
///
/// # Errors
/// Where no thread can be made.
pub fn start<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(work).map_err(doing(format_args!("start the thread `{name}`")))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn work_beside_the_caller_is_done_once_before_the_scope_ends() {
        let done = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..10 {
                beside(scope, |_| {
                    done.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(done.into_inner(), 10);
    }

    #[test]
    fn shared_work_is_done_by_each_thread_and_by_the_caller_where_there_is_none() {
        assert_eq!(share(3, |on| on), [On::ItsOwn; 3]);
        assert_eq!(share(0, |on| (on, thread::current().id())), [(On::Callers, thread::current().id())]);
    }

    #[test]
    fn a_thread_gives_what_it_did() {
        assert_eq!(start("name", || 7).unwrap().join().unwrap(), 7);
    }
}
