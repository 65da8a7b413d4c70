//! The state and functions that all checks share: the problems, checks of paths, and suggestions of similar names.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::build::{AbsentSecret, Capability};
use super::host::{FileKind, Host};
use crate::diagnostic::{At, Place, Problem, Trail, nearest};
use crate::manifest::UnknownPaths;
use crate::seccomp::Profile;

/// The comparisons of names for suggestions, for all problems of a manifest together. After that many there are no
/// more suggestions, so that a manifest of a hundred thousand wrong names is refused as fast as any.
const MAX_GUESSES: usize = 500_000;
/// The longest name of a container or step, in bytes: file names contain them.
const MAX_NAME: usize = 128;

/// The state of the checks, which collects their problems.
pub(super) struct Check<'a> {
    pub host: &'a dyn Host,
    pub directory: &'a Path,
    pub unknown_paths: &'a UnknownPaths,
    pub problems: Vec<Problem>,
    /// The secrets that do not exist.
    pub absent_secrets: Vec<AbsentSecret>,
    /// The seccomp profiles that were read, each once.
    pub profiles: HashMap<PathBuf, Arc<Profile>>,
    /// The filters that were compiled from them, each once.
    pub filters: HashSet<(PathBuf, Vec<Capability>)>,
    /// The outputs of snapshots, and the step of each.
    pub outputs: Vec<(PathBuf, String)>,
    guesses: usize,
}

/// The result of looking at a host path.
pub(super) enum PathCheck {
    /// A file of an expected kind.
    Found,
    /// No file, or a path that cannot be looked at.
    Absent(Problem),
    /// A file of another kind.
    WrongKind(Problem),
    /// The path already has a problem.
    Skipped,
}

impl<'a> Check<'a> {
    pub fn new(host: &'a dyn Host, directory: &'a Path, unknown_paths: &'a UnknownPaths) -> Self {
        Self {
            host,
            directory,
            unknown_paths,
            problems: Vec::new(),
            absent_secrets: Vec::new(),
            profiles: HashMap::new(),
            filters: HashSet::new(),
            outputs: Vec::new(),
            guesses: MAX_GUESSES,
        }
    }

    /// Adds a problem, unless it only follows from one that is already reported.
    pub fn add(&mut self, problem: Problem) {
        if !self.unknown_paths.hide(&problem) {
            self.problems.push(problem);
        }
    }

    /// Returns the time of the last commit. If there is none, adds a problem.
    pub fn commit_time(&mut self, at: &Trail<'_>) -> Option<u64> {
        let time = match self.host.commit_time(self.directory) {
            Ok(time) if time > u64::from(u32::MAX) => {
                Err(format!("it is {time}, and squashfs stores times up to 4294967295"))
            }
            time => time,
        };
        let why = match time {
            Ok(time) => return Some(time),
            Err(why) => why,
        };
        let problem = Problem::new(at, format!("cannot find the time of the last commit: {why}")).label("has no time");
        self.add(problem.help("if there is no commit yet, make one; otherwise set SOURCE_DATE_EPOCH to seconds since 1970, or write them here"));
        None
    }

