//! Finds shared libraries on the host as ld.so(8) does.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::elf::Object;
use crate::fs::regular;
use crate::rootfs::RootfsError;

/// Files that `include` each other, at most.
const DEEPEST_INCLUDE: usize = 10;

/// A library that was found.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) object: Object,
    /// It is in a folder that the loader knows from /etc/ld.so.conf alone.
    pub(super) in_conf: bool,
}

/// What the host says about where libraries are.
pub(super) struct HostLibraries {
    /// The folders of /etc/ld.so.conf, in order.
    pub(super) conf: Vec<PathBuf>,
}

/// The folders that are looked into for one library, in order.
pub(super) struct Search {
    folders: Vec<(PathBuf, Origin)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The object says so.
    Object,
    /// /etc/ld.so.conf says so.
    Conf,
    /// The loader knows it.
    Loader,
}

impl HostLibraries {
    pub(super) fn of_host() -> Result<Self, RootfsError> {
        let mut conf = Vec::new();
        read_conf(Path::new("/etc/ld.so.conf"), 0, &mut conf)?;
        Ok(Self { conf })
    }

    /// Where an object's libraries are looked for, given its folder, the `DT_RPATH` that holds for it, the program that
    /// it is loaded for, and the folder that program's loader really is in.
    pub(super) fn folders(
        &self,
        object: &Object,
        origin: &Path,
        rpath: &[PathBuf],
        program: &Object,
        loader_folder: Option<&Path>,
    ) -> Result<Search, RootfsError> {
        let of_object = if object.has_runpath() { object.runpath(origin) } else { rpath.to_vec() };
        let mut folders: Vec<(PathBuf, Origin)> =
            of_object.into_iter().map(|folder| (folder, Origin::Object)).collect();
        match program.interpreter.as_deref().and_then(musl_paths) {
            Some(paths) => {
                let known = match regular::read_text(&paths, MAX_CONF) {
                    Ok(text) => {
                        text.split([':', '\n']).filter(|folder| !folder.is_empty()).map(PathBuf::from).collect()
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        ["/lib", "/usr/local/lib", "/usr/lib"].map(PathBuf::from).to_vec()
                    }
                    Err(source) => return Err(RootfsError::Read { path: paths, source }),
                };
                folders.extend(known.into_iter().map(|folder: PathBuf| (folder, Origin::Loader)));
            }
            None => {
                folders.extend(self.conf.iter().map(|folder| (folder.clone(), Origin::Conf)));
                let known = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"].map(PathBuf::from);
                folders.extend(loader_folder.map(Path::to_owned).into_iter().chain(known).map(|f| (f, Origin::Loader)));
            }
        }
        Ok(Search { folders })
    }
}

impl Search {
    /// The first library of that name that can be loaded with the program; what is read is kept in `objects`.
    pub(super) fn find(
        &self,
        name: &str,
        program: &Object,
        objects: &mut BTreeMap<PathBuf, Object>,
    ) -> Result<Option<Found>, RootfsError> {
        // A name with a slash is a path and is not searched for.
        let direct = (name.starts_with('/')).then(|| (PathBuf::from(name), Origin::Object));
        let searched = self.folders.iter().map(|(folder, origin)| (folder.join(name), *origin));
        for (path, origin) in direct.into_iter().chain(searched) {
            if !path.is_file() {
                continue;
            }
            let object = match objects.get(&path) {
                Some(object) => object.clone(),
                None => match Object::read(&path)? {
                    Some(object) => object,
                    None => continue,
                },
            };
            if object.abi != program.abi {
                continue;
            }
            objects.insert(path.clone(), object.clone());
            let real = |folder: &Path| folder.canonicalize().ok();
            let loader_knows = |path: &Path| {
                let folder = path.parent().and_then(real);
                self.folders.iter().any(|(known, origin)| *origin == Origin::Loader && real(known) == folder)
            };
            let in_conf = origin == Origin::Conf && !loader_knows(&path);
            return Ok(Some(Found { path, object, in_conf }));
        }
        Ok(None)
    }

