//! The packages of a Debian root in a lock: so that a root of other bytes is explained by the packages that differ.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::image;
use crate::packages::Package;

/// The packages that a difference names.
const MAX_NAMED: usize = 5;

/// The versions of packages, by `NAME:ARCHITECTURE`, or by the name alone where the database names no architecture.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LockedPackages(BTreeMap<String, String>);

impl LockedPackages {
    /// Takes the packages of a root.
    pub fn of(packages: &[Package]) -> Self {
        let name = |package: &Package| match package.architecture.as_str() {
            "" => package.name.clone(),
            architecture => format!("{}:{architecture}", package.name),
        };
        Self(packages.iter().map(|package| (name(package), package.version.clone())).collect())
    }

    /// Returns whether there are none, as in the lock of a snapshot that is no Debian root.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the packages that differ in an image, as [`LockedPackages::difference`] does; none also where the image cannot be read:
    /// the packages only explain a difference that is reported anyway.
    pub fn difference_from(&self, image: &Path) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        self.difference(&Self::of(&image::installed(image).ok()?))
    }

    /// Returns the packages that differ, the first by name and the number of the others; none where they are the same, or where one
    /// side does not name its packages.
    pub fn difference(&self, now: &Self) -> Option<String> {
        if self.is_empty() || now.is_empty() {
            return None;
        }
        let Self(was) = self;
        let mut changes: BTreeMap<&str, String> = BTreeMap::new();
        for (name, version) in was {
            match now.0.get(name) {
                None => drop(changes.insert(name, format!("{name} {version} was removed"))),
                Some(new) if new != version => drop(changes.insert(name, format!("{name} {version} → {new}"))),
                Some(_) => {}
            }
        }
        let added = now.0.iter().filter(|(name, _)| !was.contains_key(*name));
        changes.extend(added.map(|(name, version)| (name.as_str(), format!("{name} {version} was added"))));
        let (count, first) = (changes.len(), changes.into_values().take(MAX_NAMED).collect::<Vec<_>>().join(", "));
        let more = if count > MAX_NAMED { format!(", +{} more", count - MAX_NAMED) } else { String::new() };
        (count > 0).then(|| format!("its packages changed: {first}{more}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(all: &[(&str, &str)]) -> LockedPackages {
        LockedPackages(all.iter().map(|(name, version)| (name.to_string(), version.to_string())).collect())
    }

    #[test]
    fn packages_that_differ_are_named_by_name_and_only_the_first_of_many() {
        let was = packages(&[("apt:amd64", "2.6.1"), ("bash:amd64", "5.2"), ("dpkg:amd64", "1.21")]);
        assert_eq!(was.difference(&was), None);
        let now = packages(&[("adduser:all", "3.134"), ("apt:amd64", "2.6.2"), ("dpkg:amd64", "1.21")]);
        let named = "adduser:all 3.134 was added, apt:amd64 2.6.1 → 2.6.2, bash:amd64 5.2 was removed";
        assert_eq!(was.difference(&now).unwrap(), format!("its packages changed: {named}"));
        let many: Vec<(String, String)> = (0..8).map(|n| (format!("p{n}"), "1".to_owned())).collect();
        let text = packages(&[("a", "1")]).difference(&LockedPackages(many.into_iter().collect())).unwrap();
        let named = "a 1 was removed, p0 1 was added, p1 1 was added, p2 1 was added, p3 1 was added, +4 more";
        assert_eq!(text, format!("its packages changed: {named}"));
    }

    #[test]
    fn a_lock_without_packages_says_nothing_of_them() {
        let some = packages(&[("a", "1")]);
        assert_eq!(LockedPackages::default().difference(&some), None);
        assert_eq!(some.difference(&LockedPackages::default()), None);
    }

    #[test]
    fn a_package_of_two_architectures_is_two_packages() {
        let package = |architecture: &str| Package {
            manager: crate::packages::Manager::Dpkg,
            name: "libc6".into(),
            version: "2.36".into(),
            architecture: architecture.into(),
            size: None,
        };
        let locked = LockedPackages::of(&[package("amd64"), package("i386"), package("")]);
        assert_eq!(locked, packages(&[("libc6", "2.36"), ("libc6:amd64", "2.36"), ("libc6:i386", "2.36")]));
    }
}
