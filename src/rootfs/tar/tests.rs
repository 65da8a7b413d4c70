//! Tests of the unpacking: against GNU tar, against hostile archives, against noise.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_oneof, proptest};
use tar::{Builder, EntryType, Header};

use super::unpack;
use crate::rootfs::RootfsError;

/// A folder with an archive, and beside it what must not be touched.
struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        fs::write(folder.path().join("outside"), "outside").unwrap();
        Self { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn archive(&self) -> PathBuf {
        self.folder.path().join("archive.tar")
    }

    fn unpack(&self) -> Result<(), RootfsError> {
        unpack(&self.archive(), File::open(self.root()).unwrap().as_fd())
    }

    fn unpack_bytes(&self, archive: &[u8]) -> Result<(), RootfsError> {
        fs::write(self.archive(), archive).unwrap();
        let result = self.unpack();
        assert_eq!(fs::read(self.folder.path().join("outside")).unwrap(), b"outside");
        assert_eq!(fs::read_dir(self.folder.path()).unwrap().count(), 3, "something was made outside the root");
        result
    }

    /// Runs a script in a folder of its own; archives that folder with GNU tar and unpacks it; gives both listings.
    fn round_trip(&self, script: &str, options: &[&str]) -> (Listing, Listing) {
        let original = self.folder.path().join("original");
        fs::create_dir(&original).unwrap();
        run(Command::new("sh").args(["-ec", script]).current_dir(&original));
        let mut tar = Command::new("tar");
        run(tar.arg("-C").arg(&original).args(["--sort=name", "-cf"]).arg(self.archive()).args(options).arg("."));
        self.unpack().unwrap();
        (listing(&original), listing(&self.root()))
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// All that is to be said of each file below a folder, by path.
type Listing = BTreeMap<PathBuf, String>;

fn listing(root: &Path) -> Listing {
    fn add(root: &Path, path: &Path, listing: &mut Listing) {
        let meta = fs::symlink_metadata(path).unwrap();
        let kind = meta.file_type();
        let content = if kind.is_symlink() {
            format!("to {:?}", fs::read_link(path).unwrap())
        } else if kind.is_file() {
            // Sizes on disk tell whether holes are kept, which ext4 and the archive agree on in steps of 4 KiB.
            format!("{} bytes on {} sectors, {:x?}", meta.len(), meta.blocks(), digest(path))
        } else if kind.is_char_device() || kind.is_block_device() {
            format!("{kind:?} {:x}", meta.rdev())
        } else {
            format!("{kind:?}")
        };
        let links = if kind.is_dir() { 0 } else { meta.nlink() };
        let (mode, uid, gid) = (meta.mode(), meta.uid(), meta.gid());
        let time = format!("{}.{:09}", meta.mtime(), meta.mtime_nsec());
        let line = format!("{mode:o} {uid}:{gid} {time} {links} links, {content}, {:?}", xattrs(path));
        listing.insert(path.strip_prefix(root).unwrap().to_owned(), line);
        if kind.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                add(root, &entry.unwrap().path(), listing);
            }
        }
    }
    let mut found = Listing::new();
    add(root, root, &mut found);
    found
}

