//! runner's own program as a file that nothing inside a container can write to, see CVE-2019-5736.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, openat};

use super::container::RuntimeError;
use crate::mount::mount_overlay;

/// The program that runs now, sealed: helpers are started from it, and `/proc/*/exe` of theirs leads to it.
#[derive(Debug)]
pub struct SealedProgram(OwnedFd);

impl SealedProgram {
    /// Seals the program that runs now: seen through an overlay that has no writable layer, which costs nothing, or
    /// else copied into sealed memory. `room` makes new folders; nothing stays mounted there.
    ///
    /// # Errors
    /// Where the kernel does neither, or memory is short.
    pub fn of_self(room: impl Fn(&str) -> io::Result<PathBuf>) -> Result<Self, RuntimeError> {
        through_overlay(room).or_else(|_| in_memory()).map(Self).map_err(RuntimeError::Copy)
    }

    /// A path to start it by.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

/// Fails where the program's file was removed or replaced since it was started, where its folder cannot be stacked on
/// (it lies on an overlay of overlays), and where the kernel has no overlayfs.
fn through_overlay(room: impl Fn(&str) -> io::Result<PathBuf>) -> io::Result<OwnedFd> {
    let (path, running) = (fs::read_link("/proc/self/exe")?, fs::metadata("/proc/self/exe")?);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mounted = mount_overlay(&[folder, &room("empty")?], None, &room("program")?).map_err(io::Error::other)?;
    let name = path.file_name().unwrap_or(OsStr::new(""));
    let program =
        openat(CWD, mounted.path().join(name), OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    // The open file keeps what it is on; the mount is seen by nobody else.
    drop(mounted);
    let program = program?;
    let seen = fs::metadata(format!("/proc/self/fd/{}", program.as_raw_fd()))?;
    let known = |metadata: &fs::Metadata| (metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.mode());
    if known(&seen) == known(&running) { Ok(program) } else { Err(io::Error::other("it is another file by now")) }
}

fn in_memory() -> io::Result<OwnedFd> {
    let mut program = File::open("/proc/self/exe")?;
    let mut memory = File::from(rustix::fs::memfd_create("runner", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    io::copy(&mut program, &mut memory)?;
    memory.flush()?;
    memory.rewind()?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    Ok(memory.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Runs `test` with a mount namespace and a folder of its own.
    fn apart(test: impl FnOnce(&Path) + Send) {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
                let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
                rustix::mount::mount_change("/", private).unwrap();
                test(folder.path());
            });
        });
    }

    fn bytes(program: &OwnedFd) -> Vec<u8> {
        let mut bytes = Vec::new();
        File::open(format!("/proc/self/fd/{}", program.as_raw_fd())).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn either_way_it_is_this_program_and_cannot_be_written() {
        apart(|folder| {
            let room = |name: &str| {
                let path = folder.join(name);
                fs::create_dir(&path)?;
                Ok(path)
            };
            let own = fs::read("/proc/self/exe").unwrap();
            for program in [through_overlay(room).unwrap(), in_memory().unwrap()] {
                assert!(bytes(&program) == own, "another program");
                let path = format!("/proc/self/fd/{}", program.as_raw_fd());
                let opened = File::options().write(true).open(&path).and_then(|mut file| file.write_all(b"x"));
                assert!(opened.is_err(), "{path} can be written");
            }
            let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
            assert!(!mounts.contains(&folder.display().to_string()), "{mounts}");
        });
    }
}
