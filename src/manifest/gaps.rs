//! Which parts of a broken manifest are not known, so that nothing is said about what only follows from that.

use std::collections::HashSet;

use crate::diagnostic::{Path, Problem, Segment};

/// The paths whose values were refused and taken away.
#[derive(Debug, Default)]
pub struct UnknownPaths {
    paths: HashSet<Path>,
    /// A step may have a name that is not known.
    step_names: bool,
}

impl UnknownPaths {
    /// A manifest of which everything is known.
    pub fn none() -> Self {
        Self::default()
    }

    /// Nothing is known of the value at `path` any more.
    pub fn add(&mut self, path: Path) {
        self.step_names |= match path.segments() {
            [] => true,
            [Segment::Key(steps)] | [Segment::Key(steps), _] => steps == "steps",
            [Segment::Key(steps), _, Segment::Key(name)] => steps == "steps" && name == "name",
            _ => false,
        };
        self.paths.insert(path);
    }

    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Whether the value at `path` is unknown: it, or something that it is in, was taken away.
    pub fn covers(&self, path: &Path) -> bool {
        if self.paths.is_empty() {
            return false;
        }
        let segments = path.segments();
        (0..=segments.len()).any(|end| self.paths.contains(&segments[..end]))
    }

    /// Whether a problem only follows from what was taken away.
    pub fn hide(&self, problem: &Problem) -> bool {
        problem.place.path().is_some_and(|path| self.covers(path))
    }

    /// Whether a step may have a name that is not known.
    pub fn hide_step_names(&self) -> bool {
        self.step_names
    }
}

#[cfg(test)]
mod tests {
    use super::{Path, UnknownPaths};

    #[test]
    fn a_gap_covers_itself_and_all_inside_it() {
        let mut gaps = UnknownPaths::none();
        let step = Path::top().then("steps").then(1);
        gaps.add(step.clone());
        assert!(gaps.covers(&step) && gaps.covers(&step.then("name")));
        assert!(!gaps.covers(&Path::top().then("steps")) && !gaps.covers(&Path::top().then("steps").then(2)));
        assert!(gaps.hide_step_names());
    }
}
