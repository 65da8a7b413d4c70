//! Locks that a thread held when it panicked: the panic ends the build and is reported, and until then other threads use the
//! values all the same.

use std::sync::{Condvar, LockResult, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Locks a mutex.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    usable(mutex.lock())
}

/// Locks a value, to read it.
pub fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    usable(lock.read())
}

/// Locks a value, to write to it.
pub fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    usable(lock.write())
}

/// Waits until the condition is notified.
pub fn wait<'m, T>(condition: &Condvar, guard: MutexGuard<'m, T>) -> MutexGuard<'m, T> {
    usable(condition.wait(guard))
}

/// Returns the value of a mutex that no thread shares any more.
pub fn into_inner<T>(mutex: Mutex<T>) -> T {
    usable(mutex.into_inner())
}

fn usable<T>(result: LockResult<T>) -> T {
    result.unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_whose_lock_a_panicked_thread_held_is_used_all_the_same() {
        let (mutex, shared) = (Mutex::new(1), RwLock::new(1));
        std::thread::scope(|scope| {
            let panics = scope.spawn(|| {
                let (_held, _written) = (mutex.lock().unwrap(), shared.write().unwrap());
                panic!("on purpose");
            });
            assert!(panics.join().is_err());
        });
        *lock(&mutex) += 1;
        *write(&shared) += 1;
        assert_eq!((*read(&shared), into_inner(mutex)), (2, 2));
    }
}
