//! Tests that archives of GNU tar and the compressors are unpacked to the same files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::{Case, add_file, archive, compress, failure};

/// Runs a script in an empty directory, archives the directory with GNU tar, unpacks the archive, and returns both
/// listings.
fn round_trip(script: &str, options: &[&str]) -> (Listing, Listing) {
    let case = Case::new();
    let original = case.directory.path().join("original");
    fs::create_dir(&original).unwrap();
    run(Command::new("sh").args(["-ec", script]).current_dir(&original));
    let mut tar = Command::new("tar");
    run(tar.arg("-C").arg(&original).args(["--sort=name", "-cf"]).arg(case.archive()).args(options).arg("."));
    case.unpack().unwrap();
    (listing(&original), listing(&case.root()))
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The description of each file below a directory, by path.
type Listing = BTreeMap<PathBuf, String>;

fn listing(root: &Path) -> Listing {
    fn add(root: &Path, path: &Path, listing: &mut Listing) {
        let meta = fs::symlink_metadata(path).unwrap();
        let kind = meta.file_type();
        let content = if kind.is_symlink() {
            format!("to {:?}", fs::read_link(path).unwrap())
        } else if kind.is_file() {
            format!("{} bytes with data at {:?}, {:x?}", meta.len(), data(path), digest(path))
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

/// Returns the ranges of data between the holes of a file. The number of its blocks is not enough: a filesystem counts
/// the blocks of its own extent tree too, and only once it has written them.
fn data(path: &Path) -> Vec<Range<u64>> {
    let file = File::open(path).unwrap();
    // A range that is not yet written may count as data or as a hole.
    file.sync_all().unwrap();
    let (mut ranges, mut at) = (Vec::new(), 0);
    loop {
        match seek(&file, SeekFrom::Data(at)) {
            Ok(start) => {
                at = seek(&file, SeekFrom::Hole(start)).unwrap();
                ranges.push(start..at);
            }
            Err(Errno::NXIO) => return ranges,
            Err(error) => panic!("{path:?}: {error}"),
        }
    }
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

fn assert_equal(original: &Listing, unpacked: &Listing) {
    for (path, line) in original {
        assert_eq!(Some(line), unpacked.get(path), "{path:?}");
    }
    assert_eq!(original.len(), unpacked.len());
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
fn a_pax_archive_of_gnu_tar_is_unpacked_to_the_same_files() {
    for format in ["0.0", "0.1", "1.0"] {
        let sparse = format!("--sparse-version={format}");
        let options = ["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", &sparse];
        let (original, unpacked) = round_trip(EVERY_TYPE, &options);
        assert!(original.len() > 30);
        assert!(!original[Path::new("ping")].ends_with("{}"), "the test is to have a file with a capability");
        assert_equal(&original, &unpacked);
    }
}

#[test]
fn a_gnu_archive_is_unpacked_with_its_sparse_files_and_long_names() {
    // The format has whole seconds and no attributes, so the original must have none either.
    let script = format!(
        "{EVERY_TYPE}
        find . -exec touch -h -d @-1000000 {{}} +
        setfattr -x user.binary file; setfattr -x user.empty file; setfattr -x user.dir a/b; setfattr -x trusted.node fifo
        setfattr -h -x trusted.link link; setfattr -x 'user.a=b%3D' nothing; setcap -r ping"
    );
    let (original, unpacked) = round_trip(&script, &["--format=gnu", "--sparse"]);
    assert_equal(&original, &unpacked);
}

#[test]
fn every_compression_is_recognised_by_content_and_several_streams_are_one() {
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
