//! What all checks share: where problems are put, the paths, and the guesses at what was meant.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::build::{AbsentSecret, Capability};
use super::host::{FileKind, Host};
use crate::diagnostic::{At, Place, Problem, Trail, nearest};
use crate::manifest::UnknownPaths;
use crate::seccomp::Profile;

/// Names compared to guess at what was meant, over all problems of a manifest: beyond it there are no more guesses,
/// so that a manifest of a hundred thousand wrong names is refused as fast as any.
const MAX_GUESSES: usize = 500_000;
/// Longest name of a container or step, in bytes: file names are made of them.
const LONGEST_NAME: usize = 128;

/// Where checks put what they find.
pub(super) struct Check<'a> {
    pub host: &'a dyn Host,
    pub folder: &'a Path,
    pub gaps: &'a UnknownPaths,
    pub problems: Vec<Problem>,
    /// The secrets that are not there.
    pub absent_secrets: Vec<AbsentSecret>,
    /// The seccomp profiles that were read, each once.
    pub profiles: HashMap<PathBuf, Arc<Profile>>,
    /// The filters that were made of them, each once.
    pub filters: HashSet<(PathBuf, Vec<Capability>)>,
    /// The outputs of snapshots, and the step of each.
    pub outputs: Vec<(PathBuf, String)>,
    guesses: usize,
}

/// The kind of file at a host path.
pub(super) enum Looked {
    /// The kind of file that should be there.
    Found,
    /// Nothing, or nothing that can be looked at.
    Absent(Problem),
    /// Something else.
    Another(Problem),
    /// The path is known to be wrong.
    Skipped,
}

impl<'a> Check<'a> {
    pub fn new(host: &'a dyn Host, folder: &'a Path, gaps: &'a UnknownPaths) -> Self {
        Self {
            host,
            folder,
            gaps,
            problems: Vec::new(),
            absent_secrets: Vec::new(),
            profiles: HashMap::new(),
            filters: HashSet::new(),
            outputs: Vec::new(),
            guesses: MAX_GUESSES,
        }
    }

    /// Adds a problem, unless it only follows from one that is told already.
    pub fn add(&mut self, problem: Problem) {
        if !self.gaps.hide(&problem) {
            self.problems.push(problem);
        }
    }

    /// The time of the last commit; none where there is no such time, which is a problem.
    pub fn commit_time(&mut self, at: &Trail<'_>) -> Option<u64> {
        let time = match self.host.commit_time(self.folder) {
            Ok(time) if time > u64::from(u32::MAX) => {
                Err(format!("it is {time}, and squashfs holds times up to 4294967295"))
            }
            time => time,
        };
        let why = match time {
            Ok(time) => return Some(time),
            Err(why) => why,
        };
        let problem = Problem::new(at, format!("there is no time of a last commit: {why}")).label("has no time");
        self.add(problem.help("where there is no commit yet, make one; else set SOURCE_DATE_EPOCH to seconds since 1970, or write them here"));
        None
    }

