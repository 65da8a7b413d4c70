//! Files that take so long to read that the user is to know which one it is.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A file of this size takes ten seconds or more to read and to hash, whether it has data or holes.
const LONG: u64 = 16 << 30;

/// Is called with the path and the size of a file before that is read, where that takes long.
#[derive(Clone, Default)]
pub struct LongRead(Option<Arc<Report>>);

type Report = dyn Fn(&Path, u64) + Send + Sync;

impl LongRead {
    /// Calls that.
    pub fn reported_by(report: impl Fn(&Path, u64) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(report)))
    }

    pub(super) fn begins(&self, path: impl FnOnce() -> std::path::PathBuf, size: u64) {
        if let Some(report) = self.0.as_ref().filter(|_| size >= LONG) {
            report(&path(), size);
        }
    }
}

impl fmt::Debug for LongRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LongRead").field(&self.0.is_some()).finish()
    }
}
