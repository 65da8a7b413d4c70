//! The writer's part of a cache key: the version of its output, and the compressor that is linked in.

use crate::model::Compression;

/// The version of what the writer writes. To be raised with each change of the bytes of any image.
const FORMAT: u32 = 3;

/// Returns the version of the writer with its compressor, such as `squashfs 3 zstd 1.5.7`.
pub fn writer(compression: Compression) -> String {
    format!("squashfs {FORMAT}{}", compressor(compression))
}

/// Returns the version of a compressor after a space, such as ` zstd 1.5.7`; nothing without one.
pub fn compressor(compression: Compression) -> String {
    match compression {
        Compression::Zstd => format!(" zstd {}", zstd::zstd_safe::version_string()),
        Compression::Gzip => format!(" miniz_oxide {MINIZ_OXIDE}"),
        Compression::Xz => format!(" liblzma {LIBLZMA}"),
        Compression::Lz4 => format!(" lz4 {}", lz4::version()),
        Compression::None => String::new(),
    }
}

/// The versions of two crates that do not say theirs.
const MINIZ_OXIDE: &str = "0.9.1";
const LIBLZMA: &str = "0.4.9";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_of_compressors_are_those_that_are_linked_in() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
        for (name, version) in [("miniz_oxide", MINIZ_OXIDE), ("liblzma-sys", LIBLZMA)] {
            let package = format!("[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
            assert!(lock.contains(&package) && lock.matches(&format!("name = \"{name}\"\n")).count() == 1, "{name}");
        }
        assert!(writer(Compression::Zstd).starts_with("squashfs 3 zstd 1."));
        assert_eq!(writer(Compression::None), "squashfs 3");
    }
}