    /// The nearest candidate.
    pub fn nearest<'c>(&mut self, word: &str, candidates: impl ExactSizeIterator<Item = &'c str>) -> Option<&'c str> {
        self.guesses = self.guesses.checked_sub(candidates.len())?;
        nearest(word, candidates)
    }

    /// Adds the problem of a name that names nothing. `at` is the name itself; `what` is "container", say.
    pub fn unknown<'c>(
        &mut self,
        at: &Trail<'_>,
        what: &str,
        name: &str,
        known: impl ExactSizeIterator<Item = &'c str> + Clone,
    ) {
        self.unknown_of(at, (what, what), name, known);
    }

    /// The same where only some things of that name, `wanted`, would do.
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

    /// One of a few fixed words.
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

    /// The name of a container or a step.
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
        } else if name.len() > LONGEST_NAME {
            Problem::new(place(), format!("the {what}'s name is longer than {LONGEST_NAME} characters"))
                .label("files are named after it")
        } else {
            return;
        };
        self.add(problem);
    }

    /// Refuses text that no system call can take.
    pub fn no_nul(&mut self, at: &Trail<'_>, text: &str) {
        if text.contains('\0') {
            self.add(Problem::new(at, "there is a NUL character in it").label("here").help("take it away"));
        }
    }

    /// A path inside a container, or of a device: absolute and normalised.
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

    /// A path on the host, relative to the manifest's folder.
    pub fn on_host(&mut self, at: &Trail<'_>, what: &str, path: &str) -> PathBuf {
        self.no_nul(at, path);
        if path.is_empty() {
            self.add(Problem::new(at, format!("the {what} is empty")).label("a path is missing"));
        }
        // Joined with `components`, `./x` and `x/` give the same path as `x`. `..` stays: only the kernel knows what it
        // is where there are links.
        self.folder.join(path).components().collect()
    }

    /// Refuses a host path that is not there or not one of `kinds`; whether it is.
    pub fn exists(&mut self, at: &Trail<'_>, what: &str, path: &Path, kinds: &[FileKind]) -> bool {
        match self.look(at, what, path, kinds) {
            Looked::Found => true,
            Looked::Skipped => false,
            Looked::Absent(problem) | Looked::Another(problem) => {
                self.add(problem);
                false
            }
        }
    }

    /// Looks at a host path that should be one of `kinds`.
    pub fn look(&mut self, at: &Trail<'_>, what: &str, path: &Path, kinds: &[FileKind]) -> Looked {
        // What is no path, or not known, has been told.
        if has_nul(path) || (!self.gaps.is_empty() && self.gaps.covers(&at.path())) {
            return Looked::Skipped;
        }
        let shown = path.display();
        let problem = match self.host.kind(path) {
            Ok(kind) if kinds.contains(&kind) => return Looked::Found,
            Ok(kind) => {
                let wanted: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
                let problem = Problem::new(at, format!("the {what} `{shown}` is {}", kind.name()));
                return Looked::Another(problem.label(format!("this should be {}", wanted.join(" or "))));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if let Ok(FileKind::Symlink) = self.host.node(path) {
                    Problem::new(at, format!("the {what} `{shown}` is a symbolic link to nothing"))
                        .label("a dangling link")
                        .help(format!("make what it leads to, which `readlink -m {shown}` prints, or remove the link"))
                } else {
                    let problem = Problem::new(at, format!("the {what} `{shown}` does not exist")).label("not found");
                    problem.maybe_help(self.near_file(path))
                }
            }
            Err(error) => Problem::new(at, format!("cannot look at the {what} `{shown}`: {error}")).label("here"),
        };
        Looked::Absent(problem)
    }

    /// Which file an output is, whatever the spelling of its path.
    pub fn real_output(&self, path: &Path) -> PathBuf {
        match path.parent().zip(path.file_name()).filter(|_| !has_nul(path)) {
            Some((folder, name)) => self.host.real(folder).join(name),
            None => lexical(path),
        }
    }

    /// Which file is read at a path, whatever its spelling.
    pub fn real_input(&self, path: &Path) -> PathBuf {
        if has_nul(path) { lexical(path) } else { self.host.real(path) }
    }

    /// The file that was meant, or the first folder on the way that is not there.
    pub fn near_file(&mut self, path: &Path) -> Option<String> {
        let missing_folder = path.ancestors().skip(1).take_while(|folder| self.host.kind(folder).is_err()).last();
        let missing = missing_folder.unwrap_or(path);
        let names = self.host.names(missing.parent()?);
        let near = self.nearest(missing.file_name()?.to_str()?, names.iter().map(String::as_str))?;
        Some(format!("did you mean `{}`?", missing.with_file_name(near).display()))
    }
}

pub(super) fn has_nul(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&0)
}

/// Where a key should be.
pub(super) fn missing(at: &Trail<'_>, key: &str) -> Place {
    Place::Node(at.key(key).path(), At::Missing)
}

/// The path without `.`, `..`, doubled slashes and a slash at the end, as if there were no links.
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

/// The same file has the same one of these, as far as can be said without looking at links.
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
    fn the_normal_form_of_a_path_is_told() {
        assert_eq!(normal("/a//b/./c/../d/"), "/a/b/d");
        assert_eq!(normal("a"), "/a");
        assert_eq!(normal("/../.."), "/");
        assert_eq!(lexical(Path::new("/a/./b/../../../c")), Path::new("/c"));
    }
}
