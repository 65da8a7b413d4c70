//! Gathers programs of the host into a root filesystem, with all that is loaded to run them: for quick starts and
//! tests.
//!
//! Every path is the same inside as on the host, symlinks on the way included: `/bin/sh` is there as `/bin -> usr/bin`
//! and `sh -> dash` are. `/bin` and `/sbin` are there as on a host with a merged /usr, too, where a program was named by its
//! path in /usr. Beside the programs the root has `/tmp`, `/root`, and `/etc/passwd` and `/etc/group` that know
//! root alone, so that `user: root` works.
//!
//! Libraries are found as ld.so(8) finds them (`DT_RPATH`, `DT_RUNPATH`, `/etc/ld.so.conf`, its own folders), save that
//! the environment of runner has no say: the same host files always give the same tree. What a program opens only
//! while it runs (plugins, locales, name service modules) is not known from its file and is not gathered.
//!
//! Files keep their permission bits and times, belong to root, and lose setuid bits and capabilities. Folders have mode
//! 0755 and the time 0.
//!
//! goblin reads the ELF files. The lddtree crate was turned down: it heeds `LD_LIBRARY_PATH`, does not tell where it
//! sought a missing library, and panics on a path that is not UTF-8.

mod elf;
mod place;
mod search;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use self::elf::Object;
use self::place::Placer;
pub use self::place::Source;
use self::search::{Found, HostLibraries};
use super::RootfsError;
use crate::fs::opened::OpenedPaths;
use crate::fs::regular;

/// Where `#!/usr/bin/env NAME` looks for its program: what a container's `PATH` is unless the manifest says otherwise.
const PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Scripts whose interpreter is a script again, at most; as in Linux' `exec`.
const MAX_INTERPRETERS: usize = 5;

/// Copies programs of the host, named by absolute path, and all that they load, into an empty folder, which may be an
/// `O_PATH` descriptor. A program among `opened` is the file that was opened.
///
/// On an error the folder holds what was copied so far.
///
/// # Errors
/// A program is missing, is not executable, or is neither ELF nor a script; a library that it needs is missing; or the
/// folder cannot be written.
pub fn assemble(programs: &[PathBuf], opened: &OpenedPaths, dest: BorrowedFd<'_>) -> Result<(), RootfsError> {
    assemble_with(programs, opened, dest, HostLibraries::of_host()?)
}

/// What the root of these programs would be made of, by path: what [`assemble`] would copy, without copying it.
///
/// # Errors
/// As [`assemble`].
pub fn sources(programs: &[PathBuf]) -> Result<BTreeMap<Vec<u8>, Source>, RootfsError> {
    let nothing = OpenedPaths::default();
    let mut assembly = Assembly::new(Placer::of_nothing(&nothing), HostLibraries::of_host()?);
    for program in programs {
        assembly.add_program(program)?;
    }
    assembly.placer.link_merged()?;
    Ok(assembly.placer.into_placed())
}

fn assemble_with(
    programs: &[PathBuf],
    opened: &OpenedPaths,
    dest: BorrowedFd<'_>,
    libraries: HostLibraries,
) -> Result<(), RootfsError> {
    let mut assembly = Assembly::new(Placer::new(dest, opened)?, libraries);
    for program in programs {
        assembly.add_program(program)?;
    }
    assembly.placer.link_merged()?;
    assembly.placer.add_accounts()?;
    assembly.placer.close()
}

struct Assembly<'a> {
    placer: Placer<'a>,
    libraries: HostLibraries,
    /// What was read of each ELF file, by its path.
    objects: BTreeMap<PathBuf, Object>,
    done: BTreeSet<PathBuf>,
}

impl<'a> Assembly<'a> {
    fn new(placer: Placer<'a>, libraries: HostLibraries) -> Self {
        Self { placer, libraries, objects: BTreeMap::new(), done: BTreeSet::new() }
    }

