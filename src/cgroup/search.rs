//! Groups found by their names: those that a runner made, whatever has become of it since.

use std::os::fd::AsFd;

use super::controllers::restore;
use super::dir::{GroupDir, children};
use super::error::CgroupError;
use super::home::{HOST_LEAF, Home};

/// Deeper than this no runner runs; a container may nest its own groups as it likes.
const MAX_LEVELS: usize = 32;

impl Home {
    /// Returns the groups directly below these whose names are asked for.
    #[must_use]
    pub fn children(&self, is_wanted: impl Fn(&str) -> bool) -> Self {
        self.search(1, &is_wanted)
    }

    /// Returns all groups that this process can see whose names are asked for; not those below such.
    ///
    /// # Errors
    /// As [`Home::of_this_process`].
    pub fn find(is_wanted: impl Fn(&str) -> bool) -> Result<Self, CgroupError> {
        Ok(Self::roots()?.search(MAX_LEVELS, &is_wanted))
    }

    fn search(&self, levels: usize, is_wanted: &dyn Fn(&str) -> bool) -> Self {
        let mut found = Vec::new();
        for hierarchy in self.hierarchies() {
            below(&hierarchy.own, levels, is_wanted, &mut |group| found.push(hierarchy.with(group)));
        }
        Self::of(found)
    }

    /// Splits off the groups of that kind: the others are in the second.
    #[must_use]
    pub fn partition(self, is_first: impl Fn(&GroupDir) -> bool) -> (Self, Self) {
        let (first, second) = self.into_hierarchies().into_iter().partition(|hierarchy| is_first(&hierarchy.own));
        (Self::of(first), Self::of(second))
    }
}

/// Puts back every v2 group that this process can see, and that a runner changed which is gone.
///
/// # Errors
/// As [`Home::of_this_process`].
pub fn restore_all() -> Result<(), CgroupError> {
    let roots = Home::roots()?;
    let Some(root) = roots.v2() else { return Ok(()) };
    restore(root);
    below(root, MAX_LEVELS, &|name| name == HOST_LEAF, &mut |leaf| {
        if let Ok(group) = leaf.parent() {
            restore(&group);
        }
    });
    Ok(())
}

fn below(group: &GroupDir, levels: usize, is_wanted: &dyn Fn(&str) -> bool, found: &mut dyn FnMut(GroupDir)) {
    if levels == 0 {
        return;
    }
    for name in children(group.as_fd()).unwrap_or_default() {
        // Gone by now, or with a name that no runner gives.
        let Some(name) = name.to_str() else { continue };
        let Ok(child) = group.child(name) else { continue };
        if is_wanted(name) {
            found(child);
        } else {
            below(&child, levels - 1, is_wanted, found);
        }
    }
}
