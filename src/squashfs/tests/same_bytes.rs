//! The same directory is the same bytes, however many threads there are, in whatever order it was made.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::super::{BLOCK_SIZE, WriteOptions};
use super::{ALL, folder, image, options};
use crate::model::Compression;

/// Files of all sizes, some of them equal, made in one order or the other.
fn make(root: &Path, is_backwards: bool) {
    let mut names: Vec<usize> = (0..60).collect();
    if is_backwards {
        names.reverse();
    }
    for name in names {
        let directory = root.join(format!("{}", name % 7));
        fs::create_dir_all(&directory).unwrap();
        let length = [100, 5000, BLOCK_SIZE, 3 * BLOCK_SIZE + 17, BLOCK_SIZE - 1][name % 5];
        let seed = name % 20;
        let bytes: Vec<u8> = (0..length).map(|at| ((at / 3 + seed) * (at % 11 + seed) % 251) as u8).collect();
        fs::write(directory.join(format!("file{name}")), bytes).unwrap();
    }
    for directory in 0..7 {
        for name in fs::read_dir(root.join(format!("{directory}"))).unwrap() {
            let file = fs::File::open(name.unwrap().path()).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
    }
}

#[test]
fn any_number_of_threads_and_any_order_of_making_give_the_same_bytes() {
    let folder = folder();
    let roots = ["one", "two"].map(|name| folder.path().join(name));
    for (root, is_backwards) in roots.iter().zip([false, true]) {
        fs::create_dir(root).unwrap();
        make(root, is_backwards);
    }
    let leveled = [(Compression::Zstd, Some(9)), (Compression::Zstd, Some(1)), (Compression::Gzip, Some(2))];
    for (compression, level) in ALL.map(|compression| (compression, None)).into_iter().chain(leveled) {
        let with = |root: &Path, threads| {
            let options = WriteOptions { level, threads, latest: 5, ..options(compression) };
            let image = image(root, "image", options);
            let bytes = fs::read(&image).unwrap();
            fs::remove_file(image).unwrap();
            bytes
        };
        let one = with(&roots[0], 1);
        assert_eq!(one.len() % 4096, 0);
        for (root, threads) in [(0, 2), (0, 8), (1, 1), (1, 8)] {
            assert!(with(&roots[root], threads) == one, "{compression:?} {level:?} {root} {threads}");
        }
    }
}

#[test]
fn equal_files_take_no_room_and_holes_take_none() {
    let folder = folder();
    let sizes = [1, 20].map(|copies| {
        let root = folder.path().join(format!("{copies}"));
        fs::create_dir(&root).unwrap();
        for copy in 0..copies {
            fs::write(root.join(format!("large{copy}")), [copy as u8 / 64, 7].repeat(BLOCK_SIZE)).unwrap();
            fs::write(root.join(format!("small{copy}")), [9; 3000]).unwrap();
            let hole = fs::File::create(root.join(format!("hole{copy}"))).unwrap();
            hole.set_len(100 << 20).unwrap();
        }
        let image = image(&root, &format!("{copies}.image"), options(Compression::None));
        fs::metadata(image).unwrap().size()
    });
    // The inodes and the lists of the holes' blocks, which are not compressed.
    assert!(sizes[1] - sizes[0] < 20 * (4 * 800 + 500), "{sizes:?}");
}
