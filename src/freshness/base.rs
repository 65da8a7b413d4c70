//! What a rootfs source holds, as the lowest link of what a session stands on.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{Judge, JudgeError};
use crate::build::Rootfs;
use crate::digest::Hasher;
use crate::key::Link;
use crate::rootfs::{self, Source};

impl Judge<'_> {
    /// The link of a rootfs that is no snapshot.
    pub(super) fn base(&self, container: &str, rootfs: &Rootfs) -> Result<Link, JudgeError> {
        let id = match rootfs {
            // A snapshot has links of its own.
            Rootfs::Scratch | Rootfs::Snapshot(_) => "scratch".to_owned(),
            // Without a store nothing is looked up, and an image may be large.
            _ if self.store.is_none() => String::new(),
            Rootfs::Squashfs(path) => format!("squashfs {}", self.contents.of_file(path)?),
            Rootfs::Tar(path) => format!("tar {}", self.contents.of_file(path)?),
            Rootfs::Dir(path) => format!("dir {}", self.contents.of_all(path)?.digest),
            Rootfs::Programs(programs) => format!("programs {}", self.programs(programs)?),
        };
        Ok(Link { name: format!("the rootfs of {container}"), id })
    }

    /// The digest of all that a root of programs is made of: paths, links, permission bits and contents.
    fn programs(&self, programs: &[PathBuf]) -> Result<crate::digest::Digest, JudgeError> {
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