    fn add_program(&mut self, program: &Path) -> Result<(), RootfsError> {
        let mut next = Some(program.to_owned());
        let mut chain = Vec::new();
        while let Some(path) = next.take() {
            let problem = |problem: String| RootfsError::Program { program: path.clone(), problem };
            if chain.len() == MAX_INTERPRETERS || chain.contains(&path) {
                return Err(problem("its interpreters are scripts of each other".to_owned()));
            }
            chain.push(path.clone());
            if !path.is_absolute() {
                return Err(problem("its path is not absolute".to_owned()));
            }
            if !self.done.insert(path.clone()) {
                return Ok(());
            }
            let file = self.placer.place(&path)?;
            if !file.is_executable {
                return Err(problem("it is not executable".to_owned()));
            }
            if let Some(object) = Object::read(&path)? {
                return self.add_libraries(program, &path, &file.path, object);
            }
            let interpreters = interpreters(&path)?;
            next = match interpreters.as_slice() {
                [] => return Err(problem("it is neither an ELF program nor a script".to_owned())),
                [interpreter] => Some(interpreter.clone()),
                [env, program, ..] => {
                    self.add_program(env)?;
                    Some(program.clone())
                }
            };
        }
        Ok(())
    }

    /// Places the loader and the libraries of an ELF file, breadth first, as the loader loads them.
    fn add_libraries(&mut self, program: &Path, path: &Path, real: &Path, object: Object) -> Result<(), RootfsError> {
        let mut loader_folder = None;
        let mut loaded = BTreeSet::new();
        if let Some(loader) = &object.interpreter {
            let file = self.placer.place(loader)?;
            loader_folder = file.path.parent().map(Path::to_owned);
            // libc needs the loader by its name, and it is there already.
            loaded.extend(loader.file_name().map(|name| name.to_string_lossy().into_owned()));
            if let Some(paths) = search::musl_paths(loader).filter(|paths| paths.exists()) {
                self.placer.place(&paths)?;
            }
        }
        // `$ORIGIN` of the program is its real folder, of a library the one that it was found in: see ld.so(8).
        let origin = real.parent().unwrap_or(Path::new("/")).to_owned();
        let mut queue = VecDeque::from([(path.to_owned(), origin, object.clone(), Vec::new())]);
        while let Some((path, origin, of, inherited)) = queue.pop_front() {
            let mut rpath = of.rpath(&origin);
            rpath.extend(inherited);
            for name in &of.needed {
                if !loaded.insert(name.clone()) {
                    continue;
                }
                let search = self.libraries.folders(&of, &origin, &rpath, &object, loader_folder.as_deref())?;
                let found = search.find(name, &object, &mut self.objects)?;
                let Some(Found { path: library, object: library_object, in_conf }) = found else {
                    return Err(RootfsError::MissingLibrary {
                        program: program.to_owned(),
                        object: path,
                        library: name.clone(),
                        sought: search.into_folders(),
                    });
                };
                self.placer.place(&library)?;
                if let (true, Some(folder)) = (in_conf, &loader_folder) {
                    self.placer.link_library(folder, name, &library)?;
                }
                let origin = library.parent().unwrap_or(Path::new("/")).to_owned();
                queue.push_back((library, origin, library_object, rpath.clone()));
            }
        }
        Ok(())
    }
}

/// The programs that a script's first line names: its interpreter and, where that is env(1), what env runs. None for
/// what is no script.
fn interpreters(script: &Path) -> Result<Vec<PathBuf>, RootfsError> {
    use std::io::Read;
    let read = |source| RootfsError::Read { path: script.to_owned(), source };
    let mut start = Vec::new();
    // What Linux reads of a script (BINPRM_BUF_SIZE).
    regular::open(script).map_err(read)?.take(256).read_to_end(&mut start).map_err(read)?;
    let Some(line) = start.strip_prefix(b"#!") else { return Ok(Vec::new()) };
    let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let words = line.split(|byte| matches!(byte, b' ' | b'\t' | b'\r')).filter(|word| !word.is_empty());
    let mut words = words.map(|word| Path::new(OsStr::from_bytes(word)));
    let Some(interpreter) = words.next() else { return Ok(Vec::new()) };
    let mut named = vec![interpreter.to_owned()];
    if interpreter.file_name() == Some(OsStr::new("env")) {
        let is_name = |word: &&Path| !word.as_os_str().as_bytes().contains(&b'=') && !word.starts_with("-S");
        if let Some(name) = words.find(is_name) {
            let found = match name.is_absolute() {
                true => Some(name.to_owned()),
                false => PATH.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file()),
            };
            named.push(found.ok_or_else(|| RootfsError::Program {
                program: script.to_owned(),
                problem: format!("its first line asks env for {}, which is not in {}", name.display(), PATH.join(", ")),
            })?);
        }
    }
    Ok(named)
}

#[cfg(test)]
mod tests;
