//! Explains why the kernel did not mount a squashfs image: it has the same few errors for very different causes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use super::image::ImageFormat;

/// The first bytes of an image.
pub(super) const MAGIC: [u8; 4] = *b"hsqs";

/// Returns the reason why an image was not mounted. The caller names the image. `InvalidData` if the image is the cause, and not this
/// host.
pub(super) fn not_mounted(image: &File, errno: Errno) -> io::Error {
    let wrong = |words: String| io::Error::new(io::ErrorKind::InvalidData, words);
    let error = io::Error::from(errno);
    match Superblock::read(image) {
        Err(short) if short.kind() == io::ErrorKind::UnexpectedEof => {
            return wrong("it is not a squashfs image".to_owned());
        }
        Ok(found) if found.magic != MAGIC => {
            return wrong(match ImageFormat::of(image) {
                Ok(Some(ImageFormat::Erofs)) => "it is an EROFS image: use `erofs` in place of `squashfs`".to_owned(),
                _ => "it is not a squashfs image".to_owned(),
            });
        }
        Ok(Superblock { version: Some(version), .. }) if version != VERSION => {
            return wrong(format!(
                "it is a damaged squashfs image, or one of version {version}, which Linux does not read"
            ));
        }
        Ok(Superblock { image_bytes: None, .. }) => {
            return wrong("it is a squashfs image cut off at its start".to_owned());
        }
        Ok(Superblock { image_bytes: Some(all), file_bytes, .. }) if all > file_bytes => {
            return wrong(format!("it is a squashfs image cut off: {file_bytes} of its {all} bytes are there"));
        }
        // A loop device has whole sectors, and the image's last tables may be in the incomplete one.
        Ok(Superblock { file_bytes, .. }) if !file_bytes.is_multiple_of(SECTOR) => {
            return wrong(format!(
                "its length of {file_bytes} bytes is no multiple of {SECTOR}, as that of an image made with `-nopad`; \
                 `truncate -s %4096 FILE` pads it"
            ));
        }
        Ok(found) if errno == Errno::IO || errno == Errno::INVAL && found.compression == GZIP => {
            return wrong(format!("it is a damaged squashfs image: {error}; `dmesg | tail` may say where"));
        }
        _ => {}
    }
    match errno {
        Errno::NODEV => io::Error::new(error.kind(), "this kernel has no squashfs; `modprobe squashfs` may load it"),
        Errno::INVAL => {
            let message = format!(
                "it is a damaged squashfs image, or one whose compression this kernel lacks: {error}; `dmesg | tail` \
                 may say which"
            );
            io::Error::new(error.kind(), message)
        }
        _ => error,
    }
}

/// The compression that every kernel with squashfs has.
const GZIP: u16 = 1;

/// The smallest unit of a loop device, in bytes: loop(4).
const SECTOR: u64 = 512;

/// The version of the format since Linux 2.6.29.
const VERSION: u16 = 4;

/// The fields of a superblock that explain why it is not mounted.
struct Superblock {
    magic: [u8; 4],
    /// `None` if the file ends inside the superblock.
    version: Option<u16>,
    compression: u16,
    /// `None` if the file ends inside the superblock.
    image_bytes: Option<u64>,
    file_bytes: u64,
}

impl Superblock {
    fn read(image: &File) -> io::Result<Self> {
        let mut bytes = [0; 48];
        image.read_exact_at(&mut bytes[..4], 0)?;
        let magic = [bytes[0], bytes[1], bytes[2], bytes[3]];
        let file_bytes = image.metadata()?.len();
        match image.read_exact_at(&mut bytes, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Self { magic, version: None, compression: 0, image_bytes: None, file_bytes });
            }
            read => read?,
        }
        let image_bytes = bytes[40..48].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let compression = u16::from_le_bytes([bytes[20], bytes[21]]);
        let version = Some(u16::from_le_bytes([bytes[28], bytes[29]]));
        Ok(Self { magic, version, compression, image_bytes: Some(image_bytes), file_bytes })
    }
}
