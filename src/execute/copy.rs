//! Copies the files of a step: from the root of a snapshot or from the host into the root of the session, by runner itself.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use super::failure::Failure;
use super::output::Output;
use super::step_context::{StepContext, session, unusable};
use crate::content::is_copied;
use crate::error::error_chain_with_hint;
use crate::event::Stream;
use crate::fs::copy_into::{Copied, Copier, CopyError, Rules, Source};
use crate::model::{Copy, CopySource, StepId};
use crate::session::{Session, SessionError};

/// The attributes of files of the host that are copied: those that every program can set, and capabilities.
fn is_of_host(name: &[u8]) -> bool {
    name.starts_with(b"user.") || name == b"security.capability"
}

impl StepContext<'_, '_> {
    /// Copies the files of the step.
    pub(super) fn copy(&self, copy: &Copy, output: &mut Output<'_>) -> Result<(), Failure> {
        let container = self.context.build.step(self.id).container;
        let _turn = self.sessions.turn(container, false);
        let slot = self.sessions.shared(container)?;
        let session = session(&slot)?;
        let owner = match (&copy.owner, copy.from) {
            (Some(owner), _) => {
                let credentials = session.credentials(owner).map_err(|error| {
                    Failure::own(
                        error_chain_with_hint(&error, error.hint().map(|hint| hint.replace("`user`", "`owner`"))),
                        None,
                    )
                })?;
                Some((credentials.uid, credentials.gid))
            }
            (None, CopySource::Host) => Some((0, 0)),
            (None, CopySource::Snapshot(_)) => None,
        };
        let copied = match copy.from {
            CopySource::Snapshot(step) => self.copy_snapshot(copy, step, session, owner),
            CopySource::Host => self.copy_host(copy, session, owner),
        };
        let Copied { files, bytes } = copied.map_err(|failure| match failure {
            CopyFailure::Copy(error) => self.explained(error, session),
            CopyFailure::Other(failure) => failure,
        })?;
        let count = |number: u64, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
        let line = format!("copied {}, {}\n", count(files, "file"), count(bytes, "byte"));
        let reported = output.take(Stream::Stdout, line.as_bytes()).map_err(unusable("write the step's log"));
        reported.map_err(|failure| output.log_error().map_or(failure, Failure::from))
    }

    fn copy_snapshot(
        &self,
        copy: &Copy,
        step: StepId,
        session: &Session<'_>,
        owner: Option<(u32, u32)>,
    ) -> Result<Copied, CopyFailure> {
        let root = self.sessions.snapshot_root(step)?;
        let name = &self.context.build.step(step).name;
        let check = || self.check_interrupt();
        let rules = Rules { owner, mode: copy.mode, has_attribute: is_copied, is_wanted: &|_| true, check: &check };
        let mut copier = Copier::new(session.target()?, rules);
        for path in &copy.sources {
            copier.copy(&Source::in_root(root.root(), path, name)?, &copy.place(path))?;
        }
        Ok(copier.finish()?)
    }

    fn copy_host(&self, copy: &Copy, session: &Session<'_>, owner: Option<(u32, u32)>) -> Result<Copied, CopyFailure> {
        let check = || self.check_interrupt();
        let mut copied = Copied::default();
        for path in &copy.sources {
            // Those that the key of the result names: not those that rules ignore.
            let content = self.checker.host_files(path).map_err(|error| CopyFailure::Other(error.into()))?;
            let wanted: HashSet<&Path> = content.listing.entries().map(|entry| entry.path).collect();
            let rules = Rules {
                owner,
                mode: copy.mode,
                has_attribute: is_of_host,
                is_wanted: &|path| wanted.contains(path),
                check: &check,
            };
            let mut copier = Copier::new(session.target()?, rules);
            let source = || -> io::Result<Source> {
                let file = self.context.paths.get(path)?;
                Source::new(file.as_fd().try_clone_to_owned()?, path)
            };
            let source = source().map_err(|source| CopyError::Source { path: path.clone(), source })?;
            copier.copy(&source, &copy.place(path))?;
            let Copied { files, bytes } = copier.finish()?;
            copied = Copied { files: copied.files + files, bytes: copied.bytes + bytes };
        }
        Ok(copied)
    }

    fn check_interrupt(&self) -> io::Result<()> {
        if self.context.interrupt.is_set() { Err(io::Error::other("interrupted")) } else { Ok(()) }
    }

    /// Returns the failure of a copy, with the full place where it found no space.
    fn explained(&self, error: CopyError, session: &Session<'_>) -> Failure {
        if let CopyError::Stopped(_) = error {
            return Failure::own("interrupted", None);
        }
        let words = error_chain_with_hint(&error, error.hint());
        match error.io() {
            Some(source) if source.kind() == io::ErrorKind::StorageFull => {
                let full = SessionError::Copy(io::Error::new(io::ErrorKind::StorageFull, words.clone()));
                match self.sessions.explained(full, Some(session.scratch())) {
                    SessionError::Full { full, .. } => Failure::own(format!("{words}: {full}; {}", full.hint()), None),
                    _ => Failure::own(words, None),
                }
            }
            _ => Failure::own(words, None),
        }
    }
}

/// The failure of a copy, before the place without space is named.
enum CopyFailure {
    Copy(CopyError),
    Other(Failure),
}

impl From<CopyError> for CopyFailure {
    fn from(error: CopyError) -> Self {
        Self::Copy(error)
    }
}

impl From<SessionError> for CopyFailure {
    fn from(error: SessionError) -> Self {
        Self::Other(error.into())
    }
}
