//! Finds groups by their names, also those of a runner that has ended.

use std::os::fd::AsFd;

use super::controllers::restore;
use super::dir::{GroupDir, children};
use super::error::CgroupError;
use super::group_set::{GroupSet, HOST_LEAF};

/// The most levels that are searched: no runner runs deeper, but a container may nest its own groups to any depth.
const MAX_LEVELS: usize = 32;

impl GroupSet {
    /// Returns the groups directly below these whose names match.
    #[must_use]
    pub fn children(&self, matches_name: impl Fn(&str) -> bool) -> Self {
        self.search(1, &matches_name)
    }

    /// Returns all groups visible to this process whose names match, but none below those.
    ///
    /// # Errors
    /// Those of [`GroupSet::of_this_process`].
    pub fn find(matches_name: impl Fn(&str) -> bool) -> Result<Self, CgroupError> {
        Ok(Self::roots()?.search(MAX_LEVELS, &matches_name))
    }

    fn search(&self, levels: usize, matches_name: &dyn Fn(&str) -> bool) -> Self {
        let mut found = Vec::new();
        for hierarchy in self.hierarchies() {
            below(&hierarchy.own, levels, matches_name, &mut |group| found.push(hierarchy.with(group)));
        }
        Self::of(found)
    }

    /// Splits the groups into those that match, and the others.
    #[must_use]
    pub fn partition(self, is_first: impl Fn(&GroupDir) -> bool) -> (Self, Self) {
        let (first, second) = self.into_hierarchies().into_iter().partition(|hierarchy| is_first(&hierarchy.own));
        (Self::of(first), Self::of(second))
    }
}

/// Restores every v2 group that is visible to this process, and that a runner which has ended has changed.
///
/// # Errors
/// Those of [`GroupSet::of_this_process`].
pub fn restore_all() -> Result<(), CgroupError> {
    let roots = GroupSet::roots()?;
    let Some(root) = roots.v2() else { return Ok(()) };
    restore(root);
    below(root, MAX_LEVELS, &|name| name == HOST_LEAF, &mut |leaf| {
        if let Ok(group) = leaf.parent() {
            restore(&group);
        }
    });
    Ok(())
}

fn below(group: &GroupDir, levels: usize, matches_name: &dyn Fn(&str) -> bool, found: &mut dyn FnMut(GroupDir)) {
    if levels == 0 {
        return;
    }
    for name in children(group.as_fd()).unwrap_or_default() {
        // Skips a group that was removed by now, or whose name cannot be one of runner's.
        let Some(name) = name.to_str() else { continue };
        let Ok(child) = group.child(name) else { continue };
        if matches_name(name) {
            found(child);
        } else {
            below(&child, levels - 1, matches_name, found);
        }
    }
}
