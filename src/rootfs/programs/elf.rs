//! Reads the fields of an ELF file that its loader uses.

use std::io::Read;
use std::path::{Path, PathBuf};

use goblin::container::{Container, Ctx};
use goblin::elf::Elf;
use goblin::elf::dynamic::{DT_NEEDED, DT_RPATH, DT_RUNPATH, Dynamic};
use goblin::elf::header::{ELFMAG, Header};
use goblin::elf::program_header::{PT_INTERP, ProgramHeader};

use crate::fs::regular;
use crate::rootfs::RootfsError;

/// The class, byte order and machine of a file. Files that differ in them cannot be loaded together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abi {
    is_64: bool,
    is_little_endian: bool,
    machine: u16,
}

/// The fields that the loader uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) abi: Abi,
    /// The loader; none for libraries and for static programs.
    pub(super) interpreter: Option<PathBuf>,
    /// The names of needed libraries, in order.
    pub(super) needed: Vec<String>,
    /// `DT_RPATH` as it is written.
    rpath: Vec<String>,
    /// `DT_RUNPATH` as it is written.
    runpath: Vec<String>,
}

/// The largest file that is read; no program or library is larger.
const MAX_BYTES: u64 = 2 << 30;

impl Object {
    /// Reads a file; `None` if it is not ELF.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, RootfsError> {
        let unreadable = |source| RootfsError::Read { path: path.to_owned(), source };
        let mut file = regular::open(path).map_err(unreadable)?;
        let mut bytes = vec![0; ELFMAG.len()];
        let count = file.read(&mut bytes).map_err(unreadable)?;
        if bytes[..count] != ELFMAG[..] {
            return Ok(None);
        }
        bytes.extend(regular::read_all(file, MAX_BYTES).map_err(unreadable)?);
        Self::parse(&bytes).map(Some).map_err(|problem| RootfsError::Program {
            program: path.to_owned(),
            problem: format!("it is malformed: {problem}"),
        })
    }

    /// Parses the program headers alone, as the loader does: section headers may be stripped, and there are many
    /// symbols.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let message = |error: goblin::error::Error| error.to_string();
        let header: Header = Elf::parse_header(bytes).map_err(message)?;
        let container =
            if header.container().map_err(message)? == Container::Big { Container::Big } else { Container::Little };
        let endianness = header.endianness().map_err(message)?;
        let context = Ctx::new(container, endianness);
        let offset = usize::try_from(header.e_phoff).map_err(|error| error.to_string())?;
        let segments = ProgramHeader::parse(bytes, offset, usize::from(header.e_phnum), context).map_err(message)?;
        let interpreter = match segments.iter().find(|segment| segment.p_type == PT_INTERP) {
            Some(segment) => {
                let start = usize::try_from(segment.p_offset).map_err(|error| error.to_string())?;
                Some(PathBuf::from(text(bytes, start).ok_or("its interpreter is not in it")?))
            }
            None => None,
        };
        let dynamic = Dynamic::parse(bytes, &segments, context).map_err(message)?;
        let (mut needed, mut rpath, mut runpath) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(dynamic) = dynamic {
            for entry in &dynamic.dyns {
                let list = match entry.d_tag {
                    DT_NEEDED => &mut needed,
                    DT_RPATH => &mut rpath,
                    DT_RUNPATH => &mut runpath,
                    _ => continue,
                };
                let at = usize::try_from(entry.d_val).ok().and_then(|at| dynamic.info.strtab.checked_add(at));
                list.push(at.and_then(|at| text(bytes, at)).ok_or("a name that it needs is not in it")?);
            }
        }
        let split = |lists: Vec<String>| lists.iter().flat_map(|list| list.split(':')).map(str::to_owned).collect();
        Ok(Self {
            abi: Abi {
                is_64: container == Container::Big,
                is_little_endian: endianness == goblin::container::Endian::Little,
                machine: header.e_machine,
            },
            interpreter,
            needed,
            rpath: split(rpath),
            runpath: split(runpath),
        })
    }

    /// Returns the directories of `DT_RPATH`, which an object's libraries inherit; none if there is a `DT_RUNPATH`.
    pub(super) fn rpath(&self, origin: &Path) -> Vec<PathBuf> {
        if self.has_runpath() { Vec::new() } else { directories(&self.rpath, origin) }
    }

    /// Returns the directories of `DT_RUNPATH`, which apply to the object alone.
    pub(super) fn runpath(&self, origin: &Path) -> Vec<PathBuf> {
        directories(&self.runpath, origin)
    }

    /// Returns whether it has a `DT_RUNPATH`: then the `DT_RPATH` of the objects that loaded it is ignored.
    pub(super) fn has_runpath(&self) -> bool {
        !self.runpath.is_empty()
    }
}

/// Returns the string that starts at that byte.
fn text(bytes: &[u8], start: usize) -> Option<String> {
    let text = bytes.get(start..)?.split(|byte| *byte == 0).next()?;
    String::from_utf8(text.to_vec()).ok()
}

/// Returns the directories with `$ORIGIN` replaced. A relative directory depends on the working directory of the
/// program, and is omitted.
fn directories(written: &[String], origin: &Path) -> Vec<PathBuf> {
    let expand =
        |directory: &String| match directory.strip_prefix("$ORIGIN").or_else(|| directory.strip_prefix("${ORIGIN}")) {
            Some(rest) => origin.join(rest.trim_start_matches('/')),
            None => PathBuf::from(directory),
        };
    written.iter().map(expand).filter(|directory| directory.is_absolute()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use super::*;

    #[test]
    fn a_program_of_the_host_names_its_loader_and_libc() {
        let object = Object::read(&std::env::current_exe().unwrap()).unwrap().unwrap();
        assert!(object.interpreter.unwrap().is_absolute());
        assert!(object.needed.iter().any(|name| name.starts_with("libc.so")));
    }

    #[test]
    fn origin_is_replaced_and_relative_directories_are_omitted() {
        let written = ["$ORIGIN/../lib", "${ORIGIN}", "/opt/lib", "lib", ""].map(str::to_owned);
        let expected = ["/a/b/../lib", "/a/b", "/opt/lib"].map(PathBuf::from);
        assert_eq!(directories(&written, Path::new("/a/b")), expected);
    }

    proptest! {
        #[test]
        fn a_broken_elf_file_is_an_error_and_never_a_panic(
            changes in proptest::collection::vec((0_usize..1024, any::<u8>()), 1..20),
            length in 4_usize..8192,
        ) {
            let mut bytes = std::fs::read("/bin/true").unwrap();
            bytes.truncate(length);
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            // Some changes have no effect: then the test checks only that parsing returns.
            let result = Object::parse(&bytes);
            prop_assert!(length >= 64 || result.is_err());
        }
    }
}
