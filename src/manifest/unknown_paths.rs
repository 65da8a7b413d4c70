//! The unknown parts of a broken manifest: problems that only follow from them are not reported.

use std::collections::HashSet;

use crate::diagnostic::{Path, Problem, Segment};

/// The paths whose values were refused and removed.
#[derive(Debug, Default)]
pub struct UnknownPaths {
    paths: HashSet<Path>,
    /// A step may have an unknown name.
    step_names: bool,
}

impl UnknownPaths {
    /// Returns the paths of a manifest without unknown parts.
    pub fn none() -> Self {
        Self::default()
    }

    /// Makes the value at `path` unknown.
    pub fn add(&mut self, path: Path) {
        self.step_names |= match path.segments() {
            [] => true,
            [Segment::Key(steps)] | [Segment::Key(steps), _] => steps == "steps",
            [Segment::Key(steps), _, Segment::Key(name)] => steps == "steps" && name == "name",
            _ => false,
        };
        self.paths.insert(path);
    }

    /// Returns whether every value is known.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Returns whether the value at `path` is unknown: the value itself or one around it was removed.
    pub fn covers(&self, path: &Path) -> bool {
        if self.paths.is_empty() {
            return false;
        }
        let segments = path.segments();
        (0..=segments.len()).any(|end| self.paths.contains(&segments[..end]))
    }

    /// Returns whether a problem only follows from a removed value.
    pub fn hide(&self, problem: &Problem) -> bool {
        problem.place.path().is_some_and(|path| self.covers(path))
    }

    /// Returns whether a step may have an unknown name.
    pub fn hide_step_names(&self) -> bool {
        self.step_names
    }
}

#[cfg(test)]
mod tests {
    use super::{Path, UnknownPaths};

    #[test]
    fn an_unknown_path_covers_itself_and_all_paths_inside_it() {
        let mut unknown = UnknownPaths::none();
        let step = Path::top().then("steps").then(1);
        unknown.add(step.clone());
        assert!(unknown.covers(&step) && unknown.covers(&step.then("name")));
        assert!(!unknown.covers(&Path::top().then("steps")) && !unknown.covers(&Path::top().then("steps").then(2)));
        assert!(unknown.hide_step_names());
    }
}
