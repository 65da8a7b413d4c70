//! Writes a step's script as a program: a file that begins with `#!`, which the kernel executes, see execve(2).

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use crate::sys;

/// How often runner checks for writers, and the time between two checks.
const TRIES: u32 = 2000;
const PAUSE: Duration = Duration::from_millis(1);

/// Writes a program.
///
/// The kernel executes no file that any process has open for writing (`ETXTBSY`). A process that another thread forked
/// while this one wrote the file has it open until its own execve(2), so this function waits for that.
///
/// # Errors
/// Those of writing it; `ETXTBSY` where another process has it open for writing.
pub fn write(place: &Path, text: &str) -> io::Result<()> {
    // Each attempt has a new file, because the previous attempt may have the old one open.
    match fs::remove_file(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::write(place, text)?;
    fs::set_permissions(place, Permissions::from_mode(0o755))?;
    wait_for_writers(&File::open(place)?)
}

/// Waits until no process has a file open for writing: then the kernel grants a lease, see fcntl(2).
fn wait_for_writers(file: &File) -> io::Result<()> {
    for _ in 0..TRIES {
        match sys::take_lease(file, false) {
            Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => thread::sleep(PAUSE),
            result => return result,
        }
    }
    Err(Errno::TXTBSY.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_ready_only_when_no_process_has_it_open_for_writing() {
        let top = tempfile::tempdir().unwrap();
        let place = top.path().join("step");
        write(&place, "#!/bin/sh\necho ran\n").unwrap();
        let writer = File::options().append(true).open(&place).unwrap();
        let busy = std::process::Command::new(&place).output().unwrap_err();
        assert_eq!(busy.kind(), io::ErrorKind::ExecutableFileBusy);
        let waiting = thread::spawn({
            let file = File::open(&place).unwrap();
            move || wait_for_writers(&file)
        });
        thread::sleep(20 * PAUSE);
        assert!(!waiting.is_finished());
        drop(writer);
        waiting.join().unwrap().unwrap();
        assert_eq!(std::process::Command::new(&place).output().unwrap().stdout, b"ran\n");
    }
}
