//! A value that concurrent steps share: the first of them starts it, and the others wait only for the start.

use std::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::poison::{self, lock};

/// A value that is started once and then shared, or used exclusively.
#[derive(Debug)]
pub struct StartOnce<T> {
    value: RwLock<T>,
    /// Locked by the thread that starts it.
    starting: Mutex<()>,
}

impl<T> StartOnce<T> {
    /// Makes a value that is not started.
    pub fn new(value: T) -> Self {
        Self { value: RwLock::new(value), starting: Mutex::new(()) }
    }

    /// Returns the started value, shared with others.
    ///
    /// # Errors
    /// Those of `start`.
    pub fn started<E>(
        &self,
        is_started: impl Fn(&T) -> bool,
        start: impl FnOnce(&mut T) -> Result<(), E>,
    ) -> Result<RwLockReadGuard<'_, T>, E> {
        let shared = self.read();
        if is_started(&shared) {
            return Ok(shared);
        }
        drop(shared);
        // Waiting for exclusive access before the start would wait for the end of all threads that share the value by
        // then.
        let _starting = lock(&self.starting);
        let shared = self.read();
        if is_started(&shared) {
            return Ok(shared);
        }
        drop(shared);
        start(&mut *self.exclusive())?;
        Ok(self.read())
    }

    /// Returns the value, started or not, for reading.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        poison::read(&self.value)
    }

    /// Returns the value exclusively, when all threads that share it have finished.
    pub fn exclusive(&self) -> RwLockWriteGuard<'_, T> {
        poison::write(&self.value)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;
    use std::sync::{Barrier, mpsc};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_second_caller_waits_for_startup_not_for_the_first_callers_exit() {
        let shared = StartOnce::new(0);
        let both_have_looked = Barrier::new(2);
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            let mut ends = Vec::new();
            for _ in 0..2 {
                let (sender, shared, both_have_looked) = (sender.clone(), &shared, &both_have_looked);
                let (end, ended) = mpsc::channel::<()>();
                ends.push(end);
                scope.spawn(move || {
                    let has_looked = Cell::new(false);
                    let is_started = |value: &i32| {
                        if !has_looked.replace(true) {
                            both_have_looked.wait();
                        }
                        *value > 0
                    };
                    let start = |value: &mut i32| {
                        *value += 1;
                        Ok::<_, Infallible>(())
                    };
                    let Ok(had) = shared.started(is_started, start);
                    sender.send(*had).unwrap();
                    let _ = ended.recv();
                });
            }
            let had = [(); 2].map(|()| receiver.recv_timeout(Duration::from_secs(60)));
            drop(ends);
            assert_eq!(had, [Ok(1), Ok(1)], "each has it while the other does, started once");
        });
    }
}
