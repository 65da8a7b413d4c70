//! Fuzzes the writer of images: of any tree, with all names, sizes, times and attributes that the kernel takes, one thread and
//! several write the same bytes or refuse the same, and none panics.
#![no_main]

use std::ffi::{CString, OsStr};
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use runner::model::Compression;
use runner::squashfs::{WriteOptions, write};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, lsetxattr, mknodat,
    utimensat,
};

/// The remaining input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or_default()
    }

    fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// Returns as many bytes as the first one says, times `unit`.
    fn bytes(&mut self, unit: usize) -> Vec<u8> {
        let count = (usize::from(self.byte()) * unit).min(self.0.len());
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes.to_vec()
    }

    /// Returns a name that the kernel takes, or none.
    fn name(&mut self) -> Option<Vec<u8>> {
        let name = self.bytes(1);
        let is_name =
            !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|byte| b"/\0".contains(byte));
        is_name.then_some(name)
    }
}

/// Changes the tree once. A change that the kernel refuses is skipped.
fn change(at: &mut PathBuf, last: &mut PathBuf, root: &Path, input: &mut Input<'_>) {
    let kind = input.byte() % 13;
    if kind < 7 {
        let Some(name) = input.name() else { return };
        let path = at.join(OsStr::from_bytes(&name));
        match kind {
            0 | 1 => {
                let _ = fs::File::create_new(&path).and_then(|mut file| file.write_all(&input.bytes(64)));
            }
            2 => {
                let _ = fs::create_dir(&path);
                if path.is_dir() && !path.is_symlink() {
                    at.clone_from(&path);
                }
            }
            3 => drop(std::os::unix::fs::symlink(OsStr::from_bytes(&input.bytes(16)), &path)),
            4 => drop(fs::hard_link(&*last, &path)),
            _ => {
                let kinds = [FileType::Fifo, FileType::Socket, FileType::CharacterDevice, FileType::BlockDevice];
                let kind = kinds[usize::from(input.byte()) % kinds.len()];
                let _ = mknodat(CWD, &path, kind, Mode::empty(), input.number());
            }
        }
        *last = path;
        return;
    }
    let _ = match kind {
        7 => {
            if at != root {
                at.pop();
            }
            return;
        }
        // A hole of any size, and bytes behind it.
        8 => {
            let (bytes, offset) = (input.bytes(4), input.number() >> (input.byte() % 64));
            // Never into a device, nor into a FIFO without a reader.
            if last.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
                let file = fs::OpenOptions::new().write(true).open(&*last);
                let _ = file.and_then(|file| match bytes.as_slice() {
                    [] => file.set_len(offset),
                    bytes => file.write_all_at(bytes, offset),
                });
            }
            return;
        }
        9 => chmodat(CWD, &*last, Mode::from_raw_mode(input.number() as u32 & 0o7777), AtFlags::empty()),
        10 => {
            let (uid, gid) =
                (Uid::from_raw_unchecked(input.number() as u32), Gid::from_raw_unchecked(input.number() as u32));
            chownat(CWD, &*last, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        }
        11 => {
            let time = Timespec {
                tv_sec: input.number().cast_signed(),
                tv_nsec: (input.number() % 1_000_000_000).cast_signed(),
            };
            utimensat(
                CWD,
                &*last,
                &Timestamps { last_access: time, last_modification: time },
                AtFlags::SYMLINK_NOFOLLOW,
            )
        }
        _ => {
            let prefix = ["user.", "trusted.", "security."][usize::from(input.byte()) % 3];
            let Ok(name) = CString::new([prefix.as_bytes(), &input.bytes(1)].concat()) else { return };
            lsetxattr(&*last, name, &input.bytes(256), XattrFlags::empty())
        }
    };
}

fuzz_target!(|bytes: &[u8]| {
    let directory = tempfile::tempdir().expect("cannot make a temporary directory");
    let root = directory.path().join("root");
    fs::create_dir(&root).expect("cannot make the root");
    let mut input = Input(bytes);
    let all = [Compression::Zstd, Compression::Gzip, Compression::Lz4, Compression::None];
    let compression = all[usize::from(input.byte()) % all.len()];
    let (mut at, mut last) = (root.clone(), root.clone());
    while !input.0.is_empty() {
        change(&mut at, &mut last, &root, &mut input);
    }
    let (reader, _writer) = std::io::pipe().expect("cannot make a pipe");
    let mut results = Vec::new();
    for threads in [1, 3] {
        let image = directory.path().join(format!("image{threads}"));
        let options = WriteOptions { compression, level: None, time: 1, latest: u32::MAX, threads, longest_path: 4096 };
        let written = write(&root, &image, options, reader.as_fd(), &mut |_| {});
        results.push(
            written.map(|()| fs::read(&image).expect("cannot read the image")).map_err(|error| error.to_string()),
        );
    }
    assert!(results[0] == results[1], "{:?}", results.iter().map(|result| result.as_ref().err()).collect::<Vec<_>>());
    if let Ok(image) = &results[0] {
        assert!(image.starts_with(b"hsqs") && image.len() % 4096 == 0);
    }
});
