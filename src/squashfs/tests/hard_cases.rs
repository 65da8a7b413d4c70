//! Trees that go to the limits of the format, and directories that change meanwhile.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use super::super::data::MAX_BYTES;
use super::super::{BLOCK_SIZE, WriteError, WriteOptions, WriteProgress, write};
use super::{ALL, folder, found, image, mounted, options, try_image, unpacked};
use crate::model::Compression;

#[test]
fn a_directory_of_many_long_names_is_listed_and_each_name_is_found() {
    const MANY: usize = 6000;
    let folder = folder();
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("many")).unwrap();
    let name = |n: usize| format!("{n:05}{}", "-long".repeat(n % 40));
    for n in 0..MANY {
        File::create(root.join("many").join(name(n))).unwrap();
    }
    for compression in [Compression::Zstd, Compression::None] {
        let image = image(&root, &format!("{compression:?}"), options(compression));
        let mount = mounted(&image);
        let many = mount.path.join("many");
        assert_eq!(fs::read_dir(&many).unwrap().count(), MANY);
        for n in 0..MANY {
            assert!(many.join(name(n)).symlink_metadata().is_ok(), "{n}");
        }
        assert!(many.join("00000-").symlink_metadata().is_err() && many.join("zz").symlink_metadata().is_err());
        let inodes: std::collections::HashSet<u64> =
            fs::read_dir(&many).unwrap().map(|entry| entry.unwrap().metadata().unwrap().ino()).collect();
        assert_eq!(inodes.len(), MANY);
        assert!(inodes.iter().all(|inode| (1..=MANY as u64 + 2).contains(inode)));
    }
}

#[test]
fn more_subdirectories_than_inode_numbers_of_16_bits_tell_apart_are_found() {
    let folder = folder();
    let root = folder.path().join("root");
    for outer in 0..3 {
        let outer = root.join(format!("{outer}"));
        fs::create_dir_all(&outer).unwrap();
        for inner in 0..14_000 {
            fs::create_dir(outer.join(format!("{inner}"))).unwrap();
        }
    }
    // Its second name is far from its inode.
    fs::write(root.join("0/first"), "linked").unwrap();
    fs::hard_link(root.join("0/first"), root.join("2/second")).unwrap();
    let image = image(&root, "image", options(Compression::Zstd));
    let mount = mounted(&image);
    assert_eq!(fs::read_to_string(mount.path.join("2/second")).unwrap(), "linked");
    assert_eq!(fs::metadata(mount.path.join("1")).unwrap().nlink(), 14_002);
    for outer in 0..3 {
        assert_eq!(fs::read_dir(mount.path.join(format!("{outer}"))).unwrap().count(), 14_000 + (outer + 1) % 2);
        assert!(mount.path.join(format!("{outer}/13999")).is_dir());
    }
}

#[test]
fn a_file_larger_than_4_gib_keeps_its_size_its_holes_and_what_is_between() {
    const SIZE: u64 = 9 << 30;
    let folder = folder();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let file = File::create(root.join("large")).unwrap();
    file.set_len(SIZE).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 5 << 30).unwrap();
    file.write_all_at(b"end", SIZE - 3).unwrap();
    for compression in ALL {
        let image = image(&root, &format!("{compression:?}"), options(compression));
        assert!(fs::metadata(&image).unwrap().size() < 1 << 20);
        let mount = mounted(&image);
        let mut large = File::open(mount.path.join("large")).unwrap();
        let metadata = large.metadata().unwrap();
        assert_eq!((metadata.size(), metadata.blocks()), (SIZE, 3 * BLOCK_SIZE as u64 / 512));
        for (at, text) in [(0, "begin"), (5 << 30, "middle"), (SIZE - 3, "end")] {
            large.seek(SeekFrom::Start(at)).unwrap();
            let mut bytes = vec![0; text.len()];
            large.read_exact(&mut bytes).unwrap();
            assert_eq!(bytes, text.as_bytes(), "{compression:?}");
        }
    }
}

