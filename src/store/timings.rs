//! How long the steps of a build took: what the next run is estimated by, and nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::io as failed;
use super::{Store, StoreError};
use crate::digest::Digest;
use crate::fs::atomic;
use crate::fs::regular::{self, MOST_OF_OURS};

/// By the step's name.
pub type Timings = BTreeMap<String, Timing>;

/// How long a step took when it last ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Milliseconds from its beginning until what needs it could begin.
    pub next_ms: u64,
    /// Milliseconds from its beginning to its end. That is later only for an image that was written while others ran.
    pub end_ms: u64,
}

impl Store {
    /// Of a build. A file that is damaged or none of ours is as good as none.
    pub fn timings(&self, build: &str) -> Timings {
        let read = || serde_json::from_slice(&regular::read(&self.timings_path(build), MOST_OF_OURS).ok()?).ok();
        read().unwrap_or_default()
    }

    /// Replaces what is remembered of a build. Two runners of one build may each lose what the other has just timed.
    ///
    /// # Errors
    /// Whatever writing gives.
    pub fn set_timings(&self, build: &str, timings: &Timings) -> Result<(), StoreError> {
        let path = self.timings_path(build);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let write = || atomic::write(&self.root.join("timings"), &name, &serde_json::to_vec(timings)?);
        write().map_err(failed("write", &path))
    }

    /// Notes that the build was run, though nothing of it was timed.
    pub fn touch_timings(&self, build: &str) {
        atomic::touch(&self.timings_path(build));
    }

    pub(super) fn timings_path(&self, build: &str) -> PathBuf {
        self.root.join(format!("timings/{}.json", Digest::of_bytes(build.as_bytes()).hex()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn timings(end_ms: u64) -> Timings {
        [("a".to_owned(), Timing { next_ms: 1, end_ms })].into()
    }

    #[test]
    fn each_build_has_timings_of_its_own_and_the_last_ones_count() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.timings("b"), Timings::new());
        store.touch_timings("b");
        store.set_timings("b", &timings(1)).unwrap();
        store.set_timings("b", &timings(2)).unwrap();
        store.set_timings("../b", &timings(3)).unwrap();
        assert_eq!((store.timings("b"), store.timings("../b")), (timings(2), timings(3)));
        assert_eq!(fs::read_dir(store.root().join("timings")).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_is_damaged_or_none_of_ours_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        store.set_timings("b", &timings(u64::MAX)).unwrap();
        let path = store.timings_path("b");
        let text = fs::read_to_string(&path).unwrap();
        let foreign = ["", "[]", "\u{0}\u{ff}", r#"{"a":7}"#, r#"{"a":{"next_ms":-1,"end_ms":2}}"#, r#"{"a":{}}"#];
        for damaged in foreign.into_iter().chain([&text[..text.len() / 2], &format!("{text}{text}")]) {
            fs::write(&path, damaged).unwrap();
            assert_eq!(store.timings("b"), Timings::new(), "{damaged}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(store.timings("b"), Timings::new());
        assert!(store.set_timings("b", &timings(1)).is_err());
    }
}
