//! Sessions and their steps, and the images that are written of them.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::{compare, errno, every, shown};
use crate::error::context;
use crate::execute::RestoreError;
use crate::fs::in_root::link_in_mount;
use crate::model::Capability;
use crate::mount::OverlayError;
use crate::named_paths::confinement::Power;
use crate::named_paths::{Confinement, NamedPathError, PlantedLink, ShowsStore};
use crate::runtime::container::RuntimeError;
use crate::session::{FullPlace, SessionError, Space};
use crate::snapshot::ImageError;
use crate::squashfs::WriteError;
use crate::store::StoreError;

#[test]
fn every_error_of_a_session_says_where_why_and_what_to_do() {
    let at = |what: &str, number| context::<io::Error>(what)(errno(number));
    let full = |full| {
        let error = Box::new(SessionError::Io(at("make the mount point /src", libc::ENOSPC)));
        SessionError::Full { error, full }
    };
    let errors = every! {
        SessionError::Io(_) => [
            SessionError::Io(at("mount /src: look at /work/src", libc::ENOENT)),
            SessionError::Io(at("make the mount point /src", libc::ENOSPC)),
            SessionError::Io(context("mount target /cache/pip")(link_in_mount("/cache/pip".as_ref(), "/cache".as_ref()))),
        ],
        SessionError::Capabilities { .. } => [
            SessionError::Capabilities { missing: vec![Capability::NetRaw, Capability::SysAdmin], steps: true },
            SessionError::Capabilities { missing: vec![Capability::Mknod], steps: false },
        ],
        SessionError::UnsetSecret { .. } => [SessionError::UnsetSecret { variable: "TOKEN".into(), target: "/run/token".into() }],
        SessionError::AbsentSecret { .. } => [SessionError::AbsentSecret { path: "/work/token".into(), target: "/run/token".into() }],
        SessionError::Target { .. } => [
            SessionError::Target { target: "/etc/passwd".into(), found: "a file", needed: "a directory", name: "/work/src".into() },
            SessionError::Target { target: "/etc".into(), found: "a directory", needed: "a file", name: "the secret TOKEN".into() },
        ],
        SessionError::Full { .. } => [
            full(FullPlace::Scratch),
            full(FullPlace::Store(Space { bytes: 64 << 20, free_bytes: 4096, files: 0, free_files: 0 })),
            full(FullPlace::Workspace(Space { bytes: 64 << 20, free_bytes: 0, files: 0, free_files: 0 })),
            full(FullPlace::Mounts(100_000)),
        ],
        SessionError::OpenFiles { .. } => [SessionError::OpenFiles { requested: 8192, most: 1024 }],
        SessionError::Device { .. } => [SessionError::Device { path: "/dev/kvm".into(), source: errno(libc::ENOENT) }],
        SessionError::User(_) => [
            SessionError::User(io::Error::new(io::ErrorKind::NotFound, "user ann is not in /etc/passwd of the rootfs")),
            SessionError::User(io::Error::new(io::ErrorKind::InvalidData, "the uid of ann in /etc/passwd of the rootfs is 4294967295, which is not a valid id")),
            SessionError::User(io::Error::other("/etc/passwd of the rootfs is not a regular file")),
        ],
        SessionError::Overlay(_) => [SessionError::Overlay(OverlayError::TooManyLayers { layers: 501 })],
        SessionError::Runtime(_) => [SessionError::Runtime(RuntimeError::Gone)],
        SessionError::Spec(_) => [SessionError::Spec(oci_spec::OciSpecError::Other("no destination".into()))],
        SessionError::Rootfs(_) => [
            SessionError::Rootfs(io::Error::other("mount /work/base.squashfs: it is not a squashfs image")),
            SessionError::Rootfs(at("make the directory /mnt/lower1", libc::ENOSPC)),
        ],
        SessionError::Copy(_) => [SessionError::Copy(at("the tmpfs /tmp: copy /part", libc::ENOSPC))],
        SessionError::Lost => [SessionError::Lost],
        SessionError::Busy(_) => [SessionError::Busy(errno(libc::EBUSY))],
    };
    compare("session", shown(errors, SessionError::hint));
}

#[test]
fn every_error_of_a_stored_session_says_where_why_and_what_to_do() {
    let errors = every! {
        RestoreError::NoContainer(_) => [RestoreError::NoContainer("base".into())],
        RestoreError::NoLayer(_) => [RestoreError::NoLayer(super::digest("x").to_string())],
        RestoreError::Store(_) => [RestoreError::Store(StoreError::Name { name: "../x".into() })],
        RestoreError::Session(_) => [RestoreError::Session(SessionError::Rootfs(errno(libc::ENOSPC)))],
    };
    compare("restore", shown(errors, RestoreError::hint));
}

