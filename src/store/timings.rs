//! The durations of a build's steps, from which the next run is estimated.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::io as failed;
use super::{MAX_PROJECTS, Store, StoreError};
use crate::digest::Digest;
use crate::fs::atomic;
use crate::fs::regular::{self, MAX_OF_OURS};

/// By the step's name.
pub type Timings = BTreeMap<String, Timing>;

/// The duration of a step when it last succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Milliseconds from its beginning until the steps that need it could begin.
    pub next_ms: u64,
    /// Milliseconds from its beginning to its end. That is later only for an image that was written while others ran.
    pub end_ms: u64,
}

/// The timings of the projects that have a build of one name, the project used last at the end.
#[derive(Debug, Default, Serialize, Deserialize)]
struct ProjectsTimings {
    projects: Vec<ProjectTimings>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProjectTimings {
    /// The digest of the manifest's path, all links followed: a path may have any bytes.
    project: String,
    steps: Timings,
}

impl Store {
    /// Returns the timings of the build of that name in a project. A damaged or foreign file counts as missing.
    pub fn timings(&self, build: &str, project: &Path) -> Timings {
        let project = id(project);
        let known = self.timings_of_projects(build).projects.into_iter().find(|known| known.project == project);
        known.map(|known| known.steps).unwrap_or_default()
    }

    /// Replaces the timings of a build in a project. Of two runners with builds of the same name, each may overwrite
    /// the timings of the other.
    ///
    /// # Errors
    /// Those of writing.
    pub fn set_timings(&self, build: &str, project: &Path, timings: &Timings) -> Result<(), StoreError> {
        let mut known = self.timings_of_projects(build);
        let project = id(project);
        known.projects.retain(|known| known.project != project);
        known.projects.push(ProjectTimings { project, steps: timings.clone() });
        known.projects.drain(..known.projects.len().saturating_sub(MAX_PROJECTS));
        let path = self.timings_path(build);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let write = || atomic::write(&self.root.join("timings"), &name, &serde_json::to_vec(&known)?);
        write().map_err(failed("write", &path))
    }

    fn timings_of_projects(&self, build: &str) -> ProjectsTimings {
        let read = || serde_json::from_slice(&regular::read(&self.timings_path(build), MAX_OF_OURS).ok()?).ok();
        read().unwrap_or_default()
    }

    /// Notes that the build was run, though none of its steps were timed.
    pub fn touch_timings(&self, build: &str) {
        atomic::touch(&self.timings_path(build));
    }

    pub(super) fn timings_path(&self, build: &str) -> PathBuf {
        self.root.join(format!("timings/{}.json", Digest::of_bytes(build.as_bytes()).hex()))
    }
}

fn id(project: &Path) -> String {
    Digest::of_bytes(project.as_os_str().as_bytes()).hex()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;

    use super::*;

    fn timings(end_ms: u64) -> Timings {
        [("a".to_owned(), Timing { next_ms: 1, end_ms })].into()
    }

    const PROJECT: &str = "/work/build.yaml";

    fn read(store: &Store, build: &str) -> Timings {
        store.timings(build, Path::new(PROJECT))
    }

    fn set(store: &Store, build: &str, end_ms: u64) -> Result<(), StoreError> {
        store.set_timings(build, Path::new(PROJECT), &timings(end_ms))
    }

    #[test]
    fn each_build_has_its_own_timings_and_the_last_ones_are_used() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(read(&store, "b"), Timings::new());
        store.touch_timings("b");
        for (build, end_ms) in [("b", 1), ("b", 2), ("../b", 3)] {
            set(&store, build, end_ms).unwrap();
        }
        assert_eq!((read(&store, "b"), read(&store, "../b")), (timings(2), timings(3)));
        assert_eq!(fs::read_dir(store.root().join("timings")).unwrap().count(), 2);
    }

    #[test]
    fn each_project_has_its_own_timings_and_the_oldest_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let project = |n: usize| PathBuf::from(OsStr::from_bytes(&[b"/work/\xff", n.to_string().as_bytes()].concat()));
        for n in 0..=MAX_PROJECTS {
            store.set_timings("b", &project(n), &timings(n as u64)).unwrap();
        }
        assert_eq!(store.timings("b", &project(0)), Timings::new());
        for n in 1..=MAX_PROJECTS {
            assert_eq!(store.timings("b", &project(n)), timings(n as u64));
        }
        assert_eq!(read(&store, "b"), Timings::new());
    }

    #[test]
    fn a_damaged_or_foreign_file_of_timings_is_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        set(&store, "b", u64::MAX).unwrap();
        let path = store.timings_path("b");
        let text = fs::read_to_string(&path).unwrap();
        let foreign =
            ["", "[]", "\u{0}\u{ff}", r#"{"a":{"next_ms":1,"end_ms":2}}"#, r#"{"projects":[{"project":"x"}]}"#];
        for damaged in foreign.into_iter().chain([&text[..text.len() / 2], &format!("{text}{text}")]) {
            fs::write(&path, damaged).unwrap();
            assert_eq!(read(&store, "b"), Timings::new(), "{damaged}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(read(&store, "b"), Timings::new());
        assert!(set(&store, "b", 1).is_err());
    }
}
