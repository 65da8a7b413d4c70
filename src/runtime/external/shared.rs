//! Mounts that lie in a bind, put there by the helper itself: a runtime would follow links to their places, and those of a
//! directory that other containers have too can be changed by their steps at any time.
//!
//! The bind becomes a copy of its own in the helper's mount namespace, with the mounts in it, and a runtime binds that with
//! all that is mounted there.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use rustix::fs::{CWD, FileType, OFlags, fstat};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount};

use super::Open;
use super::watched::mounted_at;
use crate::error::context;
use crate::fs::in_root::open_beneath;
use crate::mount::make_mount_point;
use crate::runtime::attach::{Attached, make};
use crate::runtime::lost_mount;

/// The config.json of a session's steps, with the mounts that lie in binds in their places already.
#[derive(Debug)]
pub struct Shared {
    /// The config.json without them.
    pub spec: Spec,
    attached: Attached,
    /// The targets of those mounts, with the numbers of the mounts in the helper's namespace.
    placed: Vec<(PathBuf, u64)>,
}

impl Shared {
    /// Puts the mounts of a session that lie in binds into their places, in this process' mount namespace.
    ///
    /// # Errors
    /// With the target, where it cannot be made or a link is on the way.
    pub fn place(open: &Open) -> io::Result<Self> {
        // Secrets and device nodes lie in the workspace itself, which no bind is to show.
        mount_change(&open.workspace, MountPropagationFlags::PRIVATE)?;
        let all: Vec<&Mount> = open.spec.mounts().iter().flatten().collect();
        let mut shared = Self { spec: open.spec.clone(), attached: Attached::default(), placed: Vec::new() };
        let mut mounts = Vec::new();
        for (index, mount) in all.iter().enumerate() {
            let target = mount.destination();
            let is_bind = mount.typ().as_deref() == Some("bind");
            let around = |other: &&&Mount| other.destination() != target && target.starts_with(other.destination());
            let around =
                all[..index].iter().filter(around).max_by_key(|other| other.destination().components().count());
            // A mount in a filesystem that the runtime mounts for each step is left to the runtime.
            let placed_in = shared.attached.around(target).map(|(at, _)| at);
            if is_bind && placed_in.is_some() && placed_in == around.map(|other| other.destination().as_path()) {
                shared.attached.attach(CWD, mount)?;
                let number = shared.number(target).ok_or_else(|| io::Error::other(lost_mount::words(target)))?;
                shared.placed.retain(|(other, _)| other != target);
                shared.placed.push((target.clone(), number));
                continue;
            }
            let lies_in_it = |later: &&&Mount| later.destination() != target && later.destination().starts_with(target);
            if is_bind && all[index + 1..].iter().any(|later| lies_in_it(&later)) {
                let place = open.folder.join(format!("shared{index}"));
                let copied = shared.copy(mount, &place);
                mounts.push(copied.map_err(context(format_args!("mount {}", target.display())))?);
            } else {
                mounts.push((*mount).clone());
            }
        }
        shared.spec.set_mounts(Some(mounts));
        Ok(shared)
    }

    /// Copies a bind to `place`, with its options; gives how a runtime is to bind the copy.
    fn copy(&mut self, mount: &Mount, place: &Path) -> io::Result<Mount> {
        let made = make(mount)?;
        make_mount_point(place, FileType::from_raw_mode(fstat(&made)?.st_mode) == FileType::Directory)?;
        move_mount(&made, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        self.attached.add(mount.destination(), made);
        let mut copied = mount.clone();
        let propagation = |option: &&String| ["private", "slave", "shared"].contains(&option.trim_start_matches('r'));
        let propagation = mount.options().iter().flatten().filter(propagation).cloned();
        copied.set_options(Some(std::iter::once("rbind".to_owned()).chain(propagation).collect()));
        copied.set_source(Some(place.to_owned()));
        Ok(copied)
    }

    /// Says which of the mounts is no longer in its place, in any mount namespace.
    pub fn lost(&self) -> Option<String> {
        let gone = self.placed.iter().find(|(target, number)| self.number(target) != Some(*number))?;
        Some(lost_mount::words(&gone.0))
    }

    /// Whether this process has put a mount there, and it is still in its place.
    pub fn is_in_place(&self, target: &Path) -> bool {
        self.placed.iter().any(|(placed, number)| placed == target && self.number(target) == Some(*number))
    }

    fn number(&self, target: &Path) -> Option<u64> {
        let (at, around) = self.attached.around(target)?;
        let place = open_beneath(around, target.strip_prefix(at).ok()?, OFlags::PATH).ok()?;
        mounted_at(place.as_fd())
    }
}
