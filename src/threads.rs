//! Threads that the host may refuse, at a limit of processes: then fewer of them do the same work.

use std::collections::VecDeque;
use std::io;
use std::panic::resume_unwind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, Builder, JoinHandle, Scope};

use crate::error::context;
use crate::poison::{self, lock};

/// The thread that does a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// A thread of its own.
    ItsOwn,
    /// The caller's thread.
    Callers,
}

type Job<'s> = Box<dyn FnOnce(On) + Send + 's>;

/// Threads that do one job after another: starting and ending a thread takes longer than many a job.
#[derive(Clone)]
pub struct Crew<'s, 'e> {
    scope: &'s Scope<'s, 'e>,
    queue: Arc<Queue<'s>>,
    /// The most threads.
    max_threads: usize,
}

struct Queue<'s> {
    state: Mutex<State<'s>>,
    changed: Condvar,
}

struct State<'s> {
    jobs: VecDeque<Job<'s>>,
    /// The threads that wait for a job; as many of them as there are jobs have been woken.
    idle: usize,
    threads: usize,
    is_dismissed: bool,
}

/// Ends the threads of a crew when they have done their jobs, so that their scope can end.
pub struct Dismissal<'s>(Arc<Queue<'s>>);

impl<'s, 'e> Crew<'s, 'e> {
    /// Returns a crew of as many threads as there are jobs at once, which end when the second value is dropped.
    pub fn new(scope: &'s Scope<'s, 'e>) -> (Self, Dismissal<'s>) {
        Self::bounded(scope, usize::MAX)
    }

    /// Returns a crew of at most so many threads, for jobs that wait for no other one.
    pub fn bounded(scope: &'s Scope<'s, 'e>, max_threads: usize) -> (Self, Dismissal<'s>) {
        let state = State { jobs: VecDeque::new(), idle: 0, threads: 0, is_dismissed: false };
        let queue = Arc::new(Queue { state: Mutex::new(state), changed: Condvar::new() });
        (Self { scope, queue: Arc::clone(&queue), max_threads }, Dismissal(queue))
    }

    /// Does a job on a thread of its own, or at once on the caller's where the host refuses one. In a bounded crew the job waits
    /// for a thread.
    ///
    /// The job must not wait for its caller.
    pub fn hand(&self, job: impl FnOnce(On) + Send + 's) {
        let job: Job<'s> = Box::new(job);
        let mut state = self.queue.state();
        if state.idle > state.jobs.len() || state.threads >= self.max_threads {
            state.jobs.push_back(job);
            drop(state);
            self.queue.changed.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        // A failed spawn drops its closure; a second handle preserves the job.
        let shared = Arc::new(Mutex::new(Some(job)));
        let take = |job: &Mutex<Option<Job<'s>>>| lock(job).take();
        let (theirs, queue) = (Arc::clone(&shared), Arc::clone(&self.queue));
        let work = move || {
            let mut next = take(&theirs);
            while let Some(job) = next {
                job(On::ItsOwn);
                next = queue.next();
            }
        };
        if Builder::new().spawn_scoped(self.scope, work).is_err()
            && let Some(job) = take(&shared)
        {
            self.queue.state().threads -= 1;
            job(On::Callers);
        }
    }
}

impl<'s> Queue<'s> {
    fn state(&self) -> MutexGuard<'_, State<'s>> {
        lock(&self.state)
    }

    /// Waits for a job; none when the crew is dismissed.
    fn next(&self) -> Option<Job<'s>> {
        let mut state = self.state();
        state.idle += 1;
        loop {
            if let Some(job) = state.jobs.pop_front() {
                state.idle -= 1;
                return Some(job);
            }
            if state.is_dismissed {
                return None;
            }
            state = poison::wait(&self.changed, state);
        }
    }
}

impl Drop for Dismissal<'_> {
    fn drop(&mut self) {
        self.0.state().is_dismissed = true;
        self.0.changed.notify_all();
    }
}

/// Does the same work on that many threads, or fewer; on the caller's where none can be made. Returns each one's
/// result.
pub fn share<T: Send>(max_threads: usize, work: impl Fn(On) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let spawn = || Builder::new().spawn_scoped(scope, || work(On::ItsOwn)).ok();
        let threads: Vec<_> = (0..max_threads).map_while(|_| spawn()).collect();
        if threads.is_empty() {
            return vec![work(On::Callers)];
        }
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Starts a thread without which runner cannot work.
///
/// # Errors
/// Where no thread can be made.
pub fn start<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).spawn(work).map_err(context(format_args!("start the thread `{name}`")))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Barrier, mpsc};

    use super::*;

    #[test]
    fn each_job_is_done_once_before_the_scope_ends_even_if_a_job_adds_it() {
        let done = AtomicUsize::new(0);
        thread::scope(|scope| {
            let (crew, _dismissal) = Crew::new(scope);
            for _ in 0..10 {
                let others = crew.clone();
                let done = &done;
                crew.hand(move |_| {
                    done.fetch_add(1, Ordering::Relaxed);
                    others.hand(move |_| {
                        done.fetch_add(1, Ordering::Relaxed);
                    });
                });
            }
        });
        assert_eq!(done.into_inner(), 20);
    }

    #[test]
    fn jobs_run_in_parallel_and_an_idle_thread_takes_the_next() {
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            let (crew, _dismissal) = Crew::new(scope);
            let both = Arc::new(Barrier::new(2));
            for _ in 0..2 {
                let (both, sender) = (Arc::clone(&both), sender.clone());
                crew.hand(move |on| {
                    both.wait();
                    sender.send((on, thread::current().id())).unwrap();
                });
            }
            let first = [receiver.recv().unwrap(), receiver.recv().unwrap()];
            assert!(first.iter().all(|(on, _)| *on == On::ItsOwn) && first[0].1 != first[1].1);
            while crew.queue.state().idle < 2 {
                thread::yield_now();
            }
            crew.hand(move |_| sender.send((On::ItsOwn, thread::current().id())).unwrap());
            let next = receiver.recv().unwrap();
            assert!(first.contains(&next), "{next:?} {first:?}");
        });
    }

    #[test]
    fn a_bounded_crew_does_all_jobs_with_no_more_threads() {
        let (running, max_threads) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let done = AtomicUsize::new(0);
        thread::scope(|scope| {
            let (crew, _dismissal) = Crew::bounded(scope, 3);
            for _ in 0..50 {
                let (running, max_threads, done) = (&running, &max_threads, &done);
                crew.hand(move |_| {
                    max_threads.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                    done.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(done.into_inner(), 50);
        assert!((1..=3).contains(&max_threads.into_inner()));
    }

    #[test]
    fn shared_work_is_done_by_each_thread_or_else_by_the_caller() {
        assert_eq!(share(3, |on| on), [On::ItsOwn; 3]);
        assert_eq!(share(0, |on| (on, thread::current().id())), [(On::Callers, thread::current().id())]);
    }

    #[test]
    fn a_started_thread_returns_its_result() {
        assert_eq!(start("name", || 7).unwrap().join().unwrap(), 7);
    }
}
