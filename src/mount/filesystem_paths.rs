//! Paths of the host that the kernel looks up when it mounts a filesystem: the source, if the filesystem is on a block
//! device, and some options.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{FsOpenFlags, fsopen};

/// The options that name files or directories: of overlay, ext4, xfs, and btrfs and erofs.
const KEYS: [&str; 9] =
    ["lowerdir", "lowerdir+", "datadir+", "upperdir", "workdir", "journal_path", "logdev", "rtdev", "device"];

/// The option with a list of directories, with colons between them.
const LIST: &str = "lowerdir";

/// Returns whether a filesystem is on a block device, which is then its source. Loads its module.
///
/// # Errors
/// `ENODEV` if the kernel does not have it; those of reading the list of filesystems.
pub fn needs_device(kind: &str) -> io::Result<bool> {
    // Only the first part of `TYPE.SUBTYPE` counts, as in mount(2).
    let kind = kind.split('.').next().unwrap_or(kind);
    drop(fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?);
    let list = std::fs::read_to_string("/proc/filesystems")?;
    Ok(list.lines().any(|line| line.trim_start() == kind && !line.starts_with("nodev")))
}

/// Returns the paths in the options of a filesystem.
pub fn paths_in_options(options: &[String]) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let collected = with_paths(options, |path| -> io::Result<PathBuf> {
        paths.push(path.to_owned());
        Ok(path.to_owned())
    });
    // The closure never fails.
    drop(collected);
    paths
}

/// Returns the options with their paths replaced.
///
/// # Errors
/// The first error of `other`.
pub fn with_paths<E>(options: &[String], mut other: impl FnMut(&Path) -> Result<PathBuf, E>) -> Result<Vec<String>, E> {
    // The kernel splits options at commas, also inside one entry of the manifest.
    options.iter().flat_map(|option| split(option, ',')).map(|option| replaced(option, &mut other)).collect()
}

fn replaced<E>(option: &str, other: &mut impl FnMut(&Path) -> Result<PathBuf, E>) -> Result<String, E> {
    let Some((key, value)) = option.split_once('=').filter(|(key, _)| KEYS.contains(key)) else {
        return Ok(option.to_owned());
    };
    let parts = if key == LIST { split(value, ':') } else { vec![value] };
    let mut values = Vec::new();
    for part in parts {
        // Two colons separate the directories with data.
        values.push(if part.is_empty() {
            String::new()
        } else {
            let path = other(Path::new(&*unescaped(part)))?;
            path.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
        });
    }
    Ok(format!("{key}={}", values.join(":")))
}

/// Splits at a character, except after a backslash.
fn split(text: &str, at: char) -> Vec<&str> {
    let (mut parts, mut begin, mut is_escaped) = (Vec::new(), 0, false);
    for (index, c) in text.char_indices() {
        if c == at && !is_escaped {
            parts.push(&text[begin..index]);
            begin = index + c.len_utf8();
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    parts.push(&text[begin..]);
    parts
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let (mut plain, mut is_escaped) = (String::new(), false);
    for c in text.chars() {
        is_escaped = c == '\\' && !is_escaped;
        if !is_escaped {
            plain.push(c);
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(all: &[&str]) -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_path_in_an_option_is_found_also_behind_a_comma_and_escaped() {
        let given = options(&[
            "lowerdir=/a:/b\\:c::/d\\\\e",
            "ro,upperdir=/f\\,g,workdir=h",
            "context=/no/path",
            "journal_path=/j:k",
            "lowerdir",
        ]);
        let paths = ["/a", "/b:c", "/d\\e", "/f,g", "h", "/j:k"].map(PathBuf::from);
        assert_eq!(paths_in_options(&given), paths);
        let numbered = with_paths(&given, |path| {
            let index = paths.iter().position(|other| other == path).unwrap();
            Ok::<_, io::Error>(PathBuf::from(format!("/proc/self/fd/{index}")))
        });
        let expected = [
            "lowerdir=/proc/self/fd/0:/proc/self/fd/1::/proc/self/fd/2",
            "ro",
            "upperdir=/proc/self/fd/3",
            "workdir=/proc/self/fd/4",
            "context=/no/path",
            "journal_path=/proc/self/fd/5",
            "lowerdir",
        ];
        assert_eq!(numbered.unwrap(), expected);
    }

    #[test]
    fn a_filesystem_of_a_disk_needs_a_device_and_tmpfs_needs_none() {
        assert!(needs_device("squashfs").unwrap());
        assert!(!needs_device("tmpfs").unwrap());
        assert_eq!(needs_device("no-such-filesystem").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
