//! What a rootfs source holds, as the lowest link of what a session stands on.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{Judge, JudgeError};
use crate::build::{ContainerId, Rootfs};
use crate::digest::{Digest, Hasher};
use crate::key::Link;
use crate::lock::LockedRootfs;
use crate::rootfs::{self, Source};

impl Judge<'_> {
    /// The link of a rootfs that is no snapshot.
    pub(super) fn base(&self, container: &str, rootfs: &Rootfs) -> Result<Link, JudgeError> {
        // Without a store nothing is looked up, and an image may be large.
        let source = if self.store.is_none() { None } else { self.source(rootfs)? };
        let id = source.map_or("scratch".to_owned(), |(kind, digest)| format!("{kind} {digest}"));
        Ok(Link { name: format!("the rootfs of {container}"), id })
    }

    /// What the rootfs sources of the planned containers hold.
    ///
    /// # Errors
    /// Where that cannot be told.
    pub fn sources(&self) -> Result<Vec<LockedRootfs>, JudgeError> {
        let mut sources = Vec::new();
        for (index, container) in self.build.containers.iter().enumerate() {
            if self.segments.of_container(ContainerId(index)).is_empty() {
                continue;
            }
            if let Some((kind, digest)) = self.source(&container.rootfs)? {
                let container = container.name.clone();
                sources.push(LockedRootfs { container, kind: kind.to_owned(), digest: digest.to_string() });
            }
        }
        Ok(sources)
    }

    /// The kind of a rootfs source, and the digest of what it holds; none for an empty root and for a snapshot, which has
    /// links of its own.
    fn source(&self, rootfs: &Rootfs) -> Result<Option<(&'static str, Digest)>, JudgeError> {
        Ok(Some(match rootfs {
            Rootfs::Scratch | Rootfs::Snapshot(_) => return Ok(None),
            Rootfs::Squashfs(path) => ("squashfs", self.contents.of_file(path)?),
            Rootfs::Tar(path) => ("tar", self.contents.of_file(path)?),
            Rootfs::Dir(path) => ("dir", self.contents.of_all(path)?.digest),
            Rootfs::Programs(programs) => ("programs", self.programs(programs)?),
        }))
    }

    /// The digest of all that a root of programs is made of: paths, links, permission bits and contents.
    fn programs(&self, programs: &[PathBuf]) -> Result<Digest, JudgeError> {
        let mut hasher = Hasher::new();
        let mut take = |part: &[u8]| {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        };
        for (path, source) in rootfs::sources(programs)? {
            take(&path);
            match source {
                Source::Folder => take(b"folder"),
                Source::Link(target) => {
                    take(b"link");
                    take(&target);
                }
                Source::File(file, mode) => {
                    take(format!("file {mode:o}").as_bytes());
                    take(self.contents.of_file(&file)?.as_bytes());
                }
            }
        }
        for program in programs {
            take(program.as_os_str().as_bytes());
        }
        Ok(hasher.finish())
    }
}
