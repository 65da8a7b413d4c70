//! The root with the usual programs as a directory, from an image that the tests of a process build once.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::built::project;

/// Unpacks an image into a directory, which may exist already.
#[track_caller]
pub fn unpack(image: &Path, directory: &Path) {
    let unpacked =
        Command::new("unsquashfs").args(["-q", "-n", "-f", "-d"]).arg(directory).arg(image).output().unwrap();
    assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
}

/// Puts the usual root into a directory.
#[track_caller]
pub fn make_root(directory: &Path) {
    // The file has no name, so it is removed with the process.
    static IMAGE: OnceLock<File> = OnceLock::new();
    let image = IMAGE.get_or_init(|| {
        let project = project(
            "
containers: { c: { rootfs: $TOOLS } }
steps: [{ name: image, snapshot: { mode: full, output: root.squashfs } }]
",
        );
        project.apply();
        File::open(project.path("root.squashfs")).unwrap()
    });
    unpack(Path::new(&format!("/proc/{}/fd/{}", std::process::id(), image.as_raw_fd())), directory);
}
