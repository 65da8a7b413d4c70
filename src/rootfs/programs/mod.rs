//! Gathers programs of the host into a root filesystem, with all files that are loaded to run them: for quick starts
//! and tests.
//!
//! Every path is the same inside as on the host, with the same symlinks on the way: `/bin/sh` is made from `/bin ->
//! usr/bin` and `sh -> dash`. On a host with a merged /usr, the root has `/bin` and `/sbin` too if a program was named
//! by its path in /usr. Beside the programs the root has `/tmp`, `/root`, and `/etc/passwd` and `/etc/group` with root
//! alone, so that `user: root` works.
//!
//! Libraries are found as ld.so(8) finds them (`DT_RPATH`, `DT_RUNPATH`, `/etc/ld.so.conf`, its own directories),
//! except that the environment of runner is ignored: the same host files always give the same tree. Files that a
//! program opens only while it runs (plugins, locales, name service modules) cannot be read from its file, and are not
//! gathered.
//!
//! Files keep their permission bits and times, belong to root, and lose setuid bits and capabilities. Directories have
//! mode 0755 and the time 0.
//!
//! goblin reads the ELF files. The lddtree crate is not used: it follows `LD_LIBRARY_PATH`, does not report the
//! directories in which it searched for a missing library, and panics on a path that is not UTF-8.

mod elf;
mod place;
mod search;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use self::elf::Object;
use self::place::Copier;
pub use self::place::Source;
use self::search::{HostLibraries, Library};
use super::RootfsError;
use crate::fs::opened::OpenedPaths;
use crate::fs::regular;

/// The directories in which `#!/usr/bin/env NAME` looks for its program: a container's default `PATH`.
const PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The longest chain of scripts whose interpreter is a script again, as in Linux' `exec`.
const MAX_INTERPRETERS: usize = 5;

/// Copies programs of the host, named by absolute path, and all files that they load, into an empty directory, which
/// may be an `O_PATH` descriptor. For a program in `opened`, the file that was opened is copied.
///
/// After an error the directory contains the files that were copied so far.
///
/// # Errors
/// A program is missing, is not executable, or is neither ELF nor a script; a library that it needs is missing; or the
/// directory cannot be written.
pub fn assemble(programs: &[PathBuf], opened: &OpenedPaths, dest: BorrowedFd<'_>) -> Result<(), RootfsError> {
    assemble_with(programs, opened, dest, HostLibraries::of_host()?)
}

/// Returns the sources of the root of these programs, by path: the files that [`assemble`] would copy.
///
/// # Errors
/// As [`assemble`].
pub fn sources(programs: &[PathBuf]) -> Result<BTreeMap<Vec<u8>, Source>, RootfsError> {
    let nothing = OpenedPaths::default();
    let mut assembly = Assembly::new(Copier::collecting(&nothing), HostLibraries::of_host()?);
    for program in programs {
        assembly.add_program(program)?;
    }
    assembly.placer.link_merged()?;
    Ok(assembly.placer.into_sources())
}

fn assemble_with(
    programs: &[PathBuf],
    opened: &OpenedPaths,
    dest: BorrowedFd<'_>,
    libraries: HostLibraries,
) -> Result<(), RootfsError> {
    let mut assembly = Assembly::new(Copier::new(dest, opened)?, libraries);
    for program in programs {
        assembly.add_program(program)?;
    }
    assembly.placer.link_merged()?;
    assembly.placer.add_accounts()?;
    assembly.placer.close()
}

struct Assembly<'a> {
    placer: Copier<'a>,
    libraries: HostLibraries,
    /// The ELF files that were read, by path.
    objects: BTreeMap<PathBuf, Object>,
    done: BTreeSet<PathBuf>,
}

impl<'a> Assembly<'a> {
    fn new(placer: Copier<'a>, libraries: HostLibraries) -> Self {
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
        let mut loader_directory = None;
        let mut loaded = BTreeSet::new();
        if let Some(loader) = &object.interpreter {
            let file = self.placer.place(loader)?;
            loader_directory = file.path.parent().map(Path::to_owned);
            // libc needs the loader by its name, and the loader is already in the root.
            loaded.extend(loader.file_name().map(|name| name.to_string_lossy().into_owned()));
            if let Some(paths) = search::musl_paths(loader).filter(|paths| paths.exists()) {
                self.placer.place(&paths)?;
            }
        }
        // `$ORIGIN` of the program is its real directory; of a library it is the directory in which it was found: see
        // ld.so(8).
        let origin = real.parent().unwrap_or(Path::new("/")).to_owned();
        let mut queue = VecDeque::from([(path.to_owned(), origin, object.clone(), Vec::new())]);
        while let Some((path, origin, of, inherited)) = queue.pop_front() {
            let mut rpath = of.rpath(&origin);
            rpath.extend(inherited);
            for name in &of.needed {
                if !loaded.insert(name.clone()) {
                    continue;
                }
                let search = self.libraries.directories(&of, &origin, &rpath, &object, loader_directory.as_deref())?;
                let found = search.find(name, &object, &mut self.objects)?;
                let Some(Library { path: library, object: library_object, in_conf }) = found else {
                    return Err(RootfsError::MissingLibrary {
                        program: program.to_owned(),
                        object: path,
                        library: name.clone(),
                        searched: search.into_directories(),
                    });
                };
                self.placer.place(&library)?;
                if let (true, Some(directory)) = (in_conf, &loader_directory) {
                    self.placer.link_library(directory, name, &library)?;
                }
                let origin = library.parent().unwrap_or(Path::new("/")).to_owned();
                queue.push_back((library, origin, library_object, rpath.clone()));
            }
        }
        Ok(())
    }
}

/// Returns the programs that a script's first line names: its interpreter and, if that is env(1), the program that env
/// runs. None if the file is not a script.
fn interpreters(script: &Path) -> Result<Vec<PathBuf>, RootfsError> {
    use std::io::Read;
    let read = |source| RootfsError::Read { path: script.to_owned(), source };
    let mut start = Vec::new();
    // The bytes of a script that Linux reads (BINPRM_BUF_SIZE).
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
                false => PATH.iter().map(|directory| Path::new(directory).join(name)).find(|path| path.is_file()),
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
