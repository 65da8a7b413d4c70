//! A tmpfs or another filesystem of the kernel, mounted for a session with the options of the manifest.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::scratch::inodes;
use crate::fs::dirfd::path_of;
use crate::mount::{Mounted, mount_kernel, mount_tmpfs, needs_device, paths_in_options, with_paths};
use crate::named_paths::NamedPaths;

/// Mounts a tmpfs at `place`, a path to be made, with a bound on its files that goes with its size.
///
/// # Errors
/// Those of the kernel; in words for options that it refuses.
pub(super) fn new_tmpfs(place: &Path, options: &[String]) -> io::Result<Mounted> {
    DirBuilder::new().mode(0o700).create(place)?;
    // Read-only comes with the bind mount: a tmpfs that is read-only itself could not hold further mount points.
    let mut options: Vec<String> = options.iter().filter(|option| *option != "ro").cloned().collect();
    options.extend(inodes_of_size(&options));
    mount_tmpfs(place, &options).map_err(not_taken(&options))
}

/// The bound on files that goes with a `size`, where none is given; without a size the kernel's own bounds go together.
fn inodes_of_size(options: &[String]) -> Option<String> {
    if options.iter().any(|option| option.starts_with("nr_inodes=")) {
        return None;
    }
    let size = options.iter().rev().find_map(|option| option.strip_prefix("size="))?;
    let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match size[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        // A share of the memory, as `50%`, or nothing that the kernel takes.
        _ => return None,
    };
    let bytes = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    // Zero is no limit at all.
    (bytes > 0).then(|| format!("nr_inodes={}", inodes(bytes)))
}

/// Names the options that a filesystem does not take: mount(2) reports an invalid argument and no more.
fn not_taken(options: &[String]) -> impl FnOnce(io::Error) -> io::Error {
    move |error| match error.raw_os_error() {
        Some(libc::EINVAL) if !options.is_empty() => {
            let told = format!("the kernel refuses the options {}: {error}", options.join(","));
            io::Error::new(error.kind(), told)
        }
        _ => error,
    }
}

/// Mounts another filesystem of the kernel at `place`, a path to be made, by the paths that were opened when the build began.
///
/// # Errors
/// Those of the kernel; in words for options that it refuses and for a filesystem that it lacks.
pub(super) fn kernel(
    kind: &str,
    source: &Path,
    place: &Path,
    options: &[String],
    paths: &NamedPaths,
) -> io::Result<Mounted> {
    DirBuilder::new().mode(0o700).create(place)?;
    // mount(2) takes paths: those that lead to what the source and the options led to when the build began.
    let opened = paths.opened().get(source)?;
    let of_options = paths_in_options(options);
    let of_options: Vec<_> =
        of_options.iter().map(|path| Ok((path, paths.get(path)?))).collect::<io::Result<_>>().map_err(not_named)?;
    let named = with_paths(options, |path| match of_options.iter().find(|(named, _)| *named == path) {
        Some((_, opened)) => Ok(path_of(opened.as_fd())),
        None => Err(io::Error::from(io::ErrorKind::NotFound)),
    })?;
    let mount = || -> io::Result<Mounted> {
        if opened.is_none() && needs_device(kind)? {
            let source = source.display();
            let error =
                format!("its source {source} was no absolute path of a block device or file when the build began");
            return Err(io::Error::other(error));
        }
        let source = opened.as_ref().map_or_else(|| source.to_owned(), |opened| path_of(opened.as_fd()));
        mount_kernel(kind, &source, place, &named)
    };
    mount().map_err(|error| match error.raw_os_error() {
        Some(libc::ENODEV) => {
            let told = format!("this kernel has no filesystem `{kind}`; `modprobe {kind}` loads it where there is one");
            io::Error::new(error.kind(), told)
        }
        _ => not_taken(options)(error),
    })
}

/// A path in an option that was not opened: one that is not absolute.
fn not_named(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("an option of it: {error}; paths in options must be absolute"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_tmpfs_bounds_its_files() {
        let bound = |options: &[&str]| inodes_of_size(&options.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(bound(&["size=8m"]).as_deref(), Some("nr_inodes=2048"));
        assert_eq!(bound(&["size=1m", "size=1G"]).as_deref(), Some("nr_inodes=262144"));
        assert_eq!(bound(&["size=65536"]).as_deref(), Some("nr_inodes=1024"));
        for options in [
            &["size=8m", "nr_inodes=5"][..],
            &["size=50%"],
            &["size=0"],
            &["size=x"],
            &["mode=1777"],
            &["size=99999999999999999999g"],
        ] {
            assert_eq!(bound(options), None, "{options:?}");
        }
    }
}
