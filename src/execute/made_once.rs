//! Values that are made once each, at the first request: those of different names at the same time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::poison::lock;

/// The values by name. Making a value locks that value, and not the map.
#[derive(Debug)]
pub struct MadeOnce<T>(Mutex<HashMap<String, Arc<Mutex<Option<T>>>>>);

impl<T> Default for MadeOnce<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> MadeOnce<T> {
    /// Returns the value of a name, and makes it where it is not made yet. Waits where another thread makes it.
    ///
    /// # Errors
    /// Those of `make`; the next request makes it again.
    pub fn get<E>(&self, name: String, make: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let value = Arc::clone(lock(&self.0).entry(name).or_default());
        let mut value = lock(&value);
        if let Some(made) = &*value {
            return Ok(made.clone());
        }
        let made = make()?;
        *value = Some(made.clone());
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn values_of_two_names_are_made_at_the_same_time() {
        let made = MadeOnce::default();
        thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            let made = &made;
            let other = scope.spawn(move || made.get("a".into(), || receiver.recv_timeout(Duration::from_secs(60))));
            made.get("b".into(), || sender.send(1).map(|()| 2)).unwrap();
            assert_eq!(other.join().unwrap(), Ok(1));
        });
        assert_eq!(made.get("b".into(), || Err(())), Ok(2));
    }

    #[test]
    fn one_of_many_requests_makes_a_value_and_a_failed_one_leaves_it_to_the_next() {
        let made = MadeOnce::default();
        assert_eq!(made.get("a".into(), || Err("full")), Err("full"));
        let count = Mutex::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    made.get("a".into(), || {
                        *count.lock().unwrap() += 1;
                        Ok::<_, ()>(7)
                    })
                });
            }
        });
        assert_eq!((*count.lock().unwrap(), made.get("a".into(), || Err(()))), (1, Ok(7)));
    }
}
