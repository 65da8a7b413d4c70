//! Whether a step's working folder is there: runc and its like make one that is missing, in the root, for a snapshot to
//! find.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::fs::{CWD, FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::fs::in_root::resolve;

/// Looks for the folder where it will be: in the root, or in what is bound over that. What a mount of another kind holds
/// is not known before it is mounted, and is the runtime's to tell.
///
/// # Errors
/// `ENOENT` or `ENOTDIR`, or what looking gives.
pub fn check(spec: &Spec, folder: &Path) -> io::Result<()> {
    let root = spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default();
    let folder = look(&root, folder)?;
    let mounts = spec.mounts().iter().flatten();
    let above = mounts.filter(|mount| folder.path.starts_with(mount.destination()));
    // The last one that is mounted there is the one that is seen.
    match above.max_by_key(|mount| mount.destination().components().count()) {
        None if folder.missing => Err(Errno::NOENT.into()),
        None if !folder.is_folder => Err(Errno::NOTDIR.into()),
        Some(mount) if mount.typ().as_deref() == Some("bind") => {
            let below = folder.path.strip_prefix(mount.destination()).unwrap_or(Path::new(""));
            let source = mount.source().clone().unwrap_or_default();
            match look(&source, &Path::new("/").join(below))? {
                Found { missing: true, .. } => Err(Errno::NOENT.into()),
                Found { is_folder: false, .. } => Err(Errno::NOTDIR.into()),
                Found { .. } => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

struct Found {
    path: PathBuf,
    missing: bool,
    is_folder: bool,
}

fn look(root: &Path, path: &Path) -> io::Result<Found> {
    let root = openat(CWD, root, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if path == Path::new("/") {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&root)?.st_mode);
        return Ok(Found { path: path.to_owned(), missing: false, is_folder: kind == FileType::Directory });
    }
    let inside = resolve(root.as_fd(), path)?;
    let is_folder = inside.kind == FileType::Directory;
    Ok(Found { path: inside.path(), missing: !inside.missing.is_empty(), is_folder })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use oci_spec::runtime::{MountBuilder, RootBuilder, SpecBuilder};

    use super::*;

    #[test]
    fn a_folder_is_looked_for_in_the_root_and_in_what_is_bound_over_it() {
        let folder = tempfile::tempdir().unwrap();
        let (root, bound) = (folder.path().join("root"), folder.path().join("bound"));
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
