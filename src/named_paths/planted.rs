//! Symbolic links that a step of an earlier build may have made on the way of a path of this build.
//!
//! A step can write to the source of a writable bind, and its files there stay. If a link in such a source led a path
//! of the manifest or of the command line out of it, the step would choose the files that the next build binds, reads
//! or overwrites: `/etc` in place of `work/data`. A link that stays below the source leads only to files that the step
//! could reach itself.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::diagnostic::escaped;
use crate::model::{Build, MountKind};

/// The number of links that the kernel follows in one path, see path_resolution(7).
const MAX_LINKS: usize = 40;

/// The sources of the binds that steps can write to, without links.
#[derive(Debug, Default)]
pub struct WritableBinds(Vec<PathBuf>);

/// A link that leads out of a directory to which steps can write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlantedLink {
    /// The path of the link.
    pub link: PathBuf,
    /// The source of the bind.
    pub source: PathBuf,
    /// The target of the path that contains the link.
    pub end: PathBuf,
}

impl fmt::Display for PlantedLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the symbolic link {} leads to {}, out of {}, to which steps can write: one of them may have left it",
            shown(&self.link),
            shown(&self.end),
            shown(&self.source)
        )
    }
}

impl PlantedLink {
    /// Returns the fix.
    pub fn hint(&self) -> String {
        format!("if that is meant, name {} itself; else remove the link: `rm {}`", shown(&self.end), shown(&self.link))
    }
}

/// Returns the path in a printable form: a step may have chosen its name.
fn shown(path: &Path) -> String {
    escaped(&path.to_string_lossy()).into_owned()
}

impl WritableBinds {
    /// Returns the writable binds of a build whose sources exist.
    pub fn of(build: &Build) -> Self {
        let mounts = build.containers.iter().flat_map(|container| &container.mounts);
        let sources = mounts.filter(|mount| !mount.is_read_only()).filter_map(|mount| match &mount.kind {
            MountKind::Bind(source) => fs::canonicalize(source).ok(),
            _ => None,
        });
        Self(sources.collect())
    }

    /// Finds a link that leads a path out of a directory to which steps can write. A link that is the path itself is
    /// followed too.
    pub fn planted(&self, path: &Path) -> Option<PlantedLink> {
        if self.0.is_empty() {
            return None;
        }
        let (links, end) = resolve(path);
        let leads_out =
            |link: &PathBuf| self.0.iter().find(|source| link.starts_with(source) && !end.starts_with(source));
        let (link, source) = links.iter().find_map(|link| Some((link, leads_out(link)?)))?;
        Some(PlantedLink { link: link.clone(), source: source.clone(), end: end.clone() })
    }
}

/// Returns the links on the way of a path, each by its path without links, and the path's target. Missing files have
/// no links.
fn resolve(path: &Path) -> (Vec<PathBuf>, PathBuf) {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut remaining: VecDeque<OsString> = absolute.components().map(|part| part.as_os_str().to_owned()).collect();
    let (mut links, mut at) = (Vec::new(), PathBuf::from("/"));
    while let Some(part) = remaining.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir) => at = PathBuf::from("/"),
            Some(Component::ParentDir) => drop(at.pop()),
            Some(Component::Normal(name)) => at.push(name),
            _ => continue,
        }
        let Ok(target) = fs::read_link(&at) else { continue };
        if links.len() == MAX_LINKS {
            break;
        }
        links.push(at.clone());
        at.pop();
        for part in target.components().rev() {
            remaining.push_front(part.as_os_str().to_owned());
        }
    }
    (links, at)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_that_leads_out_of_a_writable_bind_is_found_and_one_that_stays_or_lies_elsewhere_is_not() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("work/inner")).unwrap();
        fs::create_dir_all(top.join("victim/deep")).unwrap();
        let links = [("work/out", "../victim"), ("work/in", "inner"), ("work/far", "in/../out"), ("link", "victim")];
        for (link, target) in links.into_iter().chain([("work/loop", "loop"), ("to-work", "work"), ("work/up", "..")]) {
            symlink(target, top.join(link)).unwrap();
        }
        let binds = WritableBinds(vec![top.join("work")]);
        let found = |path: &str| binds.planted(&top.join(path)).map(|planted| (planted.link, planted.end));
        let leads = |link: &str, end: &str| Some((top.join(link), top.join(end)));
        assert_eq!(found("work/out"), leads("work/out", "victim"));
        assert_eq!(found("work/out/deep/new"), leads("work/out", "victim/deep/new"));
        assert_eq!(found("to-work/out"), leads("work/out", "victim"));
        assert_eq!(found("work/far/deep"), leads("work/far", "victim/deep"));
        assert_eq!(found("work/up/victim"), leads("work/up", "victim"));
        for fine in
            ["work/in", "work/in/new", "work/missing/new", "link/deep", "work/inner", "work/loop", "work/up/work/in"]
        {
            assert_eq!(found(fine), None, "{fine}");
        }
        symlink("../a\n::error::", top.join("work/line")).unwrap();
        let planted = binds.planted(&top.join("work/line")).unwrap();
        for message in [planted.to_string(), planted.hint()] {
            assert!(!message.contains('\n') && message.contains("a\\n::error::"), "{message}");
        }
        assert_eq!(WritableBinds::default().planted(&top.join("work/out")), None);
    }
}
