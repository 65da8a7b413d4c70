//! Fuzzes the unpacking of tar archives: no archive changes anything outside the root, and none causes a panic.
#![no_main]

use std::fs;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use runner::rootfs::{Bounds, UnpackRoom, unpack};
use rustix::fs::{Mode, OFlags};

const BLOCK: usize = 512;
/// The checksum of a header, see tar(5).
const CHECKSUM: std::ops::Range<usize> = 148..156;
const MAGIC: std::ops::Range<usize> = 257..262;

fuzz_target!(|bytes: &[u8]| {
    let directory = tempfile::tempdir().expect("cannot make a temporary directory");
    let (archive, root) = (directory.path().join("archive.tar"), directory.path().join("root"));
    fs::write(&archive, bytes).expect("cannot write the archive");
    fs::create_dir(&root).expect("cannot make the root");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let to = rustix::fs::open(&root, flags, Mode::empty()).expect("cannot open the root");
    let file = fs::File::open(&archive).expect("cannot open the archive");
    if let Err(error) =
        unpack(&archive, file.as_fd(), to.as_fd(), &Bounds::new(&AtomicBool::new(false), UnpackRoom::ALL))
    {
        assert!(!error.to_string().is_empty());
    }
    let entries = fs::read_dir(directory.path()).expect("cannot list the temporary directory");
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(names, ["archive.tar", "root"]);
    assert_eq!(fs::read(&archive).expect("cannot read the archive again"), bytes);
});

// A changed header needs a new checksum: otherwise the parser would refuse nearly every input there.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, _seed: u32| {
    let size = fuzzer_mutate(data, size, max_size);
    for block in data[..size].chunks_exact_mut(BLOCK).filter(|block| &block[MAGIC] == b"ustar") {
        block[CHECKSUM].fill(b' ');
        let sum: u32 = block.iter().copied().map(u32::from).sum();
        block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    size
});