#[test]
fn every_error_of_a_named_path_says_where_why_and_what_to_do() {
    let (path, store) = (|| "/work/src".into(), || "/work/src/store".into());
    let external = || Confinement::External("runc".into());
    let shows = |why| NamedPathError::BindShowsStore { path: path(), store: store(), why };
    let takes = |confinement| {
        let (container, other) = ("base".into(), "sdk".into());
        NamedPathError::BindTakesMount { path: path(), mount: "/work/src/disk".into(), container, other, confinement }
    };
    let errors = every! {
        NamedPathError::Open { .. } => [
            NamedPathError::Open { path: path(), source: errno(libc::ENOENT) },
            NamedPathError::Open { path: path(), source: errno(libc::EACCES) },
        ],
        NamedPathError::Device { .. } => [
            NamedPathError::Device { path: "/dev/kvm".into(), source: errno(libc::ENOENT) },
        ],
        NamedPathError::InStore { .. } => [
            NamedPathError::InStore { path: "/work/src/store/layers".into(), store: store() },
        ],
        NamedPathError::RootHoldsStore { .. } => [NamedPathError::RootHoldsStore { path: path(), store: store() }],
        NamedPathError::MountHoldsStore { .. } => [NamedPathError::MountHoldsStore { path: path(), store: store() }],
        NamedPathError::BindShowsStore { .. } => [
            shows(ShowsStore::Container("base".into(), Power::SysAdmin)),
            shows(ShowsStore::Container("base".into(), Power::Unconfined)),
            shows(ShowsStore::Container("base".into(), Power::Profile("unshare"))),
            shows(ShowsStore::Unconfined(external())),
            shows(ShowsStore::Unconfined(Confinement::NoLandlock)),
        ],
        NamedPathError::BindTakesMount { .. } => [takes(external()), takes(Confinement::NoLandlock)],
        NamedPathError::Output { .. } => [
            NamedPathError::Output { path: "/work/out/base.squashfs".into(), source: errno(libc::EACCES) },
            NamedPathError::Output {
                path: "/dev/null".into(),
                source: io::Error::other("it is a device, and an output replaces a regular file only"),
            },
        ],
        NamedPathError::SameFile { .. } => [
            NamedPathError::SameFile { path: "/work/link/image".into(), other: "/work/out/image".into() },
        ],
        NamedPathError::Planted { .. } => [NamedPathError::Planted {
            path: "/work/src/data".into(),
            planted: PlantedLink {
                link: "/work/src/data".into(),
                source: "/work/src".into(),
                end: "/etc".into(),
            },
        }],
        NamedPathError::Mounts(_) => [NamedPathError::Mounts(errno(libc::ENOENT))],
    };
    compare("named-paths", shown(errors, NamedPathError::hint));
}

#[test]
fn every_error_of_an_overlay_says_where_why_and_what_to_do() {
    let mount = |said: &str, number| OverlayError::Mount { layers: 3, messages: said.into(), source: errno(number) };
    let errors = every! {
        OverlayError::TooManyLayers { .. } => [OverlayError::TooManyLayers { layers: 501 }],
        OverlayError::OptionsFull { .. } => [OverlayError::OptionsFull { layers: 300 }],
        OverlayError::UpperOnOverlay { .. } => [
            OverlayError::UpperOnOverlay { layers: 3, upper: "/store/scratch/aa/upper1".into() },
        ],
        OverlayError::Mount { .. } => [
            mount("", libc::ENODEV),
            mount(": overlay: filesystem on /mnt/upper not supported as upperdir", libc::EINVAL),
        ],
    };
    compare("overlay", shown(errors, OverlayError::hint));
}

#[test]
fn every_error_of_a_helper_says_where_why_and_what_to_do() {
    let errors = every! {
        RuntimeError::Spawn(_) => [RuntimeError::Spawn(errno(libc::EAGAIN))],
        RuntimeError::Talk(_) => [RuntimeError::Talk(errno(libc::EPIPE))],
        RuntimeError::Create(_) => [
            RuntimeError::Create("device rules cannot be enforced here".into()),
            RuntimeError::Create("clone3: Resource temporarily unavailable (os error 11)".into()),
        ],
        RuntimeError::Failed(_) => [RuntimeError::Failed("Too many open files (os error 24)".to_owned())],
        RuntimeError::Gone => [RuntimeError::Gone],
    };
    compare("helper", shown(errors, RuntimeError::hint));
}

#[test]
fn every_error_of_an_image_says_where_why_and_what_to_do() {
    let ended = |status, said: &str| ImageError::Failed { said: said.into(), status: ExitStatus::from_raw(status) };
    let errors = every! {
        ImageError::NoProgram => [ImageError::NoProgram],
        ImageError::Stalled(_) => [ImageError::Stalled(std::time::Duration::from_secs(600))],
        ImageError::Run(_) => [ImageError::Run(errno(libc::EACCES)), ImageError::Run(errno(libc::EAGAIN))],
        ImageError::Failed { .. } => [
            ended(1 << 8, "FATAL ERROR: Failed to write to output filesystem: No space left on device"),
            ended(1 << 8, "FATAL ERROR: Cannot open /etc/shadow"),
            ended(1 << 8, "FATAL ERROR: Failed to create thread"),
            ended(libc::SIGKILL, ""),
        ],
        ImageError::NotAnImage { .. } => [ImageError::NotAnImage { found: "4096 bytes of an image of 8192".into() }],
        ImageError::Write(_) => [
            ImageError::Write(WriteError::File(errno(libc::ENOSPC))),
            ImageError::Write(WriteError::File(errno(libc::EFBIG))),
            ImageError::Write(WriteError::Compress(std::io::Error::other("a thread has ended"))),
            ImageError::Write(WriteError::Read { path: "/etc/shadow".into(), source: errno(libc::EACCES) }),
            ImageError::Write(WriteError::Read { path: "/usr/lib".into(), source: errno(libc::EIO) }),
            ImageError::Write(WriteError::Changed("/var/log/lastlog".into())),
            ImageError::Write(WriteError::FileTooLarge { path: "/hole".into(), size: 1 << 50, most: 1 << 44 }),
            ImageError::Write(WriteError::PathTooLong { path: "/long/".repeat(20).into(), most: 4095 }),
            ImageError::Write(WriteError::TooMany { what: "users and groups", most: 65_535 }),
        ],
        ImageError::Interrupted => [ImageError::Interrupted],
    };
    compare("image", shown(errors, ImageError::hint));
}