fn digest(path: &Path) -> Vec<u8> {
    use sha2::Digest;
    sha2::Sha256::digest(fs::read(path).unwrap()).to_vec()
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        value[..length].to_vec()
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

const EVERY_TYPE: &str = r#"
    mkdir -p a/b/c empty; chmod 1777 a; chmod 2750 a/b; chown 70000:80000 a/b
    echo content > file; chmod 4755 file; ln file a/hard; ln file a/b/harder
    ln -s file link; ln -s /nowhere/at/all "dangling link"; chown -h 3:4 link; touch -h -d @12345.6789 link
    mkfifo fifo; mknod char c 1 3; mknod block b 259 1048575; chmod 620 char; chown 5:6 block
    : > nothing; chmod 0 nothing; head -c 1000000 /dev/urandom > large; chown 4294967294:4294967294 large
    name=$(printf 'n%.0s' $(seq 255)); echo long > "$name"; mkdir -p "$name.d" 2>/dev/null || mkdir d
    long=$(printf 'l%.0s' $(seq 200)); mkdir -p "$long/$long/$long"; echo deep > "$long/$long/$long/$long"
    ln -s "$long/$long/$long/$long" longlink; ln "$long/$long/$long/$long" longhard
    echo newline > "$(printf 'new\nline')"; echo bytes > "$(printf 'b\377\001')"; echo 'ä' > 'ä'; echo b > 'back\slash'
    printf '\000\n\001=\n' > value; setfattr -n user.binary -v 0x000a013d0a00 file; setfattr -n user.empty file
    setfattr -n user.dir -v x a/b; setfattr -n trusted.node -v 0x0a0a fifo; setfattr -n trusted.link -h -v l link
    setfattr -n 'user.a=b%3D' -v 1 nothing; cp large ping; setcap cap_net_raw+ep ping
    truncate -s 10M sparse; printf start | dd of=sparse conv=notrunc status=none
    printf middle | dd of=sparse bs=1M seek=5 conv=notrunc status=none; truncate -s 3M hole
    i=0; while [ $i -lt 60 ]; do printf x | dd of=holes bs=64k seek=$i conv=notrunc status=none; i=$((i+1)); done
    touch -d @1 a/b/c; touch -d @-1.5 old; touch -d @4000000000.000000001 future; touch -d @1234567890.987654321 .
"#;

#[test]
fn a_pax_archive_of_gnu_tar_comes_back_with_all_that_it_holds() {
    for format in ["0.0", "0.1", "1.0"] {
        let sparse = format!("--sparse-version={format}");
        let options = ["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", &sparse];
        let (original, unpacked) = Case::new().round_trip(EVERY_TYPE, &options);
        assert!(original.len() > 30);
        assert!(!original[Path::new("ping")].ends_with("{}"), "the test is to have a file with a capability");
        assert_equal(&original, &unpacked);
    }
}

fn assert_equal(original: &Listing, unpacked: &Listing) {
    for (path, line) in original {
        assert_eq!(Some(line), unpacked.get(path), "{path:?}");
    }
    assert_eq!(original.len(), unpacked.len());
}

#[test]
fn a_gnu_archive_comes_back_with_its_sparse_files_and_long_names() {
    // The format has whole seconds and no attributes, so the original is to have none either.
    let script = format!(
        "{EVERY_TYPE}
        find . -exec touch -h -d @-1000000 {{}} +
        setfattr -x user.binary file; setfattr -x user.empty file; setfattr -x user.dir a/b; setfattr -x trusted.node fifo
        setfattr -h -x trusted.link link; setfattr -x 'user.a=b%3D' nothing; setcap -r ping"
    );
    let (original, unpacked) = Case::new().round_trip(&script, &["--format=gnu", "--sparse"]);
    assert_equal(&original, &unpacked);
}

#[test]
fn every_compression_is_found_whatever_the_name_and_several_streams_are_one() {
    for program in ["gzip", "xz", "zstd", "bzip2"] {
        let case = Case::new();
        let mut archive = archive(|builder| {
            add_file(builder, "a", &[7; 300_000]);
            add_file(builder, "b", b"b");
        });
        // The second stream starts in the middle of a member.
        let rest = archive.split_off(100_000);
        let mut compressed = compress(program, &archive);
        compressed.extend(compress(program, &rest));
        if matches!(program, "gzip" | "bzip2") {
            compressed.extend(b"trailing garbage");
        }
        case.unpack_bytes(&compressed).unwrap();
        assert_eq!(fs::read(case.root().join("a")).unwrap(), [7; 300_000], "{program}");
        assert_eq!(fs::read(case.root().join("b")).unwrap(), b"b");

        let mut broken = compress(program, &[archive, rest].concat());
        let length = broken.len();
        broken.truncate(length - 6);
        let message = failure(Case::new().unpack_bytes(&broken));
        assert!(message.contains(program), "{program}: {message}");
    }
}

fn compress(program: &str, bytes: &[u8]) -> Vec<u8> {
    use std::process::Stdio;
    let mut child = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn archive(fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    fill(&mut builder);
    builder.into_inner().unwrap()
}

/// Adds a member with a name as it is: the tar crate refuses the names that the tests are about.
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

fn failure(result: Result<(), RootfsError>) -> String {
    let error = result.unwrap_err();
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

#[test]
fn a_name_that_leads_upwards_is_refused() {
    for name in ["../outside", "a/../../outside", "..", "/../outside", "a/.."] {
        let case = Case::new();
        let message = failure(case.unpack_bytes(&archive(|builder| add_file(builder, name, b"x"))));
        assert!(message.contains(name) && message.contains("leads upwards"), "{message}");
    }
}

#[test]
fn an_absolute_name_starts_from_the_root() {
    let case = Case::new();
    case.unpack_bytes(&archive(|builder| add_file(builder, "//etc/./hostile", b"x"))).unwrap();
    assert_eq!(fs::read(case.root().join("etc/hostile")).unwrap(), b"x");
    assert!(!Path::new("/etc/hostile").exists());
}

#[test]
fn symlinks_on_the_way_lead_to_where_they_lead_inside_the_root() {
    let case = Case::new();
    let outside = case.folder.path().to_str().unwrap().to_owned();
    let bytes = archive(|builder| {
        add(builder, "usr/bin/", EntryType::Directory, "", b"");
        add(builder, "bin", EntryType::Symlink, "usr/bin", b"");
        add_file(builder, "bin/ls", b"ls");
        add(builder, "absolute", EntryType::Symlink, "/usr", b"");
        add_file(builder, "absolute/bin/cat", b"cat");
        add(builder, "up", EntryType::Symlink, "../../../..", b"");
        add_file(builder, "up/outside", b"x");
        add(builder, "away", EntryType::Symlink, &outside, b"");
    });
    case.unpack_bytes(&bytes).unwrap();
    assert_eq!(fs::read(case.root().join("usr/bin/ls")).unwrap(), b"ls");
    assert_eq!(fs::read(case.root().join("usr/bin/cat")).unwrap(), b"cat");
    assert_eq!(fs::read(case.root().join("outside")).unwrap(), b"x");

    // The target exists on the host and not in the root.
    let bytes = archive(|builder| {
        add(builder, "away", EntryType::Symlink, &outside, b"");
        add_file(builder, "away/outside", b"x");
    });
    let message = failure(Case::new().unpack_bytes(&bytes));
    assert!(message.contains("away/outside"), "{message}");

    let bytes = archive(|builder| {
        add(builder, "a", EntryType::Symlink, "b", b"");
        add(builder, "b", EntryType::Symlink, "a", b"");
        add_file(builder, "a/x", b"x");
    });
    let message = failure(Case::new().unpack_bytes(&bytes));
    assert!(message.contains("a/x"), "{message}");
}

#[test]
fn a_symlink_is_replaced_and_never_written_through() {
    let case = Case::new();
    let outside = case.folder.path().join("outside").to_str().unwrap().to_owned();
    let bytes = archive(|builder| {
        for name in ["file", "fifo", "char", "dir", "link", "hard"] {
            add(builder, name, EntryType::Symlink, &outside, b"");
        }
        add_file(builder, "file", b"x");
        add(builder, "fifo", EntryType::Fifo, "", b"");
        add(builder, "char", EntryType::Char, "", b"");
        add(builder, "dir", EntryType::Directory, "", b"");
        add(builder, "link", EntryType::Symlink, "elsewhere", b"");
        add(builder, "hard", EntryType::Link, "file", b"");
    });
    case.unpack_bytes(&bytes).unwrap();
    let kind = |name: &str| fs::symlink_metadata(case.root().join(name)).unwrap().file_type();
    assert!(kind("file").is_file() && kind("fifo").is_fifo() && kind("char").is_char_device() && kind("dir").is_dir());
    assert_eq!(fs::read_link(case.root().join("link")).unwrap(), Path::new("elsewhere"));
    assert_eq!(fs::metadata(case.root().join("file")).unwrap().nlink(), 2);
}

#[test]
fn a_hard_link_reaches_nothing_outside_the_root() {
    for target in ["../outside", "/etc/passwd", "etc/passwd", "link/passwd"] {
        let case = Case::new();
        let bytes = archive(|builder| {
            add(builder, "link", EntryType::Symlink, "/etc", b"");
            add(builder, "stolen", EntryType::Link, target, b"");
        });
        let message = failure(case.unpack_bytes(&bytes));
        assert!(message.contains("stolen"), "{message}");
        assert!(!case.root().join("stolen").exists());
    }
}

#[test]
fn a_hard_link_to_a_symlink_is_another_name_of_the_symlink() {
    let case = Case::new();
    let bytes = archive(|builder| {
        add(builder, "link", EntryType::Symlink, "/etc/passwd", b"");
        add(builder, "hard", EntryType::Link, "link", b"");
        add(builder, "hard", EntryType::Link, "hard", b"");
    });
    case.unpack_bytes(&bytes).unwrap();
    assert_eq!(fs::read_link(case.root().join("hard")).unwrap(), Path::new("/etc/passwd"));
}

#[test]
fn a_later_entry_replaces_an_earlier_one_but_no_folder_with_something_in_it() {
    let case = Case::new();
    let bytes = archive(|builder| {
        add_file(builder, "a", b"first");
        add(builder, "b", EntryType::Link, "a", b"");
        add_file(builder, "a", b"second");
        add(builder, "c/", EntryType::Directory, "", b"");
        add_file(builder, "c", b"file for folder");
        add_file(builder, "d", b"");
        add_file(builder, "d/e", b"");
    });
    let message = failure(case.unpack_bytes(&bytes));
    assert!(message.contains("d/e"), "{message}");
    assert_eq!(fs::read(case.root().join("a")).unwrap(), b"second");
    assert_eq!(fs::read(case.root().join("b")).unwrap(), b"first");
    assert_eq!(fs::read(case.root().join("c")).unwrap(), b"file for folder");

    let bytes = archive(|builder| {
        add_file(builder, "c/d", b"");
        add_file(builder, "c", b"");
    });
    let message = failure(Case::new().unpack_bytes(&bytes));
    assert!(message.contains("replace a folder that is not empty"), "{message}");
}

#[test]
fn a_folder_s_cached_place_is_not_used_after_it_was_replaced() {
    let case = Case::new();
    let bytes = archive(|builder| {
        add(builder, "usr/", EntryType::Directory, "", b"");
        add(builder, "bin", EntryType::Symlink, "usr", b"");
        add_file(builder, "bin/a", b"");
        add(builder, "bin/", EntryType::Directory, "", b"");
        add_file(builder, "bin/b", b"");
    });
    case.unpack_bytes(&bytes).unwrap();
    assert!(case.root().join("usr/a").exists() && case.root().join("bin/b").exists());
    assert!(!case.root().join("usr/b").exists());
}

#[test]
fn what_no_entry_says_is_of_root_and_from_1970_so_that_two_unpackings_are_equal() {
    let case = Case::new();
    case.unpack_bytes(&archive(|builder| add_file(builder, "a/b/c", b""))).unwrap();
    for implied in ["", "a", "a/b"] {
        let meta = fs::metadata(case.root().join(implied)).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.mtime(), meta.mtime_nsec()), (0o755, 0, 0, 0));
    }
    assert_eq!(fs::metadata(case.root().join("a/b/c")).unwrap().mtime(), 7);
}

#[test]
fn deep_nesting_is_unpacked_or_refused_and_never_a_crash() {
    let case = Case::new();
    let name = "d/".repeat(2000) + "file";
    case.unpack_bytes(&pax(&[("path", name.as_bytes())], |builder| add_file(builder, "x", b"deep"))).unwrap();
    assert_eq!(fs::read(case.root().join(&name)).unwrap(), b"deep");
    let name = "d/".repeat(100_000) + "file";
    let message = failure(Case::new().unpack_bytes(&pax(&[("path", name.as_bytes())], |b| add_file(b, "x", b""))));
    assert!(message.to_lowercase().contains("name too long"), "{}", &message[message.len() - 200..]);
}

fn pax(records: &[(&str, &[u8])], fill: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
    archive(|builder| {
        builder.append_pax_extensions(records.iter().copied()).unwrap();
        fill(builder);
    })
}

#[test]
fn entries_that_cannot_be_right_are_refused_by_name() {
    let refused = |records: &[(&str, &[u8])], kind: EntryType, expected: &str| {
        let message =
            failure(Case::new().unpack_bytes(&pax(records, |builder| add(builder, "the-entry", kind, "", b""))));
        assert!(message.contains("the-entry") && message.contains(expected), "{message}");
    };
    refused(&[("uid", b"4294967295")], EntryType::Regular, "no file can have");
    refused(&[("gid", b"99999999999")], EntryType::Regular, "does not fit in 32 bits");
    refused(&[("mtime", b"yesterday")], EntryType::Regular, "is no time");
    refused(&[("size", b"99999999999999999999")], EntryType::Regular, "too large");
    refused(&[("size", b"1000000")], EntryType::Regular, "cut off in its content");
    refused(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")], EntryType::Directory, "overlayfs");
    refused(&[("SCHILY.xattr.nonsense", b"y")], EntryType::Regular, "set the attribute nonsense");
    refused(&[("SCHILY.devmajor", b"0"), ("SCHILY.devminor", b"0")], EntryType::Char, "deleted file");
    refused(&[("SCHILY.devmajor", b"4096")], EntryType::Char, "device number is too large");
    refused(&[("GNU.sparse.map", b"0,5"), ("GNU.sparse.size", b"9")], EntryType::Regular, "does not match");
    refused(&[("GNU.sparse.map", b""), ("GNU.sparse.size", b"9")], EntryType::Regular, "odd number");
    refused(&[("GNU.sparse.major", b"2"), ("GNU.sparse.size", b"9")], EntryType::Regular, "not known");
    refused(&[("GNU.sparse.major", b"1"), ("GNU.sparse.size", b"9")], EntryType::Regular, "sparse map is cut off");
    refused(&[], EntryType::new(b'M'), "volume");
    refused(&[], EntryType::new(b'?'), "type `?`");
    refused(&[("path", b"the-entry\0/etc")], EntryType::Regular, "NUL");
    refused(&[("path", &[b"the-entry/", &[b'n'; 256][..]].concat())], EntryType::Regular, "name too long");
}

#[test]
fn the_root_can_only_be_a_folder() {
    for kind in [EntryType::Regular, EntryType::Symlink, EntryType::Fifo, EntryType::Link] {
        let message = failure(Case::new().unpack_bytes(&archive(|builder| add(builder, ".", kind, "x", b""))));
        assert!(message.contains("the root"), "{message}");
    }
}

#[test]
fn times_out_of_range_are_clamped() {
    let case = Case::new();
    let records: [(&str, &[u8]); 1] = [("mtime", b"-99999999999.5")];
    case.unpack_bytes(&pax(&records, |builder| add_file(builder, "a", b""))).unwrap();
    assert_eq!(fs::metadata(case.root().join("a")).unwrap().mtime(), i64::from(i32::MIN));
    let case = Case::new();
    let records: [(&str, &[u8]); 1] = [("mtime", b"123456789012345678901234567890")];
    case.unpack_bytes(&pax(&records, |builder| add_file(builder, "a", b""))).unwrap();
    assert_eq!(fs::metadata(case.root().join("a")).unwrap().mtime(), i64::from(u32::MAX));
}

#[test]
fn global_headers_hold_for_all_that_follows_and_local_ones_override_them() {
    let case = Case::new();
    let bytes = archive(|builder| {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XGlobalHeader);
        let records = b"11 mtime=5\n12 uid=1234\n";
        header.set_size(records.len() as u64);
        header.set_cksum();
        builder.append(&header, &records[..]).unwrap();
        add_file(builder, "a", b"");
        builder.append_pax_extensions([("uid", &b"99"[..])]).unwrap();
        add_file(builder, "b", b"");
    });
    case.unpack_bytes(&bytes).unwrap_or_else(|error| panic!("{error}"));
    let meta = |name: &str| fs::metadata(case.root().join(name)).unwrap();
    assert_eq!((meta("a").uid(), meta("a").mtime(), meta("b").uid(), meta("b").mtime()), (1234, 5, 99, 5));
}

#[test]
fn what_is_no_archive_is_told_by_its_first_bytes() {
    let told = |bytes: &[u8], expected: &str| {
        let message = failure(Case::new().unpack_bytes(bytes));
        assert!(message.contains(expected), "{message}");
    };
    told(b"", "it is empty");
    told(b"PK\x03\x04", "`50 4b 03 04`, which looks like a zip archive");
    told(b"hsqs123", "use `squashfs`");
    told(&[0x42; 4096], "starts with `42 42 42 42 42 42 42 42`");
    told(&compress("gzip", b"text"), "cut off in the header at its beginning");
    told(&compress("gzip", &[b'x'; 512]), "wrong checksum follows at its beginning");
    let case = Case::new();
    assert!(matches!(case.unpack(), Err(RootfsError::Read { .. })));
    let folder = unpack(&case.root(), File::open(case.root()).unwrap().as_fd());
    assert!(failure(folder).contains("not a regular file"));
}

#[test]
fn what_follows_the_end_mark_is_passed_over() {
    let case = Case::new();
    let mut bytes = archive(|builder| add_file(builder, "a", b"a"));
    bytes.extend_from_slice(&archive(|builder| add_file(builder, "b", b"b")));
    bytes.extend_from_slice(b"garbage");
    case.unpack_bytes(&bytes).unwrap();
    assert!(case.root().join("a").exists() && !case.root().join("b").exists());
}

/// A small archive of many kinds of members, and how many of its bytes come before the end mark.
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
            // With the checksum mended, so that the change is looked at.
            let block = at / 512 * 512;
            if bytes[block + 257..block + 262] == *b"ustar" {
                let mut header = Header::from_byte_slice(&bytes[block..block + 512]).clone();
                header.set_cksum();
                bytes[block..block + 512].copy_from_slice(header.as_bytes());
            }
        }
        let case = Case::new();
        // Both outcomes are right; what is checked is that nothing outside changed.
        let _ = case.unpack_bytes(&bytes);
        prop_assert!(fs::symlink_metadata(case.root()).unwrap().is_dir());
    }
}

#[test]
fn a_name_of_any_bytes_is_kept() {
    let case = Case::new();
    let name = [b"dir/\xff\n\\", &[b'n'; 252][..]].concat();
    case.unpack_bytes(&pax(&[("path", &name)], |builder| add_file(builder, "x", b"y"))).unwrap();
    assert_eq!(fs::read(case.root().join(OsStr::from_bytes(&name))).unwrap(), b"y");
}