#[test]
fn the_longest_hole_is_written_at_once_and_a_longer_one_is_refused_by_name() {
    let folder = folder();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    File::create(root.join("hole")).unwrap().set_len(1 << 40).unwrap();
    let image = image(&root, "image", options(Compression::Zstd));
    let hole = fs::metadata(mounted(&image).path.join("hole")).unwrap();
    assert_eq!((hole.size(), hole.blocks()), (1 << 40, 0));
    File::create(root.join("longer")).unwrap().set_len(MAX_BYTES + 1).unwrap();
    let error = try_image(&root, &folder.path().join("refused"), options(Compression::Zstd)).unwrap_err();
    assert!(matches!(&error, WriteError::FileTooLarge { path, .. } if path.to_str() == Some("/longer")), "{error}");
    for n in 0..4 {
        File::create(root.join(format!("more{n}"))).unwrap().set_len(MAX_BYTES).unwrap();
    }
    let error = try_image(&root, &folder.path().join("refused"), options(Compression::Zstd)).unwrap_err();
    assert!(matches!(&error, WriteError::TooMany { what: "bytes of files, holes included", .. }), "{error}");
}

#[test]
fn a_tree_deeper_than_a_path_can_tell_is_read_by_the_kernel() {
    const DEPTH: usize = 600;
    let folder = folder();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let open = |above: &File, name: &str| {
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NOFOLLOW;
        File::from(rustix::fs::openat(above, name, flags, rustix::fs::Mode::empty()).unwrap())
    };
    let name = "a-name-of-20-letters";
    let mut inner = File::open(&root).unwrap();
    for _ in 0..DEPTH {
        rustix::fs::mkdirat(&inner, name, rustix::fs::Mode::RWXU).unwrap();
        inner = open(&inner, name);
    }
    rustix::fs::symlinkat("x".repeat(4095), &inner, "link").unwrap();
    let image = image(&root, "image", options(Compression::Zstd));
    let mount = mounted(&image);
    let mut inner = File::open(&mount.path).unwrap();
    for _ in 0..DEPTH {
        inner = open(&inner, name);
    }
    assert_eq!(rustix::fs::readlinkat(&inner, "link", Vec::new()).unwrap().as_bytes().len(), 4095);
    let options = WriteOptions { longest_path: 4095, ..options(Compression::Zstd) };
    let error = try_image(&root, &folder.path().join("refused"), options).unwrap_err();
    assert!(error.to_string().starts_with("in /a-name-of-20-letters/a-"), "{error}");
    assert!(error.to_string().ends_with("…: a path is longer than 4095 bytes, and no program can open it"), "{error}");
    crate::fs::remove_tree::remove_tree(&root).unwrap();
}

#[test]
fn an_empty_directory_is_an_image_in_each_compression() {
    for compression in ALL {
        let folder = folder();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        let image = image(&root, "image", options(compression));
        assert_eq!(fs::metadata(&image).unwrap().size(), 4096);
        found::assert_same(&found::tree(&root), &found::tree(&mounted(&image).path), "the kernel reads");
        found::assert_same(&found::tree(&root), &found::tree(&unpacked(&image)), "unsquashfs reads");
    }
}

#[test]
fn the_last_file_is_a_copy_and_nothing_of_it_is_left_behind_the_image() {
    let folder = folder();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let mut noise = File::open("/dev/urandom").unwrap();
    let mut bytes = vec![0; 40 * BLOCK_SIZE];
    noise.read_exact(&mut bytes).unwrap();
    for name in ["a", "b"] {
        fs::write(root.join(name), &bytes).unwrap();
    }
    let image = image(&root, "image", options(Compression::Zstd));
    assert!(fs::metadata(&image).unwrap().size() < bytes.len() as u64 + 8192);
    assert!(fs::read(mounted(&image).path.join("b")).unwrap() == bytes);
}

