//! Compares two listings: the files that differ, and how.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::listing::{Entry, Listing};
use crate::difference::pairs::{Pair, pairs};

/// The number of files that are listed.
pub const MAX_LISTED: usize = 10;

/// The differences between an old listing and a new one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// The first ten, by the bytes of their paths.
    pub first: Vec<Change>,
    /// The number of further files that differ.
    pub more: u64,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its path below the top; empty for the top itself.
    pub path: PathBuf,
    /// How it differs.
    pub how: How,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The top itself has no path.
        let path = if self.path.as_os_str().is_empty() { std::path::Path::new(".") } else { self.path.as_path() };
        match &self.how {
            How::Changed(aspects) => {
                let names: Vec<String> = aspects.iter().map(Aspect::to_string).collect();
                write!(f, "{} ({})", path.display(), names.join(", "))
            }
            how => write!(f, "{} ({how})", path.display()),
        }
    }
}

/// How a file differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// Only the new listing has it.
    Added,
    /// Only the old listing has it.
    Removed,
    /// It differs in these aspects, at least one.
    Changed(Vec<Aspect>),
}

/// An aspect in which a file differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aspect {
    /// Its type, as a file that became a directory. The contents are not compared then.
    Type,
    /// The bytes of a file, the target of a link, the device of a node.
    Content,
    /// Permission bits.
    Mode,
    /// User or group.
    Owner,
    /// Extended attributes and access control lists.
    Attributes,
    /// The time, where the old or the new time counts.
    Time,
    /// The names that lead to the same file.
    Links,
}

impl Changed {
    /// Compares two listings.
    pub fn between(old: &Listing, new: &Listing) -> Self {
        let mut changed = Self::default();
        let order =
            |old: &Entry<'_>, new: &Entry<'_>| old.path.as_os_str().as_bytes().cmp(new.path.as_os_str().as_bytes());
        for pair in pairs(old.entries(), new.entries(), order) {
            match pair {
                Pair::First(old) => changed.push(&old, How::Removed),
                Pair::Second(new) => changed.push(&new, How::Added),
                Pair::Both(old, new) => {
                    let aspects = aspects(&old, &new);
                    if !aspects.is_empty() {
                        changed.push(&new, How::Changed(aspects));
                    }
                }
            }
        }
        changed
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    fn push(&mut self, entry: &Entry<'_>, how: How) {
        if self.first.len() < MAX_LISTED {
            self.first.push(Change { path: entry.path.to_owned(), how });
        } else {
            self.more += 1;
        }
    }
}

fn aspects(old: &Entry<'_>, new: &Entry<'_>) -> Vec<Aspect> {
    let same_type = old.kind.is_like(new.kind);
    let all = [
        (!same_type, Aspect::Type),
        (same_type && old.kind != new.kind, Aspect::Content),
        // A link's mode is always the same, so a file that became a link or was one has another mode anyway.
        (same_type && old.mode != new.mode, Aspect::Mode),
        ((old.uid, old.gid) != (new.uid, new.gid), Aspect::Owner),
        (old.attributes != new.attributes, Aspect::Attributes),
        (old.time != new.time, Aspect::Time),
        (old.first_name != new.first_name, Aspect::Links),
    ];
    all.into_iter().filter(|(differs, _)| *differs).map(|(_, aspect)| aspect).collect()
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added => f.write_str("added"),
            Self::Removed => f.write_str("removed"),
            Self::Changed(aspects) => {
                let names: Vec<String> = aspects.iter().map(Aspect::to_string).collect();
                write!(f, "changed ({})", names.join(", "))
            }
        }
    }
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Type => "type",
            Self::Content => "content",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Attributes => "attributes",
            Self::Time => "time",
            Self::Links => "links",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::listing::{Draft, Kind};
    use super::*;
    use crate::digest::Digest;

    fn listing(entries: &[Entry<'_>]) -> Listing {
        let mut draft = Draft::default();
        entries.iter().for_each(|entry| draft.push(entry));
        Listing::from_drafts(&[draft])
    }

    fn entry(path: &str) -> Entry<'_> {
        let kind = Kind::File(Digest::of_bytes(b""));
        Entry {
            path: Path::new(path),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            attributes: None,
            time: None,
            first_name: None,
        }
    }

    fn changes_in_words(old: &[Entry<'_>], new: &[Entry<'_>]) -> Vec<String> {
        let changed = Changed::between(&listing(old), &listing(new));
        assert_eq!(changed.more, 0);
        changed.first.iter().map(|change| format!("{} {}", change.path.display(), change.how)).collect()
    }

    #[test]
    fn every_difference_is_reported_by_its_name() {
        let digest = Digest::of_bytes(b"x");
        let old = ["a", "b", "content", "d", "group", "linked", "mode", "same", "time", "type"].map(entry);
        let new = [
            entry("aa"),
            Entry { attributes: Some(digest), ..entry("b") },
            Entry { kind: Kind::File(digest), mode: 0o600, ..entry("content") },
            entry("d"),
            Entry { gid: 1, ..entry("group") },
            Entry { first_name: Some(Path::new("d")), ..entry("linked") },
            Entry { mode: 0o4644, ..entry("mode") },
            entry("same"),
            Entry { time: Some(0), ..entry("time") },
            Entry { kind: Kind::Directory, mode: 0o755, ..entry("type") },
            entry("z"),
        ];
        let expected = [
            "a removed",
            "aa added",
            "b changed (attributes)",
            "content changed (content, mode)",
            "group changed (owner)",
            "linked changed (links)",
            "mode changed (mode)",
            "time changed (time)",
            "type changed (type)",
            "z added",
        ];
        assert_eq!(changes_in_words(&old, &new), expected);
        assert!(changes_in_words(&old, &old).is_empty());
    }

    #[test]
    fn ten_files_are_listed_and_the_others_counted() {
        let paths: Vec<String> = (0..25).map(|at| format!("{at:02}")).collect();
        let entries: Vec<Entry<'_>> = paths.iter().map(|path| entry(path)).collect();
        let changed = Changed::between(&listing(&[]), &listing(&entries));
        assert_eq!((changed.first.len(), changed.more), (10, 15));
        assert_eq!(changed.first[9].path, Path::new("09"));
    }
}
