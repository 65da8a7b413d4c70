//! Runner on a terminal of its own, with its keys and its screen.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};

use crate::built::wait_for;
use crate::project::Project;

/// A terminal with runner on it.
pub struct Terminal {
    pub screen: OwnedFd,
    /// Kept open: without it the terminal would end with runner.
    line: OwnedFd,
    pub process: Child,
    pub shown: String,
}

pub fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    pub fn new(project: &Project, arguments: &[&str]) -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let line = std::fs::File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        tcsetwinsize(&screen, size(21, 93)).unwrap();
        let mut command = project.command_by(&["setsid", "--ctty"], arguments);
        let end = || Stdio::from(line.try_clone().unwrap());
        let process = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Self { screen, line: line.into(), process, shown: String::new() }
    }

    pub fn press(&self, keys: &str) {
        let written = rustix::io::write(&self.screen, keys.as_bytes()).unwrap();
        assert_eq!(written, keys.len());
    }

    /// Reads the output so far, and waits a little for it.
    pub fn look(&mut self) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(self.screen.as_fd(), PollFlags::IN)];
        let pause = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        if poll(&mut polled, Some(&pause)).unwrap() == 0 {
            return false;
        }
        let mut buffer = [0; 65536];
        let length = rustix::io::read(&self.screen, &mut buffer).unwrap_or(0);
        self.shown.push_str(&String::from_utf8_lossy(&buffer[..length]));
        length > 0
    }

    /// Waits for a text that has not been waited for, and drops the output up to its end.
    #[track_caller]
    pub fn await_text(&mut self, text: &str) -> String {
        let start = std::time::Instant::now();
        loop {
            if let Some(at) = self.shown.find(text) {
                let rest = self.shown.split_off(at + text.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            self.look();
            assert!(start.elapsed().as_secs() < 60, "waited in vain for {text:?}: {}", self.shown);
        }
    }

    /// Waits for runner's end; returns its exit code.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        let status = wait_for("runner's end", || {
            self.look();
            self.process.try_wait().unwrap()
        });
        while self.look() {}
        status
    }

    /// Returns whether keys are echoed, lines edited and signals sent, as before.
    pub fn is_as_before(&self) -> bool {
        let modes = tcgetattr(&self.line).unwrap();
        modes.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
            && modes.special_codes[SpecialCodeIndex::VINTR] == 3
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
