//! Loop devices: an image file as a read-only block device that the kernel frees with its last user, see loop(4).

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::doing;
use crate::sys;

/// The major number of loop devices.
const LOOP_MAJOR: u32 = 7;

/// How often a device that another process took first is given up for the next free one.
const TRIES: u32 = 64;

/// A configured loop device. The open file keeps it; a mount of it does as well, so it may be dropped after mounting.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _file: File,
}

impl LoopDevice {
    /// Attaches `image`, which is open for reading, to a free loop device.
    ///
    /// # Errors
    /// Where the host has no loop devices (`modprobe loop` mends it).
    pub fn attach(image: &File) -> io::Result<Self> {
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control").map_err(no_loop_devices)?;
        for _ in 0..TRIES {
            let number = sys::free_loop_device(&control).map_err(doing("find a free loop device"))?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let Some(device) = open_node(&path, number).map_err(doing(format_args!("open {}", path.display())))? else {
                continue;
            };
            match sys::configure_loop_device(&device, image, 0) {
                Ok(()) => return Ok(Self { path, _file: device }),
                Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {}
                Err(error) => return Err(doing(format_args!("set up {}", path.display()))(error)),
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "every free loop device was taken by another process first"))
    }

    /// Its node under `/dev`.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn no_loop_devices(error: io::Error) -> io::Error {
    let mend = match error.kind() {
        io::ErrorKind::NotFound => "; `modprobe loop` makes it, or in Docker: docker run --privileged",
        _ => "",
    };
    io::Error::new(error.kind(), format!("open /dev/loop-control: {error}{mend}"))
}

/// Opens a loop device's node; makes it where nothing (udev, devtmpfs) has, as in a container's `/dev`.
/// `None`: the device went away between asking for it and opening it.
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

/// Loop devices that a container was given while they were free: a step may leave a file attached to one.
///
/// Dropped, it detaches what was attached since. One that something still uses goes with its last user, see loop(4).
#[derive(Debug, Default)]
pub struct LentLoopDevices {
    numbers: Vec<u32>,
}

impl LentLoopDevices {
    /// Of these devices, given by their major and minor numbers, the loop devices that are free now.
    pub fn note(devices: impl Iterator<Item = (i64, i64)>) -> Self {
        let loops = devices.filter(|(major, _)| *major == i64::from(LOOP_MAJOR));
        let numbers = loops.filter_map(|(_, minor)| u32::try_from(minor).ok());
        Self { numbers: numbers.filter(|number| !is_attached(*number)).collect() }
    }
}

impl Drop for LentLoopDevices {
    fn drop(&mut self) {
        for number in self.numbers.iter().filter(|number| is_attached(**number)) {
            // One that is gone by now, or that another process has taken and detached itself, needs nothing.
            let device = open_node(Path::new(&format!("/dev/loop{number}")), *number);
            if let Ok(Some(device)) = device {
                let _ = sys::detach_loop_device(&device);
            }
        }
    }
}

fn is_attached(number: u32) -> bool {
    Path::new(&format!("/sys/block/loop{number}/loop/backing_file")).exists()
}
