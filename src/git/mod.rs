//! The time of the last commit of the repository that a directory is in, read from the repository's files.
//!
//! No program runs for it: git(1) takes programs from the repository's own settings, and refuses a repository of another user,
//! as CI jobs have. Settings of the repository are not read at all. A step may have changed any file there: each is opened as a
//! regular file, so that a FIFO is an error, and what is read and unpacked is limited. See gitrepository-layout(5) and
//! gitformat-pack(5).

mod file;
mod object;

use std::io;
use std::path::{Path, PathBuf};

/// A file of a repository that is read whole: references, and the lists of them.
const MAX_BYTES: u64 = 64 << 20;

/// As many references may lead from one to the next.
const MAX_LINKS: usize = 8;

/// Seconds since 1970.
///
/// # Errors
/// In words: where the directory is in no repository, there is no commit yet, or its files cannot be read.
pub fn last_commit_time(directory: &Path) -> Result<u64, String> {
    let directory = directory.canonicalize().map_err(|error| unreadable(directory, &error))?;
    let is_repository = |git: &PathBuf| if git.is_dir() { git.join("HEAD").exists() } else { git.exists() };
    let place = directory.ancestors().map(|above| above.join(".git")).find(is_repository);
    let place = place.ok_or_else(|| format!("{} is in no git repository", directory.display()))?;
    let git = if place.is_dir() { place } else { linked(&place)? };
    let common = match text(&git.join("commondir")) {
        Ok(path) => git.join(path.trim_end()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => git.clone(),
        Err(error) => return Err(unreadable(&git.join("commondir"), &error)),
    };
    if common.join("reftable").exists() {
        return Err(format!(
            "the repository {} has its references in a reftable, which runner cannot read",
            git.display()
        ));
    }
    let name = head(&git, &common)?;
    let commit = object::read(&common.join("objects"), &name)?;
    committed(&commit).ok_or_else(|| format!("the commit {name} in {} has no time", common.display()))
}

fn text(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&file::read(path, MAX_BYTES)?).into_owned())
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}

/// The directory that a `.git` file of a worktree or a submodule names.
fn linked(file: &Path) -> Result<PathBuf, String> {
    let text = text(file).map_err(|error| unreadable(file, &error))?;
    let path = text.strip_prefix("gitdir:").ok_or_else(|| format!("{} names no repository", file.display()))?;
    Ok(file.parent().unwrap_or(Path::new("/")).join(path.trim()))
}

/// The name of the commit that HEAD leads to.
fn head(git: &Path, common: &Path) -> Result<String, String> {
    let mut reference = "HEAD".to_owned();
    for _ in 0..MAX_LINKS {
        let found = match loose(&[git, common], &reference)? {
            None => packed(common, &reference)?,
            found => found,
        };
        match found.map(|text| text.trim_end().to_owned()) {
            None => {
                return Err(format!("the repository {} has no commit yet ({reference} is not there)", git.display()));
            }
            Some(text) => match text.strip_prefix("ref:") {
                // A name that leads out of the repository is none.
                Some(next) if !next.split('/').any(|part| part == "..") => reference = next.trim().to_owned(),
                None if text.len() >= 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => return Ok(text),
                _ => return Err(format!("{reference} of the repository {} names no commit", git.display())),
            },
        }
    }
    Err(format!("HEAD of the repository {} leads through too many references", git.display()))
}

/// A reference in a file of its own, in the first of these directories that has it.
fn loose(directories: &[&Path], reference: &str) -> Result<Option<String>, String> {
    for path in directories.iter().map(|directory| directory.join(reference)) {
        match text(&path) {
            Ok(text) => return Ok(Some(text)),
            // A branch `a` may be packed while there is a directory of branches `a/…`.
            Err(error) if is_missing(&error) || path.is_dir() => {}
            Err(error) => return Err(unreadable(&path, &error)),
        }
    }
    Ok(None)
}

/// A reference in the list of all.
fn packed(common: &Path, reference: &str) -> Result<Option<String>, String> {
    let path = common.join("packed-refs");
    let list = match text(&path) {
        Ok(list) => list,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(unreadable(&path, &error)),
    };
    let found = list.lines().find_map(|line| line.strip_suffix(reference)?.strip_suffix(' '));
    Ok(found.map(str::to_owned))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The time of the committer, which stands before their time zone at the end of their line.
fn committed(commit: &[u8]) -> Option<u64> {
    let commit = String::from_utf8_lossy(commit);
    let line = commit.lines().take_while(|line| !line.is_empty()).find(|line| line.starts_with("committer "))?;
    line.rsplit(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests;
