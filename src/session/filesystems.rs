//! Mounts a tmpfs or another filesystem of the kernel for a session, with the options of the manifest.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::scratch::inodes;
use crate::fs::dirfd::path_of;
use crate::mount::{Mounted, mount_kernel, mount_tmpfs, needs_device, paths_in_options, with_paths};
use crate::named_paths::NamedPaths;

/// Makes the directory `place`, and mounts a tmpfs there, with a limit on its files that matches its size.
///
/// # Errors
/// Those of the kernel, with a message for options that it refuses.
pub(super) fn new_tmpfs(place: &Path, options: &[String]) -> io::Result<Mounted> {
    DirBuilder::new().mode(0o700).create(place)?;
    // The bind mount is made read-only: in a tmpfs that is read-only itself no further mount points could be made.
    let mut options: Vec<String> = options.iter().filter(|option| *option != "ro").cloned().collect();
    options.extend(inodes_of_size(&options));
    mount_tmpfs(place, &options).map_err(refused_options(&options))
}

/// Returns the limit on files that matches a `size`, unless the options have one; without a size the kernel's own limits match.
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
        // A share of the memory, such as `50%`, or a size that the kernel refuses.
        _ => return None,
    };
    let bytes = digits.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    // Zero means no limit.
    (bytes > 0).then(|| format!("nr_inodes={}", inodes(bytes)))
}

/// Adds the options that a filesystem refuses to the error: mount(2) only reports an invalid argument.
fn refused_options(options: &[String]) -> impl FnOnce(io::Error) -> io::Error {
    move |error| match error.raw_os_error() {
        Some(libc::EINVAL) if !options.is_empty() => {
            let message = format!("the kernel refuses the options {}: {error}", options.join(","));
            io::Error::new(error.kind(), message)
        }
        _ => error,
    }
}

/// Makes the directory `place`, and mounts another filesystem of the kernel there, by the paths that were opened when the build
/// began.
///
/// # Errors
/// Those of the kernel, with a message for options that it refuses and for a filesystem that it does not have.
pub(super) fn kernel(
    kind: &str,
    source: &Path,
    place: &Path,
    options: &[String],
    paths: &NamedPaths,
) -> io::Result<Mounted> {
    DirBuilder::new().mode(0o700).create(place)?;
    // mount(2) takes paths, so these are paths to the descriptors of the source and of the files in the options.
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
            let message =
                format!("this kernel has no filesystem `{kind}`; `modprobe {kind}` loads it if the host has one");
            io::Error::new(error.kind(), message)
        }
        _ => refused_options(options)(error),
    })
}

/// Returns the error for a path in an option that was not opened, because it is not absolute.
fn not_named(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("one of its options: {error}; paths in options must be absolute"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_tmpfs_limits_its_files() {
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
