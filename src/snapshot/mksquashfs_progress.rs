//! The progress of mksquashfs(1): a bar, which it draws only on a terminal.
//!
//! Its bytes read say less: it reads ahead of its compressor as far as its memory allows, which often is the whole tree.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::image::MAX_PERCENT;

/// No bar is longer, nor a line that is worth storing.
const MAX_PENDING: usize = 4 << 10;

/// Returns a terminal: our end, and the end to draw on. Either is closed in every program that is started.
pub(super) fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    // Without a width mksquashfs draws no bar.
    tcsetwinsize(&theirs, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 })?;
    Ok((ours, theirs))
}

/// Follows the bar.
#[derive(Debug, Default)]
pub(super) struct MksquashfsProgress {
    pending: Vec<u8>,
    percent: Option<u8>,
}

impl MksquashfsProgress {
    /// Takes output; returns the lines that are no bar.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut said = Vec::new();
        for byte in bytes {
            let shown = if *byte == b'%' { percent(&self.pending) } else { None };
            if let Some(percent) = shown {
                // A bar has no end until the next one begins, but is complete with this. The total may turn out to be larger than
                // before.
                self.pending.clear();
                self.percent = self.percent.max(Some(percent.min(MAX_PERCENT)));
            } else if !b"\r\n".contains(byte) {
                if self.pending.len() < MAX_PENDING {
                    self.pending.push(*byte);
                }
            } else if !self.pending.is_empty() {
                said.append(&mut self.pending);
                said.push(b'\n');
            }
        }
        said
    }

    /// Returns the share that is done, never lower than before, and never all; none before the first bar.
    pub(super) fn percent(&self) -> Option<u8> {
        self.percent
    }
}

/// Returns the percentage of a bar without its sign, `[==/  ] 128/256  50`.
fn percent(line: &[u8]) -> Option<u8> {
    let (bar, counts) = str::from_utf8(line).ok()?.strip_prefix('[')?.split_once(']')?;
    let (done, percent) = counts.trim_start().split_once(' ')?;
    let is_bar = bar.bytes().all(|byte| b"=|/-\\ ".contains(&byte));
    let is_counted = done.split_once('/').is_some_and(|(done, all)| {
        [done, all].iter().all(|count| !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit()))
    });
    if is_bar && is_counted { percent.trim().parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bar_is_followed_and_other_lines_are_returned() {
        let mut bar = MksquashfsProgress::default();
        assert_eq!(bar.take(b"\r"), b"");
        assert_eq!(bar.percent(), None);
        assert_eq!(bar.take(b"[|      ]    0/10042   0%\r[=/     ]  133"), b"");
        assert_eq!(bar.percent(), Some(0));
        assert_eq!(bar.take(b"3/10042  13%"), b"");
        assert_eq!(bar.percent(), Some(13));
        assert_eq!(bar.take(b"\r[=/     ]  1333/20042   6%"), b"");
        assert_eq!(bar.percent(), Some(13));
        assert_eq!(
            bar.take(b"\r\nWrite failed: 100% [full]\r\n\r[=======|] 10042/10042 100%\r\n"),
            b"Write failed: 100% [full]\n"
        );
        assert_eq!(bar.percent(), Some(99));
    }

    #[test]
    fn text_that_only_looks_like_a_bar_is_ignored() {
        for line in ["[==] 50%", "[==] a/b 50%", "[x=] 1/2  50%", "[==] 1/2  500%", "[==] 1/2  -1%", "[==] /  1%"] {
            let mut bar = MksquashfsProgress::default();
            let line = format!("{line}\n");
            assert_eq!(bar.take(line.as_bytes()), line.as_bytes());
            assert_eq!(bar.percent(), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn the_share_never_falls_and_never_reaches_the_end(
            parts in prop::collection::vec((0..=100u8, 1..40usize), 0..20), noise: Vec<u8>,
        ) {
            let (mut bar, mut most) = (MksquashfsProgress::default(), None);
            bar.take(&noise);
            bar.take(b"\n");
            for (percent, cut) in parts {
                let text = format!("\r[{}/{}] {percent}/100 {percent:3}%", "=".repeat(cut), " ".repeat(40 - cut));
                let (one, other) = text.as_bytes().split_at(cut);
                let said = [bar.take(one), bar.take(other)].concat();
                prop_assert!(said.is_empty());
                most = most.max(Some(percent.min(99)));
                prop_assert_eq!(bar.percent(), most);
            }
        }
    }
}
