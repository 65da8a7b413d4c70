//! The packages that differ between two images.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::Change;
use crate::packages::{Manager, Package, Packages};

/// The packages that are listed.
const MAX_LISTED: usize = 20_000;

/// The packages that differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PackageChanges {
    /// The managers whose databases were compared.
    pub managers: Vec<Manager>,
    /// The number of packages that only the new image has.
    pub added: usize,
    /// The number of packages that only the old image has.
    pub removed: usize,
    /// The number of packages whose version, architecture or size differs.
    pub changed: usize,
    /// The installed size of all packages of the old image, by its databases.
    pub old_size: u64,
    /// The same of the new image.
    pub new_size: u64,
    /// The packages, by manager and name.
    pub list: Vec<PackageChange>,
    /// The number of packages that differ and are not listed.
    pub omitted: usize,
}

/// A package that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PackageChange {
    /// The manager.
    pub manager: Manager,
    /// The name.
    pub name: String,
    /// The architecture, of the new image if both have the package; empty if the database names none.
    pub architecture: String,
    /// How it differs.
    pub change: Change,
    /// The version in the old image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_version: Option<String>,
    /// The version in the new image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_version: Option<String>,
    /// The installed size in bytes in the old image, by its database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_size: Option<u64>,
    /// The same in the new image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_size: Option<u64>,
}

/// Returns the packages that differ.
pub(super) fn changes(old: &Packages, new: &Packages) -> PackageChanges {
    let managers: BTreeSet<Manager> = old.managers.iter().chain(&new.managers).copied().collect();
    let mut changes = PackageChanges {
        managers: managers.into_iter().collect(),
        old_size: size(old),
        new_size: size(new),
        ..PackageChanges::default()
    };
    let mut by_name: BTreeMap<(Manager, &str), [Vec<&Package>; 2]> = BTreeMap::new();
    for (side, packages) in [old, new].into_iter().enumerate() {
        for package in &packages.all {
            by_name.entry((package.manager, &package.name)).or_default()[side].push(package);
        }
    }
    for packages in by_name.into_values() {
        for pair in pairs(packages) {
            changes.add(pair);
        }
    }
    changes
}

/// Pairs the packages of one name: the only one of each image, else those of the same architecture; of several versions of one
/// architecture, as of kernels, those that are equal.
fn pairs([old, new]: [Vec<&Package>; 2]) -> Vec<[Option<&Package>; 2]> {
    if let ([one], [other]) = (old.as_slice(), new.as_slice()) {
        return if one == other { Vec::new() } else { vec![[Some(*one), Some(*other)]] };
    }
    let sets = [&old, &new].map(|packages| packages.iter().copied().collect::<HashSet<&Package>>());
    let mut by_architecture: BTreeMap<&str, [Vec<&Package>; 2]> = BTreeMap::new();
    for (side, packages) in [old, new].into_iter().enumerate() {
        for package in packages.into_iter().filter(|package| !sets[1 - side].contains(*package)) {
            by_architecture.entry(&package.architecture).or_default()[side].push(package);
        }
    }
    let mut pairs = Vec::new();
    for [old, new] in by_architecture.into_values() {
        if let ([one], [other]) = (old.as_slice(), new.as_slice()) {
            pairs.push([Some(*one), Some(*other)]);
        } else {
            pairs.extend(old.into_iter().map(|package| [Some(package), None]));
            pairs.extend(new.into_iter().map(|package| [None, Some(package)]));
        }
    }
    pairs
}

fn size(packages: &Packages) -> u64 {
    packages.all.iter().filter_map(|package| package.size).fold(0, u64::saturating_add)
}

impl PackageChanges {
    fn add(&mut self, [old, new]: [Option<&Package>; 2]) {
        let Some(package) = new.or(old) else { return };
        let change = Change::of([old.is_some(), new.is_some()]);
        match change {
            Change::Added => self.added += 1,
            Change::Removed => self.removed += 1,
            Change::Changed => self.changed += 1,
        }
        if self.list.len() == MAX_LISTED {
            self.omitted += 1;
            return;
        }
        self.list.push(PackageChange {
            manager: package.manager,
            name: package.name.clone(),
            architecture: package.architecture.clone(),
            change,
            old_version: old.map(|package| package.version.clone()),
            new_version: new.map(|package| package.version.clone()),
            old_size: old.and_then(|package| package.size),
            new_size: new.and_then(|package| package.size),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(all: &[(&str, &str, &str)]) -> Packages {
        let package = |(name, version, architecture): &(&str, &str, &str)| Package {
            manager: Manager::Dpkg,
            name: (*name).into(),
            version: (*version).into(),
            architecture: (*architecture).into(),
            size: Some(10),
        };
        Packages { all: all.iter().map(package).collect(), managers: vec![Manager::Dpkg], errors: Vec::new() }
    }

    fn shown(old: &[(&str, &str, &str)], new: &[(&str, &str, &str)]) -> Vec<String> {
        let line = |change: &PackageChange| {
            let version = |version: &Option<String>| version.clone().unwrap_or("-".into());
            let (old, new) = (version(&change.old_version), version(&change.new_version));
            format!("{} {}:{} {old} {new}", change.change.sign(), change.name, change.architecture)
        };
        changes(&packages(old), &packages(new)).list.iter().map(line).collect()
    }

    #[test]
    fn packages_are_paired_by_name_then_by_architecture() {
        let old =
            [("a", "1", "amd64"), ("b", "1", "amd64"), ("c", "1", "all"), ("m", "1", "amd64"), ("m", "1", "i386")];
        let new =
            [("b", "2", "amd64"), ("c", "1", "amd64"), ("d", "1", "all"), ("m", "2", "amd64"), ("m", "2", "i386")];
        let expected =
            ["- a:amd64 1 -", "~ b:amd64 1 2", "~ c:amd64 1 1", "+ d:all - 1", "~ m:amd64 1 2", "~ m:i386 1 2"];
        assert_eq!(shown(&old, &new), expected);
        assert_eq!(shown(&old, &old), [""; 0]);
    }

    #[test]
    fn several_versions_of_one_package_are_added_and_removed() {
        let old = [("kernel", "1", "x86_64"), ("kernel", "2", "x86_64")];
        let new = [("kernel", "2", "x86_64"), ("kernel", "3", "x86_64")];
        assert_eq!(shown(&old, &new), ["~ kernel:x86_64 1 3"]);
        assert_eq!(shown(&old[1..], &new), ["+ kernel:x86_64 - 3"]);
        let three = [("kernel", "3", "x86_64"), ("kernel", "4", "x86_64")];
        assert_eq!(shown(&old[..1], &three), ["- kernel:x86_64 1 -", "+ kernel:x86_64 - 3", "+ kernel:x86_64 - 4"]);
    }
}
