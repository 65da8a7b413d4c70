//! Attaches the mounts that lie in a bind, in the helper itself: a runtime would follow links to their mount points, and steps of
//! other containers that have the same directory bound can change those at any time.
//!
//! The helper makes a copy of the bind in its own mount namespace, attaches the mounts in it, and a runtime binds that copy with
//! all its mounts.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};
use rustix::fs::{CWD, FileType, OFlags, fstat};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount};

use super::OpenRequest;
use super::watched::mounted_at;
use crate::error::context;
use crate::fs::in_root::open_beneath;
use crate::mount::make_mount_point;
use crate::runtime::attach::{AttachedMounts, make};
use crate::runtime::lost_mount;

/// The config.json of a session's steps, and the mounts that the helper has attached in binds already.
#[derive(Debug)]
pub struct SharedBinds {
    /// The config.json without these mounts.
    pub spec: Spec,
    attached: AttachedMounts,
    /// The targets of these mounts, with the ids of the mounts in the helper's namespace.
    placed: Vec<(PathBuf, u64)>,
}

impl SharedBinds {
    /// Attaches the mounts of a session that lie in binds, in this process' mount namespace.
    ///
    /// # Errors
    /// With the target, where it cannot be made or a symbolic link is on the way.
    pub fn attach(open: &OpenRequest) -> io::Result<Self> {
        // Secrets and device nodes lie in the workspace itself, which no bind may show.
        mount_change(&open.workspace, MountPropagationFlags::PRIVATE)?;
        let all: Vec<&Mount> = open.spec.mounts().iter().flatten().collect();
        let mut shared = Self { spec: open.spec.clone(), attached: AttachedMounts::default(), placed: Vec::new() };
        let mut mounts = Vec::new();
        for (index, mount) in all.iter().enumerate() {
            let target = mount.destination();
            let is_bind = mount.typ().as_deref() == Some("bind");
            let encloses = |other: &&&Mount| other.destination() != target && target.starts_with(other.destination());
            let enclosing =
                all[..index].iter().filter(encloses).max_by_key(|other| other.destination().components().count());
            // The runtime itself attaches a mount in a filesystem that it mounts for each step.
            let placed_in = shared.attached.enclosing(target).map(|(at, _)| at);
            if is_bind && placed_in.is_some() && placed_in == enclosing.map(|other| other.destination().as_path()) {
                shared.attached.attach(CWD, mount)?;
                let id = shared.mount_id(target).ok_or_else(|| io::Error::other(lost_mount::message(target)))?;
                shared.placed.retain(|(other, _)| other != target);
                shared.placed.push((target.clone(), id));
                continue;
            }
            let lies_in_it = |later: &&&Mount| later.destination() != target && later.destination().starts_with(target);
            if is_bind && all[index + 1..].iter().any(|later| lies_in_it(&later)) {
                let place = open.directory.join(format!("shared{index}"));
                let copied = shared.copy(mount, &place);
                mounts.push(copied.map_err(context(format_args!("mount {}", target.display())))?);
            } else {
                mounts.push((*mount).clone());
            }
        }
        shared.spec.set_mounts(Some(mounts));
        Ok(shared)
    }

    /// Copies a bind to `place`, with its options; returns the mount by which a runtime binds the copy.
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

    /// Returns the message for a mount that is no longer at its target, in every mount namespace.
    pub fn lost(&self) -> Option<String> {
        let lost = self.placed.iter().find(|(target, id)| self.mount_id(target) != Some(*id))?;
        Some(lost_mount::message(&lost.0))
    }

    /// Returns whether this process has attached a mount at this target, and it is still there.
    pub fn is_in_place(&self, target: &Path) -> bool {
        self.placed.iter().any(|(placed, id)| placed == target && self.mount_id(target) == Some(*id))
    }

    fn mount_id(&self, target: &Path) -> Option<u64> {
        let (at, enclosing) = self.attached.enclosing(target)?;
        let place = open_beneath(enclosing, target.strip_prefix(at).ok()?, OFlags::PATH).ok()?;
        mounted_at(place.as_fd())
    }
}
