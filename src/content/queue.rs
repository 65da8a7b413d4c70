//! The remaining tasks of a walk, shared by its threads.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex};

use crate::poison::{self, lock};

/// The tasks, and the number of running ones: each may add more.
#[derive(Debug)]
pub(super) struct Queue<T, E> {
    state: Mutex<State<T, E>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T, E> {
    remaining: VecDeque<T>,
    /// The number of threads that have a task.
    busy: usize,
    failed: Option<E>,
}

impl<T, E> Queue<T, E> {
    pub(super) fn new(first: T) -> Self {
        let state = State { remaining: VecDeque::from([first]), busy: 0, failed: None };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds tasks to be done before all others.
    pub(super) fn push_first(&self, tasks: impl IntoIterator<Item = T>) {
        let mut state = lock(&self.state);
        for task in tasks {
            state.remaining.push_front(task);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Adds tasks to be done after all others.
    pub(super) fn push_last(&self, tasks: impl IntoIterator<Item = T>) {
        lock(&self.state).remaining.extend(tasks);
        self.changed.notify_all();
    }

    /// Does tasks until none remains, or one fails in any thread.
    pub(super) fn work(&self, mut run: impl FnMut(T) -> Result<(), E>) {
        while let Some(task) = self.take() {
            // Dropped however the task ends, so that a panic in one thread does not make the others wait for ever.
            let _busy = Busy(self);
            if let Err(error) = run(task) {
                lock(&self.state).failed.get_or_insert(error);
            }
        }
    }

    /// Returns the first failure.
    pub(super) fn finish(self) -> Result<(), E> {
        let state = poison::into_inner(self.state);
        state.failed.map_or(Ok(()), Err)
    }

    fn take(&self) -> Option<T> {
        let mut state = lock(&self.state);
        loop {
            if state.failed.is_some() {
                return None;
            }
            if let Some(task) = state.remaining.pop_front() {
                state.busy += 1;
                return Some(task);
            }
            if state.busy == 0 {
                return None;
            }
            state = poison::wait(&self.changed, state);
        }
    }
}

struct Busy<'a, T, E>(&'a Queue<T, E>);

impl<T, E> Drop for Busy<'_, T, E> {
    fn drop(&mut self) {
        lock(&self.0.state).busy -= 1;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use super::*;

    #[test]
    fn every_added_task_is_done_once_by_any_number_of_threads() {
        for threads in [1, 2, 7] {
            let (queue, done) = (Queue::<u32, ()>::new(12), AtomicU64::new(0));
            let run = |depth: u32| {
                done.fetch_add(1, Ordering::Relaxed);
                let below = depth.checked_sub(1);
                queue.push_first(below);
                queue.push_last(below);
                Ok(())
            };
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| queue.work(run));
                }
            });
            assert_eq!(queue.finish(), Ok(()));
            assert_eq!(done.into_inner(), (1 << 13) - 1);
        }
    }

    #[test]
    fn a_failure_ends_the_work_of_all_threads() {
        let queue = Queue::new(1);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    queue.work(|number: u64| {
                        queue.push_last([number + 1]);
                        if number < 1000 { Ok(()) } else { Err(number) }
                    });
                });
            }
        });
        assert!(queue.finish().is_err());
    }
}
