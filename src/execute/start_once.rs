//! What steps that run at once share: started by the first of them, for which the others wait, and for nothing else.

use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Something that is started once and then shared, or had alone.
#[derive(Debug)]
pub struct StartOnce<T> {
    value: RwLock<T>,
    /// Whoever starts it.
    starting: Mutex<()>,
}

impl<T> StartOnce<T> {
    /// Not started yet.
    pub fn new(value: T) -> Self {
        Self { value: RwLock::new(value), starting: Mutex::new(()) }
    }

    /// To be had with others who have it started.
    ///
    /// # Errors
    /// What `start` gives.
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
        // To wait for the value itself, so as to start it, would be to wait for the end of all who have it by then.
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = self.read();
        if is_started(&shared) {
            return Ok(shared);
        }
        drop(shared);
        start(&mut *self.alone())?;
        Ok(self.read())
    }

    /// To be looked at.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be had alone, when all who share it have ended.
    pub fn alone(&self) -> RwLockWriteGuard<'_, T> {
        self.value.write().unwrap_or_else(PoisonError::into_inner)
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
    fn who_found_it_not_started_waits_for_its_start_and_not_for_the_end_of_who_started_it() {
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
