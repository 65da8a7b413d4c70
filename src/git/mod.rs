//! The time of the last commit of the repository that a directory is in, read from the repository's files.
//!
//! No program runs for it: git(1) takes programs from the repository's own settings, and refuses a repository of another user, as
//! CI jobs have. Runner does not read the repository's settings. A step may have changed any file there: each is opened as a
//! regular file, so that a FIFO is an error, and the bytes that are read, unpacked and looked up are limited. See
//! gitrepository-layout(5) and gitformat-pack(5).

mod file;
mod object;

use std::io;
use std::path::{Path, PathBuf};

use crate::diagnostic::shown;

/// The limit of the list of all references.
const MAX_LIST_BYTES: u64 = 64 << 20;

/// The limit of a file with one reference, or with the name of a directory, which Linux limits to the same.
const MAX_NAME_BYTES: u64 = 4096;

/// The characters of a reference's name that are shown.
const MAX_SHOWN: usize = 200;

/// The number of references that may lead from one to the next.
const MAX_LINKS: usize = 8;

/// Returns the time in seconds since 1970.
///
/// # Errors
/// In words: where the directory is in no repository, there is no commit yet, or its files cannot be read.
pub fn last_commit_time(directory: &Path) -> Result<u64, String> {
    let directory =
        directory.canonicalize().map_err(|error| format!("cannot read {}: {error}", directory.display()))?;
    let is_repository = |git: &PathBuf| if git.is_dir() { git.join("HEAD").exists() } else { git.exists() };
    let place = directory.ancestors().map(|above| above.join(".git")).find(is_repository);
    let place = place.ok_or_else(|| format!("{} is in no git repository", directory.display()))?;
    let repository = Repository::at(place)?;
    let place = repository.place.display();
    let (reference, name) = repository.head()?;
    let commit = object::read(&repository.common.join("objects"), &name)
        .map_err(|error| format!("cannot read the commit that {reference} of the repository {place} names: {error}"))?;
    let commit = commit.ok_or_else(|| format!("the commit that {reference} names is not in the repository {place}"))?;
    committed(&commit).ok_or_else(|| format!("the commit that {reference} of the repository {place} names has no time"))
}

/// A git repository. A link may lead from any of its files to a secret of the host. So errors name the path of the repository,
/// the files that git(1) has there, and references, and no other content of a file.
struct Repository {
    /// The path `.git`, of a directory or of a file that names one.
    place: PathBuf,
    /// The directory of one working tree.
    git: PathBuf,
    /// The directory that the working tree shares with others.
    common: PathBuf,
}

impl Repository {
    fn at(place: PathBuf) -> Result<Self, String> {
        let git = if place.is_dir() { place.clone() } else { linked(&place)? };
        let mut repository = Self { common: git.clone(), place, git };
        match text(&repository.git.join("commondir"), MAX_NAME_BYTES) {
            Ok(path) => repository.common = repository.git.join(path.trim_end()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(repository.unreadable("commondir", &error)),
        }
        if repository.common.join("reftable").exists() {
            let place = repository.place.display();
            return Err(format!("the repository {place} has its references in a reftable, which runner cannot read"));
        }
        Ok(repository)
    }

    fn unreadable(&self, name: &str, error: &io::Error) -> String {
        format!("cannot read {name} of the repository {}: {error}", self.place.display())
    }

    /// Returns the last reference that HEAD leads to, fit to be shown, and the name of the commit.
    fn head(&self) -> Result<(String, String), String> {
        let mut reference = "HEAD".to_owned();
        for _ in 0..MAX_LINKS {
            let found = match self.loose(&reference)? {
                None => self.packed(&reference)?,
                found => found,
            };
            let short = short(&reference);
            let place = self.place.display();
            let Some(text) = found else {
                return Err(format!("the repository {place} has no commit yet ({short} is not there)"));
            };
            let text = text.trim_end();
            match text.strip_prefix("ref:").map(str::trim) {
                Some(next) if is_reference(next) => reference = next.to_owned(),
                None if matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                    return Ok((short, text.to_owned()));
                }
                _ => return Err(format!("{short} of the repository {place} names no commit")),
            }
        }
        Err(format!("HEAD of the repository {} leads through too many references", self.place.display()))
    }

    /// Returns a reference from a file of its own, of this working tree or of all.
    fn loose(&self, reference: &str) -> Result<Option<String>, String> {
        for path in [&self.git, &self.common].map(|directory| directory.join(reference)) {
            match text(&path, MAX_NAME_BYTES) {
                Ok(text) => return Ok(Some(text)),
                // A branch `a` may be packed while a directory of branches `a/…` exists.
                Err(error) if is_missing(&error) || path.is_dir() => {}
                Err(error) => return Err(self.unreadable(&short(reference), &error)),
            }
        }
        Ok(None)
    }

    /// Returns a reference from the list of all.
    fn packed(&self, reference: &str) -> Result<Option<String>, String> {
        let list = match text(&self.common.join("packed-refs"), MAX_LIST_BYTES) {
            Ok(list) => list,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(self.unreadable("packed-refs", &error)),
        };
        let found = list.lines().find_map(|line| line.strip_suffix(reference)?.strip_suffix(' '));
        Ok(found.map(str::to_owned))
    }
}

fn text(path: &Path, max_bytes: u64) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&file::read(path, max_bytes)?).into_owned())
}

/// Returns the directory that a `.git` file of a worktree or a submodule names.
fn linked(file: &Path) -> Result<PathBuf, String> {
    let text = text(file, MAX_NAME_BYTES).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let path = text.strip_prefix("gitdir:").ok_or_else(|| format!("{} names no repository", file.display()))?;
    Ok(file.parent().unwrap_or(Path::new("/")).join(path.trim()))
}

/// Returns whether git(1) allows a reference to lead to one of that name, see git-check-ref-format(1). Such a name, appended to
/// the path of a directory, leads to a path below it.
fn is_reference(name: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    name.starts_with("refs/")
        && name.split('/').all(is_part)
        && !name.contains("..")
        && !name.contains("@{")
        && !name.ends_with('.')
        && !name.contains(|c: char| c.is_control() || " ~^:?*[\\".contains(c))
}

/// Returns the name of a reference, fit to be shown.
fn short(name: &str) -> String {
    match name.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", shown(&name[..end])),
        None => shown(name).into_owned(),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Returns the time of the committer, which is before their time zone at the end of their line.
fn committed(commit: &[u8]) -> Option<u64> {
    let commit = String::from_utf8_lossy(commit);
    let line = commit.lines().take_while(|line| !line.is_empty()).find(|line| line.starts_with("committer "))?;
    line.rsplit(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests;
