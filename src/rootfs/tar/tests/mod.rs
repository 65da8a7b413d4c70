//! Tests of unpacking, and their shared functions.

mod broken;
mod entries;
mod layer;
mod round_trip;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use tar::{Builder, EntryType, Header};

use super::{Bounds, UnpackRoom, unpack};
use crate::rootfs::RootfsError;

/// A directory with an archive, and beside it a file that must not change.
struct Case {
    directory: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        fs::write(directory.path().join("outside"), "outside").unwrap();
        Self { directory }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn archive(&self) -> PathBuf {
        self.directory.path().join("archive.tar")
    }

    fn unpack(&self) -> Result<(), RootfsError> {
        let archive = File::open(self.archive()).unwrap();
        unpack(
            &self.archive(),
            archive.as_fd(),
            File::open(self.root()).unwrap().as_fd(),
            &Bounds::new(&AtomicBool::new(false), UnpackRoom::ALL),
        )
    }

    fn unpack_bytes(&self, archive: &[u8]) -> Result<(), RootfsError> {
        fs::write(self.archive(), archive).unwrap();
        let result = self.unpack();
        assert_eq!(fs::read(self.directory.path().join("outside")).unwrap(), b"outside");
        assert_eq!(fs::read_dir(self.directory.path()).unwrap().count(), 3, "something was made outside the root");
        result
    }
}

fn archive(fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    fill(&mut builder);
    builder.into_inner().unwrap()
}

/// Adds a member with any name: the tar crate refuses the hostile names of these tests.
fn add(builder: &mut Builder<Vec<u8>>, name: &str, kind: EntryType, link: &str, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(7);
    if matches!(kind, EntryType::Char | EntryType::Block) {
        header.set_device_major(1).unwrap();
        header.set_device_minor(3).unwrap();
    }
    header.set_cksum();
    builder.append(&header, content).unwrap();
}

fn add_file(builder: &mut Builder<Vec<u8>>, name: &str, content: &[u8]) {
    add(builder, name, EntryType::Regular, "", content);
}

fn pax(records: &[(&str, &[u8])], fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    archive(|builder| {
        builder.append_pax_extensions(records.iter().copied()).unwrap();
        fill(builder);
    })
}

fn failure(result: Result<(), RootfsError>) -> String {
    let error = result.unwrap_err();
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

fn compress(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    output.stdout
}