#[test]
fn what_fills_no_block_is_read_whole_behind_blocks_and_holes() {
    let folder = folder();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let text: Vec<u8> = (0..3 * BLOCK_SIZE).map(|at| (at / 5 % 251) as u8).collect();
    let zeros = vec![0; BLOCK_SIZE];
    let contents = [
        ("blocks", text[..2 * BLOCK_SIZE].to_vec()),
        ("one-more", text[..=2 * BLOCK_SIZE].to_vec()),
        ("one-less", text[..2 * BLOCK_SIZE - 1].to_vec()),
        ("zeros-behind", [&text[..BLOCK_SIZE], &zeros[..100]].concat()),
        ("more-zeros-behind", [&text[..BLOCK_SIZE], &zeros[..200]].concat()),
        ("zeros-before", [&zeros[..], &text[..100]].concat()),
        ("equal", text[..=2 * BLOCK_SIZE].to_vec()),
        ("small-and-equal-to-an-end", text[2 * BLOCK_SIZE..=2 * BLOCK_SIZE].to_vec()),
    ];
    for (name, bytes) in &contents {
        fs::write(root.join(name), bytes).unwrap();
    }
    let sparse = File::create(root.join("sparse")).unwrap();
    sparse.set_len(5 * BLOCK_SIZE as u64 + 50).unwrap();
    sparse.write_all_at(b"end", 5 * BLOCK_SIZE as u64 + 47).unwrap();
    fs::hard_link(root.join("one-more"), root.join("zz-link")).unwrap();
    for compression in ALL {
        let image = image(&root, &format!("{compression:?}"), options(compression));
        found::assert_same(&found::tree(&root), &found::tree(&mounted(&image).path), "the kernel reads");
        found::assert_same(&found::tree(&root), &found::tree(&unpacked(&image)), "unsquashfs reads");
    }
    // Five full blocks: two of "blocks", and one each of "one-less" and the files with zeros behind, for only whole lists of
    // blocks are shared. Of the ends a whole block but one byte and some 150 bytes, and the tables.
    let none = fs::metadata(folder.path().join("None")).unwrap().size();
    assert!((6 * BLOCK_SIZE as u64..7 * BLOCK_SIZE as u64).contains(&none), "{none}");
}

#[test]
fn the_holes_of_a_file_with_an_end_are_found_whatever_inode_comes_next() {
    let folder = folder();
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("sticky")).unwrap();
    let bytes = vec![b'x'; BLOCK_SIZE + 100];
    for (name, mode) in [("a", 0o644), ("b", 0o4755), ("c", 0o2755), ("d", 0o1644), ("e", 0o644), ("sticky/f", 0o644)] {
        fs::write(root.join(name), &bytes).unwrap();
        fs::set_permissions(root.join(name), Permissions::from_mode(mode)).unwrap();
    }
    for directory in [root.join("sticky"), root.clone()] {
        fs::set_permissions(directory, Permissions::from_mode(0o1777)).unwrap();
    }
    let image = image(&root, "image", options(Compression::Zstd));
    found::assert_same(&found::tree(&root), &found::tree(&mounted(&image).path), "the kernel reads");
}

#[test]
fn links_in_the_tree_lead_nowhere() {
    let folder = folder();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::create_dir(folder.path().join("outside")).unwrap();
    fs::write(folder.path().join("outside/secret"), "secret").unwrap();
    symlink("../outside", root.join("link")).unwrap();
    symlink("/proc/self/root", root.join("root")).unwrap();
    let image = image(&root, "image", options(Compression::None));
    assert!(!fs::read(&image).unwrap().windows(6).any(|bytes| bytes == b"secret"));
}

#[test]
fn an_interrupt_ends_it_between_two_blocks() {
    let folder = folder();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("file"), vec![5; 20 * BLOCK_SIZE]).unwrap();
    let (reader, mut writer) = io::pipe().unwrap();
    let mut reported = Vec::new();
    let mut progress = |progress: WriteProgress| {
        reported.push(progress.read);
        if reported.len() == 3 {
            writer.write_all(b"x").unwrap();
        }
    };
    let image = folder.path().join("image");
    let error = write(&root, &image, options(Compression::Zstd), reader.as_fd(), &mut progress).unwrap_err();
    assert!(matches!(error, WriteError::Interrupted), "{error}");
    assert_eq!(reported, [1, 2, 3].map(|blocks| blocks * BLOCK_SIZE as u64));
}

#[test]
fn an_image_without_room_is_an_error_that_says_so() {
    let folder = folder();
    let root = folder.path().join("root");
    fs::create_dir(&root).unwrap();
    let error = try_image(&root, &root.join("nowhere/image"), options(Compression::Zstd)).unwrap_err();
    assert!(matches!(error, WriteError::File(_)));
    let error = WriteError::File(io::Error::from_raw_os_error(libc::ENOSPC));
    assert_eq!(error.hint().unwrap(), "make room where the store is, as with `runner store gc`");
}
