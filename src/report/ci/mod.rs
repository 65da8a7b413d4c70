//! The display of a build in a CI system: groups in the log, annotations at the manifest's lines, a summary of the
//! job.

mod groups;
mod summary;
mod syntax;

pub(super) use groups::Groups;
pub(super) use summary::Summary;

/// A CI system whose log can be folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ci {
    /// GitHub Actions, and Gitea and Forgejo, which read the same commands.
    GitHub,
    /// GitLab CI.
    GitLab,
}
