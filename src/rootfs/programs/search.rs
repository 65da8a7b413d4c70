//! Finds shared libraries on the host as ld.so(8) does.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::elf::Object;
use crate::fs::regular;
use crate::rootfs::RootfsError;

/// The deepest chain of files that `include` each other.
const MAX_INCLUDE_DEPTH: usize = 10;

/// A library of the host.
pub(super) struct Library {
    pub(super) path: PathBuf,
    pub(super) object: Object,
    /// It is in a directory that the loader knows from /etc/ld.so.conf alone.
    pub(super) in_conf: bool,
}

/// The host's configuration of library directories.
pub(super) struct HostLibraries {
    /// The directories of /etc/ld.so.conf, in order.
    pub(super) conf: Vec<PathBuf>,
}

/// The directories that are searched for a library, in order.
pub(super) struct LibrarySearch {
    directories: Vec<(PathBuf, Origin)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The object names the directory.
    Object,
    /// /etc/ld.so.conf names the directory.
    Conf,
    /// The loader itself knows the directory.
    Loader,
}

impl HostLibraries {
    pub(super) fn of_host() -> Result<Self, RootfsError> {
        let mut conf = Vec::new();
        read_conf(Path::new("/etc/ld.so.conf"), 0, &mut conf)?;
        Ok(Self { conf })
    }

    /// Returns the search for an object's libraries, given its directory, the `DT_RPATH` that applies to it, the
    /// program that it is loaded for, and the real directory of that program's loader.
    pub(super) fn directories(
        &self,
        object: &Object,
        origin: &Path,
        rpath: &[PathBuf],
        program: &Object,
        loader_directory: Option<&Path>,
    ) -> Result<LibrarySearch, RootfsError> {
        let of_object = if object.has_runpath() { object.runpath(origin) } else { rpath.to_vec() };
        let mut directories: Vec<(PathBuf, Origin)> =
            of_object.into_iter().map(|directory| (directory, Origin::Object)).collect();
        match program.interpreter.as_deref().and_then(musl_paths) {
            Some(paths) => {
                let known = match regular::read_text(&paths, MAX_CONF) {
                    Ok(text) => {
                        text.split([':', '\n']).filter(|directory| !directory.is_empty()).map(PathBuf::from).collect()
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        ["/lib", "/usr/local/lib", "/usr/lib"].map(PathBuf::from).to_vec()
                    }
                    Err(source) => return Err(RootfsError::Read { path: paths, source }),
                };
                directories.extend(known.into_iter().map(|directory: PathBuf| (directory, Origin::Loader)));
            }
            None => {
                directories.extend(self.conf.iter().map(|directory| (directory.clone(), Origin::Conf)));
                let known = ["/lib", "/usr/lib", "/lib64", "/usr/lib64"].map(PathBuf::from);
                directories
                    .extend(loader_directory.map(Path::to_owned).into_iter().chain(known).map(|f| (f, Origin::Loader)));
            }
        }
        Ok(LibrarySearch { directories })
    }
}

impl LibrarySearch {
    /// Returns the first library of that name that can be loaded with the program. Each file that is read is stored in
    /// `objects`.
    pub(super) fn find(
        &self,
        name: &str,
        program: &Object,
        objects: &mut BTreeMap<PathBuf, Object>,
    ) -> Result<Option<Library>, RootfsError> {
        // A name with a slash is a path, and is not searched.
        let direct = (name.starts_with('/')).then(|| (PathBuf::from(name), Origin::Object));
        let searched = self.directories.iter().map(|(directory, origin)| (directory.join(name), *origin));
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
            let real = |directory: &Path| directory.canonicalize().ok();
            let loader_knows = |path: &Path| {
                let directory = path.parent().and_then(real);
                self.directories.iter().any(|(known, origin)| *origin == Origin::Loader && real(known) == directory)
            };
            let in_conf = origin == Origin::Conf && !loader_knows(&path);
            return Ok(Some(Library { path, object, in_conf }));
        }
        Ok(None)
    }

    /// Returns the directories, each once, for a message.
    pub(super) fn into_directories(self) -> Vec<PathBuf> {
        let mut directories = Vec::new();
        for (directory, _) in self.directories {
            if !directories.contains(&directory) {
                directories.push(directory);
            }
        }
        directories
    }
}

/// Returns the file from which musl's loader reads its directories, if the loader is musl's: see musl's manual,
/// "Dynamic linker".
pub(super) fn musl_paths(loader: &Path) -> Option<PathBuf> {
    let name = loader.file_name()?.to_str()?;
    let architecture = name.strip_prefix("ld-musl-")?.strip_suffix(".so.1")?;
    Some(PathBuf::from(format!("/etc/ld-musl-{architecture}.path")))
}

/// The largest configuration file; no list of directories is larger.
const MAX_CONF: u64 = 1 << 20;

/// Reads a file in the format of ldconfig(8); a missing file is empty.
fn read_conf(path: &Path, depth: usize, directories: &mut Vec<PathBuf>) -> Result<(), RootfsError> {
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
                if depth == MAX_INCLUDE_DEPTH {
                    return Err(unreadable(io::Error::other("its includes go too deep")));
                }
                for pattern in words {
                    for included in matches(&path.with_file_name("").join(pattern)).map_err(unreadable)? {
                        read_conf(&included, depth + 1, directories)?;
                    }
                }
            }
            Some(first) => {
                for directory in [first].into_iter().chain(words) {
                    // `DIRECTORY=TYPE` is from the time of libc 5.
                    let directory = PathBuf::from(directory.split('=').next().unwrap_or_default());
                    if directory.is_absolute() && !directories.contains(&directory) {
                        directories.push(directory);
                    }
                }
            }
        }
    }
    Ok(())
}

/// Returns the files that match a pattern with wildcards in its last part, sorted.
fn matches(pattern: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name().and_then(OsStr::to_str)) else {
        return Ok(Vec::new());
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        // As in glob(7), only a dot matches a leading dot.
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

/// Returns whether a name matches a pattern of `*` and `?`.
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
        let directory = tempfile::tempdir().unwrap();
        let conf = directory.path().join("ld.so.conf");
        std::fs::create_dir(directory.path().join("d")).unwrap();
        std::fs::write(&conf, "/first # why\ninclude d/*.conf\nhwcap 1 x\n/last=libc6\n/first\n").unwrap();
        std::fs::write(directory.path().join("d/b.conf"), "/b1:/b2").unwrap();
        std::fs::write(directory.path().join("d/a.conf"), "/a\nrelative\n").unwrap();
        std::fs::write(directory.path().join("d/c.conf~"), "/c").unwrap();
        let mut directories = Vec::new();
        read_conf(&conf, 0, &mut directories).unwrap();
        assert_eq!(directories, ["/first", "/a", "/b1", "/b2", "/last"].map(PathBuf::from));
    }

    #[test]
    fn a_configuration_that_includes_itself_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let conf = directory.path().join("ld.so.conf");
        std::fs::write(&conf, "include ld.so.con?\n").unwrap();
        let error = read_conf(&conf, 0, &mut Vec::new()).unwrap_err();
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("too deep"));
    }

    #[test]
    fn musls_loader_is_recognised_by_its_name() {
        let paths = musl_paths(Path::new("/lib/ld-musl-x86_64.so.1"));
        assert_eq!(paths.as_deref(), Some(Path::new("/etc/ld-musl-x86_64.path")));
        assert_eq!(musl_paths(Path::new("/lib64/ld-linux-x86-64.so.2")), None);
    }
}
