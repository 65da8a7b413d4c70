//! Reports files that take long to read, so that the user knows the cause of the delay.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The size from which a file is reported: reading and hashing it takes ten seconds or more, with data or holes.
const MIN_SIZE: u64 = 16 << 30;

/// A function that is called with the path and the size of a large file before it is read.
#[derive(Clone, Default)]
pub struct LongRead(Option<Arc<Report>>);

type Report = dyn Fn(&Path, u64) + Send + Sync;

impl LongRead {
    /// Makes one that calls this function.
    pub fn reported_by(report: impl Fn(&Path, u64) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(report)))
    }

    pub(super) fn begins(&self, path: impl FnOnce() -> std::path::PathBuf, size: u64) {
        if let Some(report) = self.0.as_ref().filter(|_| size >= MIN_SIZE) {
            report(&path(), size);
        }
    }
}

impl fmt::Debug for LongRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LongRead").field(&self.0.is_some()).finish()
    }
}
