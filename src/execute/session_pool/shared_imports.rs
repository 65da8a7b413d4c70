//! Sources that several containers begin with: one thread imports a source, and the others wait for it.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::poison::lock;

/// The imports by the names of their sources.
#[derive(Debug, Default)]
pub(super) struct SharedImports(Mutex<HashMap<String, Arc<Turn>>>);

#[derive(Debug, Default)]
struct Turn {
    /// The number of imports that failed.
    failures: AtomicU64,
    /// Locked by the thread that imports; the last failure.
    failure: Mutex<Option<(io::ErrorKind, String)>>,
}

impl SharedImports {
    /// Imports a source, or waits where another thread imports it. After its success `import` finds the source in the store; its
    /// failure is that of all that wait, and a later call tries again.
    ///
    /// # Errors
    /// Those of `import`.
    pub(super) fn import<T>(&self, source: String, import: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let turn = Arc::clone(lock(&self.0).entry(source).or_default());
        let before = turn.failures.load(Ordering::SeqCst);
        let mut failure = lock(&turn.failure);
        if let Some((kind, text)) = failure.as_ref().filter(|_| turn.failures.load(Ordering::SeqCst) != before) {
            return Err(io::Error::new(*kind, text.clone()));
        }
        let result = import();
        if let Err(error) = &result {
            *failure = Some((error.kind(), error.to_string()));
            turn.failures.fetch_add(1, Ordering::SeqCst);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_failure_is_that_of_all_that_wait_and_a_later_call_tries_again() {
        let (imports, tries) = (SharedImports::default(), AtomicUsize::new(0));
        let begun = || io::Error::new(io::ErrorKind::TimedOut, "no answer");
        let fail = || {
            imports.import("debian:12".into(), || {
                tries.fetch_add(1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(300));
                Err::<(), _>(begun())
            })
        };
        let errors: Vec<String> = thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(|| fail().unwrap_err().to_string())).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(errors, ["no answer"; 4]);
        assert_eq!(tries.load(Ordering::SeqCst), 1);
        assert_eq!(imports.import("debian:12".into(), || Ok(7)).unwrap(), 7);
        fail().unwrap_err();
        assert_eq!(tries.load(Ordering::SeqCst), 2);
    }
}
