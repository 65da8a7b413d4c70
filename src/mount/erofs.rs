//! Checks an EROFS image before it is mounted, and explains why the kernel did not mount one.
//!
//! The kernel mounts an image that is cut off, and its files give errors later, inside of a step. So the length is compared with that
//! of the superblock first: a file that was not copied whole is a wrong input, and no step should begin with it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use super::image::ImageFormat;

/// The mark at the start of the superblock.
pub(super) const MAGIC: [u8; 4] = 0xe0f5_e1e2_u32.to_le_bytes();

/// The place of the superblock in an image, in bytes.
pub(super) const SUPERBLOCK_AT: u64 = 1024;

/// The bytes of the superblock that are read: up to the features that a kernel must know.
const SUPERBLOCK_BYTES: usize = 84;

/// The feature of images whose number of blocks has 48 bits, which has other fields in the superblock: Linux 6.15.
const FEATURE_48BIT: u32 = 0x80;

/// The largest block that Linux has, as a power of two.
const MAX_BLOCK_BITS: u8 = 16;

/// Refuses a file that is not an EROFS image or is shorter than one, with the reason; the caller names the file.
///
/// # Errors
/// `InvalidData` if the file is the cause; those of reading it.
pub(super) fn check(image: &File) -> io::Result<()> {
    match ImageFormat::of(image)? {
        Some(ImageFormat::Erofs) => {}
        Some(ImageFormat::Squashfs) => {
            return Err(wrong("it is a squashfs image: use `squashfs` in place of `erofs`".to_owned()));
        }
        None => return Err(wrong("it is not an EROFS image".to_owned())),
    }
    let mut superblock = [0; SUPERBLOCK_BYTES];
    match image.read_exact_at(&mut superblock, SUPERBLOCK_AT) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(wrong("it is an EROFS image cut off at its start".to_owned()));
        }
        read => read?,
    }
    let file_bytes = image.metadata()?.len();
    match image_bytes(&superblock) {
        Some(all) if all > file_bytes => {
            Err(wrong(format!("it is an EROFS image cut off: {file_bytes} of its {all} bytes are there")))
        }
        _ => Ok(()),
    }
}

/// Returns the length of an image by its superblock; none where the superblock does not say it in a form that is known here.
fn image_bytes(superblock: &[u8; SUPERBLOCK_BYTES]) -> Option<u64> {
    let number = |at: usize| superblock[at..at + 4].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
    let (block_bits, blocks, features) = (superblock[12], number(36), number(80));
    (features & FEATURE_48BIT == 0 && block_bits <= MAX_BLOCK_BITS).then(|| u64::from(blocks) << block_bits)
}

/// Returns the reason why the kernel did not mount an image that [`check`] accepts.
pub(super) fn not_mounted(errno: Errno) -> io::Error {
    match errno {
        Errno::NODEV => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel does not mount EROFS; `modprobe erofs` adds it where the kernel has the module \
             (CONFIG_EROFS_FS), and a squashfs image needs none",
        ),
        Errno::INVAL | Errno::IO | Errno::OPNOTSUPP | Errno::UCLEAN | Errno::BADMSG => wrong(format!(
            "it is a damaged EROFS image, or one that this kernel cannot read: {}; `dmesg | tail` may say which",
            io::Error::from(errno)
        )),
        errno => errno.into(),
    }
}

fn wrong(words: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Makes an image of a superblock and so many bytes in all.
    fn image(block_bits: u8, blocks: u32, features: u32, bytes: u64) -> File {
        let mut superblock = [0; SUPERBLOCK_BYTES];
        superblock[..4].copy_from_slice(&MAGIC);
        superblock[12] = block_bits;
        superblock[36..40].copy_from_slice(&blocks.to_le_bytes());
        superblock[80..84].copy_from_slice(&features.to_le_bytes());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0; SUPERBLOCK_AT as usize]).unwrap();
        file.write_all(&superblock).unwrap();
        file.set_len(bytes).unwrap();
        file
    }

    fn refusal(file: &File) -> String {
        check(file).map_or_else(|error| error.to_string(), |()| "accepted".to_owned())
    }

    #[test]
    fn an_image_shorter_than_its_superblock_says_is_refused() {
        assert_eq!(refusal(&image(12, 3, 0, 3 * 4096)), "accepted");
        assert_eq!(refusal(&image(9, 3, 0, 3 * 512)), "accepted");
        let cut = refusal(&image(12, 3, 0, 3 * 4096 - 1));
        assert_eq!(cut, "it is an EROFS image cut off: 12287 of its 12288 bytes are there");
        assert_eq!(refusal(&image(12, 3, 0, 1030)), "it is an EROFS image cut off at its start");
        assert_eq!(refusal(&image(12, 3, FEATURE_48BIT, 4096)), "accepted", "the kernel reads other fields");
        assert_eq!(refusal(&image(200, 3, 0, 4096)), "accepted", "the kernel refuses it");
    }

    #[test]
    fn a_file_of_another_format_is_refused_and_a_squashfs_image_by_its_key() {
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(refusal(&file), "it is not an EROFS image");
        file.write_all(b"hsqs").unwrap();
        assert_eq!(refusal(&file), "it is a squashfs image: use `squashfs` in place of `erofs`");
    }

    #[test]
    fn the_errors_of_the_kernel_name_what_helps() {
        let missing = not_mounted(Errno::NODEV);
        assert_eq!(missing.kind(), io::ErrorKind::Unsupported);
        assert!(missing.to_string().contains("`modprobe erofs`"), "{missing}");
        assert_eq!(not_mounted(Errno::OPNOTSUPP).kind(), io::ErrorKind::InvalidData);
        assert_eq!(not_mounted(Errno::NOMEM).kind(), io::ErrorKind::OutOfMemory);
    }
}
