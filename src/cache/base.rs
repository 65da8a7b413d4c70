//! Digests the content of a rootfs source, the lowest parent of the layers built on it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Base, CacheCheckError, CacheChecker, base_name, lock};
use crate::cache::key::{Link, Parents};
use crate::content::{ContentError, State};
use crate::digest::{Digest, Hasher};
use crate::fs::dirfd::path_of;
use crate::lock::LockedRootfs;
use crate::model::{Action, Build, ContainerId, FileSource, ImagePlace, Rootfs, Snapshot, SnapshotMode, UrlSource};
use crate::rootfs::{self, Source};

/// The content of a rootfs source.
struct SourceContent {
    kind: &'static str,
    /// Those of its layers, the lowest first; most sources have one.
    digests: Vec<Digest>,
    state: State,
}

impl CacheChecker<'_> {
    /// Returns a container's rootfs source as parents, and its state.
    pub(super) fn base_of(&self, id: ContainerId) -> Result<Base, CacheCheckError> {
        let container = self.build.container(id);
        self.stored_or(
            |facts| facts.bases.get(&id).cloned(),
            || self.base(id, &container.name, &container.rootfs),
            |facts, base| drop(facts.bases.insert(id, base)),
        )
    }

    /// Returns the rootfs source below a segment that has run. A tar or programs are copied when a session opens, so
    /// later changes do not reach the session: they are digested once for each session, because that takes as long as
    /// everything else of a small layer.
    pub(super) fn base_below(&self, index: usize, bottom: ContainerId) -> Result<Base, CacheCheckError> {
        if !matches!(self.build.container(bottom).rootfs, Rootfs::Tar(_) | Rootfs::Programs(_)) {
            return self.base_of(bottom);
        }
        let container = self.segments.get(index).container;
        if let Some(base) = lock(&self.checked).copied.get(&container) {
            return Ok(base.clone());
        }
        let base = self.base_of(bottom)?;
        lock(&self.checked).copied.insert(container, base.clone());
        Ok(base)
    }

    /// Refuses files of rootfs sources of the planned containers that have other digests than the manifest names, before a step runs.
    /// It reads only those files for which the manifest names one, and their digests are stored for the keys.
    ///
    /// # Errors
    /// [`ContentError::OtherDigest`], and those of reading the files.
    pub fn refuse_other_files(&self) -> Result<(), CacheCheckError> {
        for (id, container) in self.build.own_containers() {
            let has_digest = container.rootfs.files().iter().any(|file| file.digest.is_some());
            if has_digest && !self.segments.of_container(id).is_empty() {
                self.base_of(id)?;
            }
        }
        Ok(())
    }

    /// Notes that the session of a container opens again.
    pub fn reopens(&self, container: ContainerId) {
        lock(&self.checked).copied.remove(&container);
    }

    /// Returns the container whose rootfs source a segment's session has at its bottom, below all layers; none where a
    /// full image is at the bottom.
    pub(super) fn bottom(&self, index: usize) -> Option<ContainerId> {
        let mut bottoms = lock(&self.bottoms);
        let (mut visited, mut index) = (Vec::new(), index);
        let bottom = loop {
            if let Some(bottom) = bottoms.get(&index) {
                break *bottom;
            }
            visited.push(index);
            let Some(on) = self.segments.built_on(self.build, index) else {
                break Some(self.segments.get(index).container);
            };
            let is_full = |snapshot: &Snapshot| snapshot.mode == SnapshotMode::Full;
            match self.segments.of_step(on) {
                Some(_) if matches!(&self.build.step(on).action, Action::Snapshot(it) if is_full(it)) => break None,
                Some(below) => index = below,
                None => break None,
            }
        };
        bottoms.extend(visited.into_iter().map(|index| (index, bottom)));
        bottom
    }

    /// Returns the parents for a rootfs source that is no snapshot: one for each of its layers.
    fn base(&self, id: ContainerId, container: &str, rootfs: &Rootfs) -> Result<Base, CacheCheckError> {
        let name = base_name(container);
        if let Rootfs::Image(source) = rootfs {
            let image = self.options.images.get(&id).and_then(|found| found.image.as_ref());
            let id = image.map_or_else(
                || format!("{source}, which is not in the store"),
                |image| format!("image {}", image.digest),
            );
            return Ok((Parents::default().with(Link { name, id }), State::default()));
        }
        if let Rootfs::Url(source) = rootfs {
            let found = self.options.images.get(&id).map(|found| format!("url {}", found.first));
            let id = found.unwrap_or_else(|| format!("{}, whose digest is unknown", source.url));
            return Ok((Parents::default().with(Link { name, id }), State::default()));
        }
        // Without a store no key is looked up, and digesting a large image would be in vain.
        let source = if self.store.is_none() { None } else { self.source(rootfs)? };
        let Some(SourceContent { kind, digests, state }) = source else {
            return Ok((Parents::default().with(Link { name, id: "scratch".to_owned() }), State::default()));
        };
        let is_only = digests.len() == 1;
        let link = |(n, digest): (usize, &Digest)| Link {
            name: if is_only { name.clone() } else { format!("{name}, layer {}", n + 1) },
            id: format!("{kind} {digest}"),
        };
        Ok((digests.iter().enumerate().map(link).collect(), state))
    }

    /// Returns the contents of the rootfs sources of the planned containers.
    ///
    /// # Errors
    /// Those of reading the sources.
    pub fn sources(&self) -> Result<Vec<LockedRootfs>, CacheCheckError> {
        let mut sources = Vec::new();
        for (id, container) in self.build.own_containers() {
            if self.segments.of_container(id).is_empty() {
                continue;
            }
            let locked = |kind: &str, digests: Vec<Digest>, source: Option<String>| LockedRootfs {
                container: container.name.clone(),
                kind: kind.to_owned(),
                source,
                digests: digests.iter().map(ToString::to_string).collect(),
            };
            if let Rootfs::Image(source) = &container.rootfs {
                let found = self.options.images.get(&id);
                // The path of a layout is no part of a lock, as that of an archive.
                let name = matches!(source.place, ImagePlace::Registry(_)).then(|| source.to_string());
                sources.push(locked(source.kind(), found.map(|found| found.first).into_iter().collect(), name));
            } else if let Rootfs::Url(source) = &container.rootfs {
                let found = self.options.images.get(&id).map(|found| found.first);
                sources.push(locked(UrlSource::KIND, found.into_iter().collect(), Some(source.url.clone())));
            } else if let Some(SourceContent { kind, digests, .. }) = self.source(&container.rootfs)? {
                sources.push(locked(kind, digests, None));
            }
        }
        Ok(sources)
    }

    /// Digests a rootfs source; none for an empty root and for a snapshot, which has links of its own.
    fn source(&self, rootfs: &Rootfs) -> Result<Option<SourceContent>, CacheCheckError> {
        let (kind, (digest, state)) = match rootfs {
            Rootfs::Scratch | Rootfs::Snapshot(_) | Rootfs::Image(_) | Rootfs::Url(_) => return Ok(None),
            Rootfs::Squashfs(layers) => {
                let (mut digests, mut state) = (Vec::new(), State::default());
                for FileSource { path, digest } in layers {
                    let (digest, found) = self.contents.of_expected_file(path, digest.as_ref())?;
                    digests.push(digest);
                    state = state.and(found);
                }
                return Ok(Some(SourceContent { kind: "squashfs", digests, state }));
            }
            Rootfs::Erofs(FileSource { path, digest }) => {
                ("erofs", self.contents.of_expected_file(path, digest.as_ref())?)
            }
            Rootfs::Tar(FileSource { path, digest }) => ("tar", self.contents.of_expected_file(path, digest.as_ref())?),
            Rootfs::Dir(path) => ("dir", self.directory(path)?),
            Rootfs::Programs(programs) => ("programs", self.programs(programs)?),
        };
        Ok(Some(SourceContent { kind, digests: vec![digest], state }))
    }

    /// Returns the digest of a directory used as a root: its content, and the further metadata in an image of it.
    fn directory(&self, top: &Path) -> Result<(Digest, State), CacheCheckError> {
        let content = self.contents.of_root(top)?;
        let mut parts = PartsDigest::default();
        parts.take(content.digest.as_bytes());
        let opened = self.options.opened.get(top);
        let opened = opened.map_err(|source| ContentError::Io { action: "open", path: top.to_owned(), source })?;
        let at = opened.as_ref().map_or_else(|| top.to_owned(), |opened| path_of(opened.as_fd()));
        let mut names = HashMap::new();
        for entry in content.listing.entries() {
            let path = at.join(entry.path);
            // The top itself may be a link to the directory, as a bind's source may.
            let found = if entry.path.as_os_str().is_empty() { at.metadata() } else { path.symlink_metadata() };
            let found =
                found.map_err(|source| ContentError::Io { action: "look at", path: top.join(entry.path), source })?;
            parts.take(self.time_in_image(&found).as_bytes());
            if !found.is_dir() && found.nlink() > 1 {
                let first = names.entry((found.dev(), found.ino())).or_insert_with(|| entry.path.to_owned());
                parts.take(first.as_os_str().as_bytes());
            }
        }
        Ok((parts.digest(), content.state))
    }

    /// Returns the digest of everything that a root of programs is made of: paths, links, permission bits, times and
    /// contents.
    fn programs(&self, programs: &[PathBuf]) -> Result<(Digest, State), CacheCheckError> {
        let (mut parts, mut state) = (PartsDigest::default(), State::default());
        for (path, source) in rootfs::sources(programs)? {
            parts.take(&path);
            // A file that the root has and the host lacks has a fixed time.
            let host = Path::new("/").join(OsStr::from_bytes(&path)).symlink_metadata();
            let time = host.map(|found| self.time_in_image(&found)).unwrap_or_default();
            match source {
                Source::Directory => parts.take(b"folder"),
                Source::Link(target) => {
                    parts.take(format!("link {time}").as_bytes());
                    parts.take(&target);
                }
                Source::File(file, mode) => {
                    parts.take(format!("file {mode:o} {time}").as_bytes());
                    let (digest, found) = self.contents.of_file_with_state(&file)?;
                    parts.take(digest.as_bytes());
                    state = state.and(found);
                }
            }
        }
        for program in programs {
            parts.take(program.as_os_str().as_bytes());
        }
        Ok((parts.digest(), state))
    }

    /// Returns the time that a file has in an image, if it is the file's own: a time later than the epoch becomes the
    /// epoch, see [`normalise`](crate::snapshot::normalise). So a checkout whose times are all later is the same on
    /// every machine.
    fn time_in_image(&self, found: &Metadata) -> String {
        let epoch = epoch(self.build);
        if epoch.is_some_and(|epoch| found.mtime() >= epoch) { String::new() } else { found.mtime().to_string() }
    }
}

/// Returns the time that an image has in place of later ones, in seconds since 1970.
pub(super) fn epoch(build: &Build) -> Option<i64> {
    build.source_date_epoch.and_then(|epoch| i64::try_from(epoch).ok())
}

/// A digest of several parts, each preceded by its length.
#[derive(Default)]
struct PartsDigest(Hasher);

impl PartsDigest {
    fn take(&mut self, part: &[u8]) {
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    fn digest(self) -> Digest {
        self.0.finish()
    }
}
