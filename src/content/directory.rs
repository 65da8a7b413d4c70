//! One directory of a walk: opens it, lists it, and selects the files that count.
//!
//! It is opened by its path below the top, and closed before the next one: a tree may have more levels than a process
//! may have descriptors, and paths longer than a system call accepts.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags};
use rustix::io::Result;

use super::error::{ContentError, changed_or_failed};
use super::ignore::{self, Rules};
use super::stat::{FileLocation, Stat};
use crate::fs::dirfd::Identity;
use crate::fs::in_root::{open_without_links, shorten};
use crate::fs::list::{Entry, entries};
use crate::fs::regular;

/// A directory that the walk has not visited yet.
#[derive(Debug)]
pub(super) struct Directory {
    /// Its path below the top.
    pub(super) path: Vec<u8>,
    /// The rules of the directories above.
    pub(super) rules: Option<Arc<Rules>>,
    /// Whether the walk looks for rules in it and below it.
    pub(super) has_rules: bool,
    /// A directory that counts as empty.
    pub(super) hidden: Option<Identity>,
}

/// An open directory.
#[derive(Debug)]
pub(super) struct Listed {
    fd: OwnedFd,
    path: Vec<u8>,
    rules: Option<Arc<Rules>>,
    has_rules: bool,
    hidden: Option<Identity>,
    /// Whether it is the hidden directory itself.
    is_hidden: bool,
    /// Its state before it was listed.
    stat: Stat,
    /// The entries that count, in order.
    names: Vec<(CString, FileType)>,
}

impl Directory {
    /// Lists the directory. `at` is the host's path of `top`, which it is below.
    pub(super) fn list(self, top: BorrowedFd<'_>, at: &Path) -> std::result::Result<Listed, ContentError> {
        let Self { path, rules, has_rules, hidden } = self;
        let failed = |action| changed_or_failed(action, || on_host(at, &path));
        let fd = open_below(top, &path).map_err(failed("open"))?;
        let stat = FileLocation::of(&fd).stat().map_err(failed("look at"))?;
        let is_hidden = hidden.is_some_and(|hidden| Identity::of(&fd).is_ok_and(|own| own == hidden));
        let all = list_unless(is_hidden, &fd).map_err(failed("list"))?;
        let is_rules_file = |(name, kind): &(CString, FileType)| {
            name.to_bytes() == ignore::NAME.as_bytes() && *kind == FileType::RegularFile
        };
        let rules = if has_rules && all.iter().any(is_rules_file) {
            Some(Arc::new(read_rules(&fd, &path, &on_host(at, &path), rules)?))
        } else {
            rules
        };
        let mut listed = Listed { fd, path, rules, has_rules, hidden, is_hidden, stat, names: Vec::new() };
        listed.names = listed.counted(all);
        Ok(listed)
    }
}

impl Listed {
    pub(super) fn place(&self) -> FileLocation<'_> {
        FileLocation::of(&self.fd)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    pub(super) fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Whether no entry is or can be ignored.
    pub(super) fn has_all(&self) -> bool {
        self.rules.is_none() && !self.is_hidden
    }

    pub(super) fn names(&self) -> &[(CString, FileType)] {
        &self.names
    }

    /// Returns the location of the file of that name.
    pub(super) fn entry<'a>(&'a self, name: &'a CStr) -> FileLocation<'a> {
        FileLocation::new(self.fd.as_fd(), name)
    }

    /// Returns the path below the top of the file of that name.
    pub(super) fn path_of(&self, name: &CStr) -> Vec<u8> {
        join(&self.path, name.to_bytes())
    }

    /// Returns the directory of that name in it.
    pub(super) fn directory(&self, name: &CStr) -> Directory {
        Directory {
            path: self.path_of(name),
            rules: self.rules.clone(),
            has_rules: self.has_rules,
            hidden: self.hidden,
        }
    }

    /// Checks that it still has the same entries. To be called after all of them were listed.
    pub(super) fn check(&self, at: &Path) -> std::result::Result<(), ContentError> {
        let failed = |action| changed_or_failed(action, || on_host(at, &self.path));
        if self.place().stat().map_err(failed("look at"))? == self.stat {
            return Ok(());
        }
        // It does where only ignored files are added or removed, or only its mode changes.
        let now = self.counted(list_unless(self.is_hidden, &self.fd).map_err(failed("list"))?);
        if now == self.names { Ok(()) } else { Err(ContentError::Changing { path: on_host(at, &self.path) }) }
    }

    fn counted(&self, mut all: Vec<(CString, FileType)>) -> Vec<(CString, FileType)> {
        if let Some(rules) = &self.rules {
            all.retain(|(name, kind)| !rules.ignore(&self.path_of(name), *kind == FileType::Directory));
        }
        all.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        all
    }
}

/// Returns the host's path for a path below the top.
pub(super) fn on_host(top: &Path, below: &[u8]) -> PathBuf {
    if below.is_empty() { top.to_owned() } else { top.join(OsStr::from_bytes(below)) }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

/// Opens the directory at a path of any length. A link in the path has been made since, and is not followed.
fn open_below(top: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    let open = |from: BorrowedFd<'_>, path: &Path| open_without_links(from, path, OFlags::RDONLY | OFlags::DIRECTORY);
    let (at, rest) = shorten(top, Path::new(OsStr::from_bytes(path)), open)?;
    open(at.as_ref().map_or(top, AsFd::as_fd), rest)
}

/// As [`list`]; no entries for the hidden directory.
fn list_unless(is_hidden: bool, directory: &OwnedFd) -> Result<Vec<(CString, FileType)>> {
    if is_hidden { Ok(Vec::new()) } else { list(directory) }
}

/// Returns names and types, in no order.
fn list(directory: &OwnedFd) -> Result<Vec<(CString, FileType)>> {
    let named = |entry: Entry| entry.kind(directory.as_fd()).map(|kind| (entry.into_c_name(), kind));
    entries(directory.as_fd())?.into_iter().map(named).collect()
}

/// The largest file of rules that is read; all of it is compiled.
const MAX_RULES: u64 = 1 << 20;

fn read_rules(
    directory: &OwnedFd,
    below: &[u8],
    path: &Path,
    above: Option<Arc<Rules>>,
) -> std::result::Result<Rules, ContentError> {
    let name = CString::new(ignore::NAME).unwrap_or_default();
    let path = path.join(ignore::NAME);
    let file = FileLocation::new(directory.as_fd(), &name).open(OFlags::PATH);
    let file = file.map_err(changed_or_failed("open", || path.clone()))?;
    let text = match regular::reopen(file.as_fd()).and_then(|file| regular::read_all(file, MAX_RULES)) {
        Ok(text) => text,
        Err(source) => return Err(ContentError::Io { action: "read", path, source }),
    };
    Rules::parse(&text, below, above).map_err(|(line, reason)| ContentError::Ignore { path, line, reason })
}
