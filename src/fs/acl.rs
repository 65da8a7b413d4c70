//! POSIX access control lists, which squashfs cannot store: removes them as `setfacl -b` does, see acl(5).

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, Mode, OFlags, chmod, fstat, openat};
use rustix::io::Errno;

use super::dirfd::path_of;
use super::xattr::XattrFile;

const ACCESS: &CStr = c"system.posix_acl_access";
const DEFAULT: &CStr = c"system.posix_acl_default";

/// `POSIX_ACL_XATTR_VERSION` of linux/posix_acl_xattr.h, and tags of entries.
const VERSION: u32 = 2;
const GROUP_OBJ: u16 = 0x04;
const MASK: u16 = 0x10;

/// Returns whether an extended attribute is such a list.
pub fn is_list(name: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_")
}

/// Removes the lists of an entry of a directory; a symbolic link has none. The permissions of the file's group become those that
/// the list gave the owning group below the mask: the mask alone, which `st_mode` shows, would give the group more.
///
/// The entry is opened once: a file that takes the entry's name meanwhile, such as a link to a file of the host, is not touched.
///
/// # Errors
/// Those of the system calls; `InvalidData` for an attribute that is no such list.
pub fn remove(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let entry = openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&entry)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Ok(());
    }
    let file = XattrFile::opened(entry.as_fd());
    let is_none = || io::Error::from(io::ErrorKind::InvalidData);
    let group = file.value(ACCESS)?.map(|list| group(&list).ok_or_else(is_none)).transpose()?;
    for name in [ACCESS, DEFAULT] {
        match file.remove(name) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(group) = group {
        let mode = fstat(&entry)?.st_mode & 0o7777;
        chmod(path_of(entry.as_fd()), Mode::from_raw_mode(mode & !0o070 | u32::from(group) << 3))?;
    }
    Ok(())
}

/// Returns the permissions of the owning group, by the list and its mask.
fn group(list: &[u8]) -> Option<u16> {
    let (version, entries) = list.split_first_chunk()?;
    if u32::from_le_bytes(*version) != VERSION {
        return None;
    }
    let (mut group, mut mask) = (None, 0o7);
    for entry in entries.chunks_exact(8) {
        let number = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        match number(0) {
            GROUP_OBJ => group = Some(number(2) & 0o7),
            MASK => mask = number(2) & 0o7,
            _ => {}
        }
    }
    Some(group? & mask)
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::{XattrFlags, llistxattr, lsetxattr};

    use super::*;

    /// Returns a list for user 1000, with these permissions of the owning group and the mask.
    fn list(group: u16, mask: u16) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        let nobody = u32::MAX;
        for (tag, permissions, id) in
            [(1, 7, nobody), (2, 7, 1000), (4, group, nobody), (0x10, mask, nobody), (0x20, 5, nobody)]
        {
            bytes.extend(u16::to_le_bytes(tag));
            bytes.extend(u16::to_le_bytes(permissions));
            bytes.extend(u32::to_le_bytes(id));
        }
        bytes
    }

    #[test]
    fn the_group_has_the_permissions_of_the_list_and_not_those_of_the_mask() {
        let dir = tempfile::tempdir().unwrap();
        for (group, mask, mode) in [(5, 7, 0o755), (7, 5, 0o755), (7, 7, 0o775), (0, 7, 0o705), (7, 0, 0o705)] {
            let path = dir.path().join(format!("{group}{mask}"));
            fs::create_dir(&path).unwrap();
            let name = CString::new(path.to_str().unwrap()).unwrap();
            lsetxattr(&*name, ACCESS, &list(group, mask), XattrFlags::empty()).unwrap();
            lsetxattr(&*name, DEFAULT, &list(group, mask), XattrFlags::empty()).unwrap();
            remove(rustix::fs::CWD, path.as_os_str()).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode, "{group} {mask}");
            let mut names = [0; 256];
            assert_eq!(llistxattr(&*name, &mut names).unwrap(), 0);
        }
    }

    #[test]
    fn a_file_without_a_list_is_unchanged() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o4671)).unwrap();
        remove(rustix::fs::CWD, file.path().as_os_str()).unwrap();
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o7777, 0o4671);
    }

    #[test]
    fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o640)).unwrap();
        let name = CString::new(victim.to_str().unwrap()).unwrap();
        lsetxattr(&*name, ACCESS, &list(0, 7), XattrFlags::empty()).unwrap();
        let mode = || fs::metadata(&victim).unwrap().permissions().mode();
        let before = mode();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        remove(rustix::fs::CWD, link.as_os_str()).unwrap();
        assert_eq!(mode(), before);
    }
}