    /// Returns the most similar candidate.
    pub fn nearest<'c>(&mut self, word: &str, candidates: impl ExactSizeIterator<Item = &'c str>) -> Option<&'c str> {
        self.guesses = self.guesses.checked_sub(candidates.len())?;
        nearest(word, candidates)
    }

    /// Adds the problem of an unknown name. `at` is the place of the name; `what` is "container", for example.
    pub fn unknown<'c>(
        &mut self,
        at: &Trail<'_>,
        what: &str,
        name: &str,
        known: impl ExactSizeIterator<Item = &'c str> + Clone,
    ) {
        self.unknown_of(at, (what, what), name, known);
    }

    /// Adds the problem of an unknown name where only things of the kind `wanted` are possible.
    pub fn unknown_of<'c>(
        &mut self,
        at: &Trail<'_>,
        (what, wanted): (&str, &str),
        name: &str,
        known: impl ExactSizeIterator<Item = &'c str> + Clone,
    ) {
        let few: Vec<&str> = if known.len() <= 8 { known.clone().collect() } else { Vec::new() };
        let none = known.len() == 0;
        let near = self.nearest(name, known);
        let problem = Problem::new(Place::word(at.path(), name), format!("unknown {what} `{name}`"));
        let problem = problem.label(format!("no {what} has this name"));
        let help = match near {
            Some(near) => Some(format!("did you mean `{near}`?")),
            None if none => Some(format!("the manifest has no {wanted}s")),
            None if few.is_empty() => None,
            None => Some(format!("known are {}", few.join(", "))),
        };
        self.add(problem.maybe_help(help));
    }

    /// Returns the value of one of a few fixed words.
    pub fn choice<T: Copy>(&mut self, at: &Trail<'_>, what: &str, word: &str, choices: &[(&str, T)], default: T) -> T {
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == word) {
            return *choice;
        }
        let names = choices.iter().map(|(name, _)| *name);
        let help = match nearest(word, names.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write one of {}", names.collect::<Vec<_>>().join(", ")),
        };
        self.add(Problem::new(at, format!("unknown {what} `{word}`")).label("not known here").help(help));
        default
    }

    /// Checks the name of a container or a step.
    pub fn name(&mut self, place: impl Fn() -> Place, what: &str, name: &str) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let problem = if name.is_empty() {
            Problem::new(place(), format!("the {what}'s name is empty"))
        } else if let Some(bad) = name.chars().find(|c| !allowed(*c)) {
            let better: String = name.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
            Problem::new(place(), format!("the {what}'s name `{name}` has {bad:?} in it"))
                .label("letters, digits, `.`, `_` and `-` can be in a name")
                .help(format!("write `{better}`"))
        } else if name == "." || name == ".." {
            Problem::new(place(), format!("`{name}` cannot be a {what}'s name")).label("files are named after it")
        } else if name.len() > MAX_NAME {
            Problem::new(place(), format!("the {what}'s name is longer than {MAX_NAME} characters"))
                .label("files are named after it")
        } else {
            return;
        };
        self.add(problem);
    }

    /// Refuses text that no system call accepts.
    pub fn no_nul(&mut self, at: &Trail<'_>, text: &str) {
        if text.contains('\0') {
            self.add(Problem::new(at, "there is a NUL character in it").label("here").help("remove it"));
        }
    }

    /// Returns a path inside a container, or of a device, after checking that it is absolute and normalised.
    pub fn absolute(&mut self, at: &Trail<'_>, what: &str, path: &str) -> PathBuf {
        self.no_nul(at, path);
        let normal = normal(path);
        let problem = if path.is_empty() {
            Problem::new(at, format!("the {what} is empty")).label("a path is missing")
        } else if !path.starts_with('/') {
            Problem::new(at, format!("the {what} `{path}` is not absolute")).label("does not begin with `/`")
        } else if path != normal {
            Problem::new(at, format!("the {what} `{path}` is not normalised"))
                .label("has `//`, `.`, `..` or a `/` at its end")
        } else {
            return PathBuf::from(normal);
        };
        let problem = if path.is_empty() { problem } else { problem.help(format!("write `{normal}`")) };
        self.add(problem);
        PathBuf::from(normal)
    }

    /// Returns a path on the host: relative ones start from the manifest's directory.
    pub fn on_host(&mut self, at: &Trail<'_>, what: &str, path: &str) -> PathBuf {
        self.no_nul(at, path);
        if path.is_empty() {
            self.add(Problem::new(at, format!("the {what} is empty")).label("a path is missing"));
        }
        // With `components`, `./x` and `x/` give the same path as `x`. `..` stays: where there are links, only the
        // kernel can resolve it.
        self.directory.join(path).components().collect()
    }

    /// Refuses a host path that does not exist or is not one of `kinds`. Returns whether it is.
    pub fn exists(&mut self, at: &Trail<'_>, what: &str, path: &Path, kinds: &[FileKind]) -> bool {
        match self.look(at, what, path, kinds) {
            PathCheck::Found => true,
            PathCheck::Skipped => false,
            PathCheck::Absent(problem) | PathCheck::WrongKind(problem) => {
                self.add(problem);
                false
            }
        }
    }

    /// Looks at a host path that should be one of `kinds`.
    pub fn look(&mut self, at: &Trail<'_>, what: &str, path: &Path, kinds: &[FileKind]) -> PathCheck {
        // A path with a NUL character, or an unknown one, is already reported.
        if has_nul(path) || (!self.unknown_paths.is_empty() && self.unknown_paths.covers(&at.path())) {
            return PathCheck::Skipped;
        }
        let shown = path.display();
        let problem = match self.host.kind(path) {
            Ok(kind) if kinds.contains(&kind) => return PathCheck::Found,
            Ok(kind) => {
                let wanted: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
                let problem = Problem::new(at, format!("the {what} `{shown}` is {}", kind.name()));
                return PathCheck::WrongKind(problem.label(format!("this should be {}", wanted.join(" or "))));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if let Ok(FileKind::Symlink) = self.host.node(path) {
                    Problem::new(at, format!("the {what} `{shown}` is a symbolic link to nothing"))
                        .label("a dangling link")
                        .help(format!("create its target, which `readlink -m {shown}` prints, or remove the link"))
                } else {
                    let problem = Problem::new(at, format!("the {what} `{shown}` does not exist")).label("not found");
                    problem.maybe_help(self.near_file(path))
                }
            }
            Err(error) => Problem::new(at, format!("cannot look at the {what} `{shown}`: {error}")).label("here"),
        };
        PathCheck::Absent(problem)
    }

    /// Returns the file of an output, the same for all spellings of its path.
    pub fn real_output(&self, path: &Path) -> PathBuf {
        match path.parent().zip(path.file_name()).filter(|_| !has_nul(path)) {
            Some((directory, name)) => self.host.real(directory).join(name),
            None => lexical(path),
        }
    }

    /// Returns the file that is read at a path, the same for all spellings.
    pub fn real_input(&self, path: &Path) -> PathBuf {
        if has_nul(path) { lexical(path) } else { self.host.real(path) }
    }

    /// Returns a suggestion: a similar name for the file, or for the first directory on the way that does not exist.
    pub fn near_file(&mut self, path: &Path) -> Option<String> {
        let missing_directory =
            path.ancestors().skip(1).take_while(|directory| self.host.kind(directory).is_err()).last();
        let missing = missing_directory.unwrap_or(path);
        let names = self.host.names(missing.parent()?);
        let near = self.nearest(missing.file_name()?.to_str()?, names.iter().map(String::as_str))?;
        Some(format!("did you mean `{}`?", missing.with_file_name(near).display()))
    }
}

pub(super) fn has_nul(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&0)
}

/// Returns the place of a missing key.
pub(super) fn missing(at: &Trail<'_>, key: &str) -> Place {
    Place::Node(at.key(key).path(), At::Missing)
}

/// Returns the path without `.`, `..`, doubled slashes and a slash at the end, as if there were no links.
pub(super) fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Returns the path without `.` and `..`, resolved without looking at links: the same for all spellings of a path
/// without links.
pub fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(out.pop()),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{lexical, normal};
    use std::path::Path;

    #[test]
    fn the_normal_form_has_no_dots_and_no_doubled_slashes() {
        assert_eq!(normal("/a//b/./c/../d/"), "/a/b/d");
        assert_eq!(normal("a"), "/a");
        assert_eq!(normal("/../.."), "/");
        assert_eq!(lexical(Path::new("/a/./b/../../../c")), Path::new("/c"));
    }
}
