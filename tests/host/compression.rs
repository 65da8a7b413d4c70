//! Compressors, levels, and the times in an image.

use std::fs;

use crate::namespace::in_private_namespace;
use crate::project::Project;
use crate::tree::Tree;

/// 1980-01-01, the default epoch.
const EPOCH: i64 = 315_532_800;

/// A compressor as a manifest names it, and its number in the superblock.
const COMPRESSIONS: [(&str, u16); 9] = [
    ("compression: none", 1),
    ("compression: gzip", 1),
    ("compression: gzip, level: 1", 1),
    ("compression: gzip, level: 9", 1),
    ("compression: xz", 4),
    ("compression: lz4", 5),
    ("compression: zstd", 6),
    ("compression: zstd, level: 1", 6),
    ("compression: zstd, level: 19", 6),
];

fn u16_at(image: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([image[at], image[at + 1]])
}

#[test]
fn images_of_every_compression_contain_the_same_tree() {
    let mut manifest = String::from(
        "version: 1
containers: { base: { rootfs: { programs: [/bin/sh, /usr/bin/setfattr, /bin/ln, /bin/truncate] } } }
steps:
  - name: write
    container: base
    run: echo one > /one; setfattr -n user.a -v b /one; ln /one /two; truncate -s 3M /holes
",
    );
    for (index, (compression, _)) in COMPRESSIONS.iter().enumerate() {
        let snapshot = format!("{{ mode: full, output: {index}.squashfs, {compression} }}");
        manifest.push_str(&format!("  - {{ name: s{index}, container: base, snapshot: {snapshot} }}\n"));
    }
    let project = Project::new(&manifest);
    project.apply();
    let path = |index: usize| project.path(&format!("{index}.squashfs"));
    let trees = in_private_namespace(|mounts| {
        (0..COMPRESSIONS.len()).map(|index| Tree::read(&mounts.image(&path(index)))).collect::<Vec<_>>()
    });
    let images: Vec<Vec<u8>> = (0..COMPRESSIONS.len()).map(|index| fs::read(path(index)).unwrap()).collect();
    for (index, (compression, number)) in COMPRESSIONS.iter().enumerate() {
        assert_eq!(trees[index].differences(&trees[0], i64::MAX), Vec::<String>::new(), "{compression}");
        assert_eq!(u16_at(&images[index], 20), *number, "{compression}");
    }
    assert!(trees[0].0.len() > 5 && trees[0].get("two").links == Some(2));
    let size = |index: usize| images[index].len();
    let sizes: Vec<usize> = (0..COMPRESSIONS.len()).map(size).collect();
    assert!((1..COMPRESSIONS.len()).all(|index| size(index) < size(0)), "{sizes:?}");
    assert!(size(3) < size(2) && size(1) == size(3), "gzip's own level is 9: {sizes:?}");
    assert!(size(8) < size(6) && size(6) < size(7), "zstd's level is 3: {sizes:?}");
}

const TIMES: &str = "
version: 1
containers: { base: { rootfs: { programs: [/bin/sh, /bin/touch, /bin/mkdir] } } }
steps:
  - name: write
    container: base
    run: |
      mkdir /folder; echo > /folder/new; touch -d @4000000000 /future; touch -d @315532801 /after; touch -d @315532800 /at
      touch -d @315532799 /before; touch -d @0 /first; touch -d 1960-01-01 /ancient; touch -d @100.9 /fraction; touch -d @5 /
  - { name: layer, container: base, snapshot: { output: layer.squashfs } }
  - { name: full, container: base, snapshot: { mode: full, output: full.squashfs } }
";

#[test]
fn times_in_an_image_after_the_default_epoch_are_clamped_and_older_ones_stay() {
    let project = Project::new(TIMES);
    project.apply();
    for image in ["layer.squashfs", "full.squashfs"] {
        let path = project.path(image);
        let tree = in_private_namespace(|mounts| Tree::read(&mounts.image(&path)));
        for (path, entry) in &tree.0 {
            assert!((0..=EPOCH).contains(&entry.modified), "{image}: {path:?}: {}", entry.modified);
        }
        let times = ["folder", "folder/new", "future", "after", "at", "before", "first", "ancient", "fraction", ""];
        let times = times.map(|path| tree.get(path).modified);
        assert_eq!(times, [EPOCH, EPOCH, EPOCH, EPOCH, EPOCH, EPOCH - 1, 0, 0, 100, 5], "{image}");
        let superblock = fs::read(&path).unwrap();
        assert_eq!(superblock[8..12], u32::try_from(EPOCH).unwrap().to_le_bytes(), "{image}: its own time");
    }
}
