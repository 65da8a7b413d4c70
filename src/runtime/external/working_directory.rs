//! Checks that a step's working directory exists: runc and similar runtimes make a missing one in the root, and it would then
//! be in the snapshot.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::fs::{CWD, FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::fs::in_root::resolve;

/// Looks for the directory in the root, or in the bind that covers it there. The content of a mount of another kind is not known
/// before it is mounted, so the runtime reports what is missing in that.
///
/// # Errors
/// `ENOENT` or `ENOTDIR`, or those of opening the path.
pub fn check(spec: &Spec, directory: &Path) -> io::Result<()> {
    let root = spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default();
    let directory = look_up(&root, directory)?;
    let mounts = spec.mounts().iter().flatten();
    let above = mounts.filter(|mount| directory.path.starts_with(mount.destination()));
    // Of several mounts there, the last one is visible.
    match above.max_by_key(|mount| mount.destination().components().count()) {
        None if directory.missing => Err(Errno::NOENT.into()),
        None if !directory.is_directory => Err(Errno::NOTDIR.into()),
        Some(mount) if mount.typ().as_deref() == Some("bind") => {
            let below = directory.path.strip_prefix(mount.destination()).unwrap_or(Path::new(""));
            let source = mount.source().clone().unwrap_or_default();
            match look_up(&source, &Path::new("/").join(below))? {
                PathLookup { missing: true, .. } => Err(Errno::NOENT.into()),
                PathLookup { is_directory: false, .. } => Err(Errno::NOTDIR.into()),
                PathLookup { .. } => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

struct PathLookup {
    path: PathBuf,
    missing: bool,
    is_directory: bool,
}

fn look_up(root: &Path, path: &Path) -> io::Result<PathLookup> {
    let root = openat(CWD, root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if path == Path::new("/") {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&root)?.st_mode);
        return Ok(PathLookup { path: path.to_owned(), missing: false, is_directory: kind == FileType::Directory });
    }
    let inside = resolve(root.as_fd(), path)?;
    let is_directory = inside.kind == FileType::Directory;
    Ok(PathLookup { path: inside.path(), missing: !inside.missing.is_empty(), is_directory })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use oci_spec::runtime::{MountBuilder, RootBuilder, SpecBuilder};

    use super::*;

    #[test]
    fn a_directory_is_looked_up_in_the_root_and_in_the_bind_that_covers_it() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, bound) = (scratch.path().join("root"), scratch.path().join("bound"));
        fs::create_dir_all(root.join("there/deep")).unwrap();
        fs::create_dir_all(root.join("mnt/hidden")).unwrap();
        fs::create_dir_all(bound.join("sub")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        symlink("/there", root.join("link")).unwrap();
        symlink("/mnt", root.join("to-mount")).unwrap();
        let bind = MountBuilder::default().destination("/mnt").typ("bind").source(&bound).build().unwrap();
        let dev = MountBuilder::default().destination("/dev").typ("tmpfs").source("tmpfs").build().unwrap();
        let spec = SpecBuilder::default()
            .root(RootBuilder::default().path(&root).build().unwrap())
            .mounts(vec![dev, bind])
            .build()
            .unwrap();
        for good in ["/", "/there/deep", "/link/deep", "/mnt", "/mnt/sub", "/to-mount/sub", "/dev/shm"] {
            assert!(check(&spec, Path::new(good)).is_ok(), "{good}");
        }
        let kind = |path: &str| check(&spec, Path::new(path)).unwrap_err().kind();
        for missing in ["/no/where", "/there/no", "/mnt/hidden", "/to-mount/no"] {
            assert_eq!(kind(missing), io::ErrorKind::NotFound, "{missing}");
        }
        assert_eq!(kind("/file"), io::ErrorKind::NotADirectory);
    }
}
