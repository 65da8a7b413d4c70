//! Stacks a session's layers: mounts them, and freezes its changes as a new one.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use super::{InitialChanges, LowerLayer, Session, SessionError, skeleton};
use crate::error::context;
use crate::fs::in_root::open_beneath;
use crate::mount::{FileNumbers, Mounted, bind_read_only, mount_overlay};

impl Session<'_> {
    pub(super) fn numbers(&self) -> FileNumbers {
        if self.container.xino { FileNumbers::Stable } else { FileNumbers::OfLayers }
    }

    /// Mounts the layers below alone, read-only.
    pub(super) fn mount_layers(&self, target: &Path) -> Result<Mounted, SessionError> {
        let empty = self.scratch.directory("empty")?;
        if self.lowers.is_empty() {
            // A root from nothing: overlayfs needs two layers, and refuses the same directory twice.
            return Ok(bind_read_only(&empty, target)?);
        }
        let mut lowers: Vec<&Path> = self.lowers.iter().rev().map(LowerLayer::path).collect();
        lowers.push(&empty);
        Ok(mount_overlay(&lowers, None, target, self.numbers())?)
    }

    /// Makes the directory for changes: with the initial ones, or a new one with the attributes of `like`, the root of the layers
    /// below.
    pub(super) fn new_upper(&self, like: &Path) -> Result<PathBuf, SessionError> {
        if let Some(InitialChanges::Upper(upper)) = &self.initial_changes {
            return Ok(upper.clone());
        }
        let upper = self.scratch.directory("upper")?;
        if let Some(InitialChanges::Saved(saved)) = &self.initial_changes {
            saved.restore(&upper)?;
            return Ok(upper);
        }
        let like = rustix::fs::open(like, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(io::Error::from)?;
        let copied = skeleton::copy_attributes(like.as_fd(), Path::new("/"), &upper);
        copied.map_err(context("copy the attributes of the root directory"))?;
        Ok(upper)
    }

    pub(super) fn overlay(&self, skeleton: &Path, upper: &Path, target: &Path) -> Result<Mounted, SessionError> {
        let mut lowers: Vec<&Path> = vec![skeleton];
        lowers.extend(self.lowers.iter().rev().map(LowerLayer::path));
        if self.container.read_only {
            let empty = self.scratch.directory("empty")?;
            lowers.push(&empty);
            return Ok(mount_overlay(&lowers, None, target, self.numbers())?);
        }
        let work = self.scratch.directory("work")?;
        Ok(mount_overlay(&lowers, Some((upper, &work)), target, self.numbers())?)
    }

    /// Ends the container and unmounts the root; the changes since the last time become the topmost layer below. The session may
    /// be started again, on top of that layer.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn freeze(&mut self) -> Result<LowerLayer, SessionError> {
        self.refuse_lost()?;
        let upper = match self.live.take() {
            Some(live) => live.end()?,
            None => self.untouched_upper()?,
        };
        self.initial_changes = None;
        let lower = LowerLayer::frozen(upper, Arc::clone(&self.scratch));
        self.lowers.push(lower.clone());
        self.own_layers += 1;
        Ok(lower)
    }

    /// Returns the upper directory of a snapshot right after another one, with nothing but the root directory itself.
    pub(super) fn untouched_upper(&self) -> Result<PathBuf, SessionError> {
        let target = self.workspace.directory("layers")?;
        let layers = self.mount_layers(&target)?;
        let upper = self.new_upper(layers.path())?;
        layers.close().map_err(SessionError::Busy)?;
        Ok(upper)
    }

    /// Returns the layers below, the lowest first.
    pub fn lowers(&self) -> &[LowerLayer] {
        &self.lowers
    }

    /// Returns whether one of the layers below the topmost one has a file at a path.
    pub fn is_below(&self, path: &Path) -> bool {
        let below = path.strip_prefix("/").unwrap_or(path);
        let has = |layer: &LowerLayer| {
            let top = rustix::fs::open(layer.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
            let opened = top.and_then(|top| open_beneath(top, below, OFlags::PATH | OFlags::NOFOLLOW));
            // A path that cannot be opened may exist.
            !matches!(opened, Err(rustix::io::Errno::NOENT))
        };
        self.lowers.split_last().is_some_and(|(_, below)| below.iter().any(has))
    }

    /// Replaces the layers below; the topmost `own` of the new ones are those of its own snapshots since the last full one. The
    /// session must not be running.
    pub fn rebase(&mut self, lowers: Vec<LowerLayer>, own: usize) {
        self.lowers = lowers;
        self.own_layers = own;
    }

    /// Returns the number of the topmost layers that its own snapshots have written since the last full one.
    pub fn own_layer_count(&self) -> usize {
        self.own_layers
    }

    pub(super) fn own_layers(&self) -> &[LowerLayer] {
        &self.lowers[self.lowers.len().saturating_sub(self.own_layers)..]
    }
}
