//! What CI systems show of a build: groups in the log, annotations at the manifest's lines, a summary of the job.

mod groups;
mod summary;
mod syntax;

pub(super) use groups::Groups;
pub(super) use summary::Summary;

/// A CI system whose log runner knows how to fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ci {
    /// GitHub Actions, and Gitea and Forgejo, which take the same commands.
    GitHub,
    /// GitLab CI.
    GitLab,
}
