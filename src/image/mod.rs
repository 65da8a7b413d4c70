//! Describes images: the sizes of one, and the differences of two in packages, files, privileges and sizes.
//!
//! Reviewers and JSON get the same descriptions, so their types are those of `schemas/diff.v1.schema.json`. Times of
//! modification are not compared, because every build has others; `runner store diff` lists them.
//!
//! An image is hostile: each list has a bound in entries and in bytes, and says how many entries it omits.

mod capabilities;
mod content;
mod difference;
mod facts;
mod installed;
mod package_changes;
mod sizes;

pub use content::{Content, NamedSize};
pub use difference::{FileChange, FileChanges, ImageDifference, Images, Privileges, Root, Side, between};
pub use facts::FileFacts;
pub use installed::{InstalledError, installed};
pub use package_changes::{PackageChange, PackageChanges};
pub use sizes::Sizes;

/// How something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// The new image alone has it.
    Added,
    /// The old image alone has it.
    Removed,
    /// Both have it, and it differs.
    Changed,
}

impl Change {
    /// Returns the sign of a line about it.
    pub fn sign(self) -> char {
        match self {
            Self::Added => '+',
            Self::Removed => '-',
            Self::Changed => '~',
        }
    }

    /// Returns how something differs by whether each image has it.
    fn of(is_in: [bool; 2]) -> Self {
        match is_in {
            [false, _] => Self::Added,
            [true, false] => Self::Removed,
            [true, true] => Self::Changed,
        }
    }
}