    /// The folders, each once, for a message.
    pub(super) fn into_folders(self) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for (folder, _) in self.folders {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        folders
    }
}

/// The file in which musl's loader looks for its folders, if the loader is musl's: see musl's manual, "Dynamic linker".
pub(super) fn musl_paths(loader: &Path) -> Option<PathBuf> {
    let name = loader.file_name()?.to_str()?;
    let architecture = name.strip_prefix("ld-musl-")?.strip_suffix(".so.1")?;
    Some(PathBuf::from(format!("/etc/ld-musl-{architecture}.path")))
}

/// More than a list of directories takes.
const MAX_CONF: u64 = 1 << 20;

/// Reads a file in the format of ldconfig(8); a missing one says nothing.
fn read_conf(path: &Path, depth: usize, folders: &mut Vec<PathBuf>) -> Result<(), RootfsError> {
    let unreadable = |source| RootfsError::Read { path: path.to_owned(), source };
    let text = match regular::read_text(path, MAX_CONF) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(error)),
    };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let mut words = line.split([' ', '\t', ',', ':']).filter(|word| !word.is_empty());
        match words.next() {
            None | Some("hwcap") => {}
            Some("include") => {
                if depth == DEEPEST_INCLUDE {
                    return Err(unreadable(io::Error::other("its includes go too deep")));
                }
                for pattern in words {
                    for included in matches(&path.with_file_name("").join(pattern)).map_err(unreadable)? {
                        read_conf(&included, depth + 1, folders)?;
                    }
                }
            }
            Some(first) => {
                for folder in [first].into_iter().chain(words) {
                    // `FOLDER=TYPE` is from the time of libc 5.
                    let folder = PathBuf::from(folder.split('=').next().unwrap_or_default());
                    if folder.is_absolute() && !folders.contains(&folder) {
                        folders.push(folder);
                    }
                }
            }
        }
    }
    Ok(())
}

/// The files that a pattern with wild cards in its last part names, sorted.
fn matches(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name().and_then(OsStr::to_str)) else {
        return Ok(Vec::new());
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        // As in glob(7), a leading dot is only matched by itself.
        let is_match = entry.file_name().to_str().is_some_and(|entry| {
            is_match(name.as_bytes(), entry.as_bytes()) && (name.starts_with('.') || !entry.starts_with('.'))
        });
        if is_match {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a name matches a pattern of `*` and `?`.
fn is_match(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|from| is_match(rest, &name[from..])),
        ([b'?', pattern @ ..], [_, name @ ..]) => is_match(pattern, name),
        ([first, pattern @ ..], [other, name @ ..]) => first == other && is_match(pattern, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_read_in_order_with_its_includes() {
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("ld.so.conf");
        std::fs::create_dir(folder.path().join("d")).unwrap();
        std::fs::write(&conf, "/first # why\ninclude d/*.conf\nhwcap 1 x\n/last=libc6\n/first\n").unwrap();
        std::fs::write(folder.path().join("d/b.conf"), "/b1:/b2").unwrap();
        std::fs::write(folder.path().join("d/a.conf"), "/a\nrelative\n").unwrap();
        std::fs::write(folder.path().join("d/c.conf~"), "/c").unwrap();
        let mut folders = Vec::new();
        read_conf(&conf, 0, &mut folders).unwrap();
        assert_eq!(folders, ["/first", "/a", "/b1", "/b2", "/last"].map(PathBuf::from));
    }

    #[test]
    fn a_configuration_that_includes_itself_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("ld.so.conf");
        std::fs::write(&conf, "include ld.so.con?\n").unwrap();
        let error = read_conf(&conf, 0, &mut Vec::new()).unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("too deep"));
    }

    #[test]
    fn musl_s_loader_is_told_by_its_name() {
        let paths = musl_paths(Path::new("/lib/ld-musl-x86_64.so.1"));
        assert_eq!(paths.as_deref(), Some(Path::new("/etc/ld-musl-x86_64.path")));
        assert_eq!(musl_paths(Path::new("/lib64/ld-linux-x86-64.so.2")), None);
    }
}
