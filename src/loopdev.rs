//! Loop devices: an image file as a read-only block device that the kernel frees with its last user, see loop(4).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::context;
use crate::sys;

/// The major number of loop devices.
const LOOP_MAJOR: u32 = 7;

/// The number of tries: a device that another process took first is replaced by the next free one.
const TRIES: u32 = 64;

/// A configured loop device. The open file keeps it attached; so does a mount of it, so it may be dropped after mounting.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _file: File,
}

impl LoopDevice {
    /// Attaches `image`, which is open for reading, to a free loop device.
    ///
    /// # Errors
    /// Where the host has no loop devices (`modprobe loop` loads them).
    pub fn attach(image: &File) -> io::Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control").map_err(no_loop_devices)?;
        for _ in 0..TRIES {
            let number = sys::free_loop_device(&control).map_err(context("find a free loop device"))?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let Some(device) = open_node(&path, number).map_err(context(format_args!("open {}", path.display())))?
            else {
                continue;
            };
            match sys::configure_loop_device(&device, image, 0) {
                Ok(()) => return Ok(Self { path, _file: device }),
                Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {}
                Err(error) => return Err(context(format_args!("set up {}", path.display()))(error)),
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "every free loop device was taken by another process first"))
    }

    /// Returns its node under `/dev`.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn no_loop_devices(error: io::Error) -> io::Error {
    let fix = match error.kind() {
        io::ErrorKind::NotFound => "; `modprobe loop` makes it, or in Docker: docker run --privileged",
        _ => "",
    };
    io::Error::new(error.kind(), format!("open /dev/loop-control: {error}{fix}"))
}

/// Opens a loop device's node, and makes it where neither udev nor devtmpfs has, as in a container's `/dev`. `None`: the device
/// was removed before it was opened.
fn open_node(path: &Path, number: u32) -> io::Result<Option<File>> {
    let open = || rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    match open() {
        Ok(fd) => Ok(Some(fd.into())),
        Err(Errno::NOENT) => {
            let device = rustix::fs::makedev(LOOP_MAJOR, number);
            let mode = Mode::RUSR | Mode::WUSR;
            match rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::BlockDevice, mode, device) {
                Ok(()) | Err(Errno::EXIST) => Ok(Some(open()?.into())),
                Err(error) => Err(error.into()),
            }
        }
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Loop devices that a container got while they were free: a step may leave a file attached to one.
///
/// Dropping this detaches files attached since. A device in use is detached with its last user, see loop(4). Their numbers are
/// recorded in a directory of the build's lease, for the next start if runner is killed.
#[derive(Debug, Default)]
pub struct LentLoopDevices {
    lent: Vec<(u32, PathBuf)>,
}

impl LentLoopDevices {
    /// Selects those of these devices, given by their major and minor numbers, that are free loop devices now; records them in
    /// `notes`, which is made for the first.
    ///
    /// # Errors
    /// Those of writing a note.
    pub fn note(devices: impl Iterator<Item = (i64, i64)>, notes: &Path) -> io::Result<Self> {
        let loops = devices.filter(|(major, _)| *major == i64::from(LOOP_MAJOR));
        let numbers = loops.filter_map(|(_, minor)| u32::try_from(minor).ok());
        let mut all = Self::default();
        for number in numbers.filter(|number| !is_attached(*number)) {
            DirBuilder::new().recursive(true).mode(0o700).create(notes)?;
            let note = notes.join(format!("{NOTE}{number}"));
            File::create(&note).map_err(context(format_args!("make {}", note.display())))?;
            all.lent.push((number, note));
        }
        Ok(all)
    }
}

impl Drop for LentLoopDevices {
    fn drop(&mut self) {
        for (number, note) in &self.lent {
            // A removed device, or one that another process has taken and detached itself, needs nothing.
            let device = open_node(Path::new(&format!("/dev/loop{number}")), *number);
            if let Ok(Some(device)) = device {
                let _ = sys::detach_loop_device(&device);
            }
            let _ = fs::remove_file(note);
        }
    }
}

/// The name of a note, before the number.
const NOTE: &str = "loop-device-";

/// Detaches the devices that a killed runner has recorded in `notes`: those whose file no path of this host leads to, because
/// another process may have attached a file to one since then.
pub fn detach_abandoned(notes: &Path) {
    let entries = fs::read_dir(notes).into_iter().flatten().flatten();
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix(NOTE)?.parse::<u32>().ok();
    for number in entries.filter_map(number).filter(|number| is_attached(*number)) {
        if let Ok(Some(device)) = open_node(Path::new(&format!("/dev/loop{number}")), number)
            && is_abandoned(&device, number)
        {
            // A process that still uses the device detaches it at its end.
            let _ = sys::detach_loop_device(&device);
        }
    }
}

fn is_abandoned(device: &File, number: u32) -> bool {
    let Ok(backing) = sys::loop_backing(device) else { return false };
    let named = fs::read_to_string(backing_file(number)).unwrap_or_default();
    // The kernel's path: of a file in a mount namespace that has ended, a path in a root that is not this one.
    !fs::metadata(named.trim_end_matches('\n')).is_ok_and(|found| (found.dev(), found.ino()) == backing)
}

fn backing_file(number: u32) -> String {
    format!("/sys/block/loop{number}/loop/backing_file")
}

fn is_attached(number: u32) -> bool {
    Path::new(&backing_file(number)).exists()
}
