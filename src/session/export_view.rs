//! Mounts the root of a session for an export: its layers and its present changes, without the files that the session itself adds.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use super::{LowerLayer, Session, SessionError};
use crate::error::context;
use crate::mount::{Mounted, mount_overlay};
use crate::runtime::spec::DEFAULT_MOUNT_POINTS;

impl Session<'_> {
    /// Begins to run, where it continues from a checkpoint or a copy: only a running session has its changes in a directory.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub fn restore_changes(&mut self) -> Result<(), SessionError> {
        if self.live.is_none() && self.initial_changes.is_some() { self.start() } else { Ok(()) }
    }

    /// Returns its layers, the lowest first, and whether the topmost one is its present changes. No process may be running.
    pub fn export_layers(&self) -> (Vec<PathBuf>, bool) {
        let mut layers: Vec<PathBuf> = self.lowers.iter().map(|layer| layer.path().to_owned()).collect();
        let changes = self.changes().map(Path::to_owned);
        let is_changed = changes.is_some();
        layers.extend(changes);
        (layers, is_changed)
    }

    /// Mounts the root read-only, as the steps up to now have made it. No process may be running. With `is_whole`, directories that
    /// no system starts without are there, empty, where the root lacks them.
    ///
    /// # Errors
    /// See [`SessionError`].
    pub fn export_view(&self, is_whole: bool) -> Result<Mounted, SessionError> {
        self.refuse_lost()?;
        let (target, empty) = (self.workspace.directory("export")?, self.scratch.directory("empty")?);
        let lowest = self.scratch.directory("points")?;
        if is_whole {
            make_mount_points(&lowest).map_err(context("make /proc, /sys and /dev of an export"))?;
        }
        // The root has the attributes of the topmost layer that there is.
        let mut lowers: Vec<&Path> = self.changes().into_iter().collect();
        lowers.extend(self.lowers.iter().rev().map(LowerLayer::path));
        lowers.push(&lowest);
        if lowers.len() == 1 {
            // Overlayfs needs two layers.
            lowers.push(&empty);
        }
        Ok(mount_overlay(&lowers, None, &target, self.numbers())?)
    }
}

fn make_mount_points(directory: &Path) -> io::Result<()> {
    let points = DEFAULT_MOUNT_POINTS.map(|point| directory.join(point.trim_start_matches('/')));
    for point in &points {
        std::fs::DirBuilder::new().mode(0o755).create(point)?;
        // Set explicitly, because the umask depends on how runner was started.
        rustix::fs::chmod(point, rustix::fs::Mode::from_raw_mode(0o755))?;
    }
    let time = Timespec { tv_sec: 0, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    let all: Vec<PathBuf> = points.into_iter().chain([directory.to_owned()]).collect();
    Ok(all.iter().try_for_each(|path| utimensat(CWD, path, &times, AtFlags::empty()))?)
}
