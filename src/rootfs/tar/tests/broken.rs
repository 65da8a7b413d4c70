//! Tests of truncated and changed archives, and of files that are not archives: they are refused and change nothing
//! outside.

use std::fs;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::AtomicBool;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_oneof, proptest};
use tar::{EntryType, Header};

use super::{Case, add, add_file, archive, compress, failure};
use crate::rootfs::tar::{Bounds, UnpackRoom, unpack};

/// Returns a small archive of many kinds of members, and the number of its bytes before the end mark.
fn sample() -> (Vec<u8>, usize) {
    let bytes = archive(|builder| {
        add(builder, "dir/", EntryType::Directory, "", b"");
        add_file(builder, "dir/file", &[1; 700]);
        builder.append_pax_extensions([("path", &b"long\nname"[..]), ("SCHILY.xattr.user.a", b"\n\0")]).unwrap();
        add_file(builder, "x", b"y");
        builder.append_pax_extensions([("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.realsize", b"9000")]).unwrap();
        add_file(builder, "sparse", &[&b"1\n4096\n3\n"[..], &[0; 503], b"abc"].concat());
        add(builder, "link", EntryType::Symlink, "dir", b"");
        add(builder, "hard", EntryType::Link, "dir/file", b"");
        add(builder, "char", EntryType::Char, "", b"");
    });
    let end = bytes.len() - 1024;
    (bytes, end)
}

#[test]
fn an_archive_cut_off_anywhere_is_an_error_that_names_the_entry() {
    let (bytes, end) = sample();
    Case::new().unpack_bytes(&bytes).unwrap();
    for cut in (1..=end).step_by(37).chain([512, 1024, 1536, end]) {
        let message = failure(Case::new().unpack_bytes(&bytes[..cut]));
        if cut >= 1024 {
            assert!(message.contains("cut off"), "{cut}: {message}");
        }
        if cut >= 2048 {
            let names = ["dir/file", "long\\nname", "sparse", "link", "hard", "char"];
            assert!(names.iter().any(|name| message.contains(name)), "{cut}: {message}");
        }
    }
}

#[test]
fn a_file_that_is_not_an_archive_is_described_by_its_first_bytes() {
    let check = |bytes: &[u8], expected: &str| {
        let message = failure(Case::new().unpack_bytes(bytes));
        assert!(message.contains(expected), "{message}");
    };
    check(b"", "it is empty");
    check(b"PK\x03\x04", "`50 4b 03 04`, which looks like a zip archive");
    check(b"hsqs123", "use `squashfs`");
    check(&[0x42; 4096], "starts with `42 42 42 42 42 42 42 42`");
    check(&compress("gzip", b"text"), "cut off in the header at its beginning");
    check(&compress("gzip", &[b'x'; 512]), "wrong checksum follows at its beginning");
    let case = Case::new();
    let directory = unpack(
        &case.root(),
        File::open(case.root()).unwrap().as_fd(),
        File::open(case.root()).unwrap().as_fd(),
        &Bounds::new(&AtomicBool::new(false), UnpackRoom::ALL),
    );
    assert!(failure(directory).contains("not a regular file"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn noise_is_refused_and_never_a_panic(
        magic in prop_oneof![
            Just(&b""[..]), Just(&b"\x1f\x8b\x08"[..]), Just(&b"\xfd7zXZ\0"[..]), Just(&b"\x28\xb5\x2f\xfd"[..]),
            Just(&b"BZh91AY&SY"[..]),
        ],
        noise in proptest::collection::vec(any::<u8>(), 0..3000),
    ) {
        prop_assert!(Case::new().unpack_bytes(&[magic, &noise].concat()).is_err());
    }

    #[test]
    fn an_archive_with_bytes_changed_never_panics_and_never_leaves_the_root(
        changes in proptest::collection::vec((0_usize..7000, any::<u8>().prop_map(|byte| byte % 128)), 1..8),
    ) {
        let (mut bytes, end) = sample();
        for (at, byte) in changes {
            let at = at % end;
            bytes[at] = byte;
            // The checksum is corrected, so that the change is parsed.
            let block = at / 512 * 512;
            if bytes[block + 257..block + 262] == *b"ustar" {
                let mut header = Header::from_byte_slice(&bytes[block..block + 512]).clone();
                header.set_cksum();
                bytes[block..block + 512].copy_from_slice(header.as_bytes());
            }
        }
        let case = Case::new();
        // Both outcomes are correct; the test checks that nothing outside changed.
        let _ = case.unpack_bytes(&bytes);
        prop_assert!(fs::symlink_metadata(case.root()).unwrap().is_dir());
    }
}
