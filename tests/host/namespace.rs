//! Mounts made by hand, as a user of the images would make them, in a mount namespace that ends with its thread.

use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, MountPropagationFlags, mount_change};
use tempfile::TempDir;

/// Runs `work` on a thread with its own mounts.
pub fn in_private_namespace<T: Send>(work: impl FnOnce(&Mounts) -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            let directory = tempfile::Builder::new().prefix("mnt-").tempdir().unwrap();
            rustix::mount::mount("tmpfs", directory.path(), "tmpfs", MountFlags::empty(), None).unwrap();
            let mounts = Mounts { directory, made: std::cell::Cell::new(0) };
            let result = work(&mounts);
            // So that the directory below can be removed; the mount ends all the same.
            rustix::mount::unmount(mounts.directory.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
            result
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A directory for mounts.
pub struct Mounts {
    directory: TempDir,
    made: std::cell::Cell<u32>,
}

impl Mounts {
    fn target(&self) -> PathBuf {
        self.made.set(self.made.get() + 1);
        let target = self.directory.path().join(self.made.get().to_string());
        fs::create_dir(&target).unwrap();
        target
    }

    /// Returns a squashfs image.
    #[track_caller]
    pub fn image(&self, image: &Path) -> PathBuf {
        self.mounted(image, "squashfs")
    }

    /// Returns an EROFS image.
    #[track_caller]
    pub fn erofs(&self, image: &Path) -> PathBuf {
        self.mounted(image, "erofs")
    }

    #[track_caller]
    fn mounted(&self, image: &Path, kind: &str) -> PathBuf {
        let target = self.target();
        let arguments = ["-t", kind, "-o", "loop,ro"];
        let done = Command::new("mount").args(arguments).arg(image).arg(&target).output().unwrap();
        assert!(done.status.success(), "{}: {}", image.display(), String::from_utf8_lossy(&done.stderr));
        target
    }

    /// Returns a chain of images, the lowest first.
    #[track_caller]
    pub fn chain(&self, images: &[PathBuf]) -> PathBuf {
        let layers: Vec<String> = images.iter().rev().map(|image| self.image(image).display().to_string()).collect();
        let target = self.target();
        let options = CString::new(format!("lowerdir={}", layers.join(":"))).unwrap();
        rustix::mount::mount("overlay", &target, "overlay", MountFlags::RDONLY, Some(options.as_c_str())).unwrap();
        target
    }
}
