//! Translates `USER[:GROUP]` to numbers, by the passwd(5) and group(5) of a root, which is hostile.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;

use crate::error::context;
use crate::fs::{in_root, regular};
use crate::model::{Principal, User};
use crate::runtime::process::Credentials;

/// The number of bytes that are read of a passwd or group file; a longer one is an attack.
const MAX_BYTES: u64 = 8 << 20;

/// `(uid_t) -1` and `(gid_t) -1`, which are no ids.
const INVALID_ID: u32 = u32::MAX;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Looks a user up in an open root.
///
/// # Errors
/// An unknown name, an invalid number, a passwd or group file of another type.
pub fn look_up(root: BorrowedFd<'_>, user: &User) -> io::Result<Credentials> {
    let passwd = read(root, Path::new(PASSWD))?;
    let entry = passwd.lines().filter_map(PasswdEntry::parse).find(|entry| match &user.user {
        Principal::Id(uid) => entry.uid == *uid,
        Principal::Name(name) => entry.name == name,
    });
    // setresuid(2) treats this id as "no change", so the process would stay root.
    let checked = |field: &str, id: u32, file: &str| match id {
        INVALID_ID => {
            let why = format!("the {field} in {file} of the rootfs is {INVALID_ID}, which is not a valid id");
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        }
        id => Ok(id),
    };
    let uid = match (&user.user, &entry) {
        (Principal::Id(uid), _) => *uid,
        (Principal::Name(name), Some(entry)) => checked(&format!("uid of {name}"), entry.uid, PASSWD)?,
        (Principal::Name(name), None) => return Err(not_found("user", name, PASSWD)),
    };
    let groups = read(root, Path::new(GROUP))?;
    let gid = match &user.group {
        None => match &entry {
            Some(entry) => checked(&format!("gid of {}", entry.name), entry.gid, PASSWD)?,
            None => 0,
        },
        Some(Principal::Id(gid)) => *gid,
        Some(Principal::Name(name)) => groups
            .lines()
            .filter_map(GroupEntry::parse)
            .find(|group| group.name == name)
            .ok_or_else(|| not_found("group", name, GROUP))
            .and_then(|group| checked(&format!("gid of {name}"), group.gid, GROUP))?,
    };
    // As with Docker: a user, by name or by a number that has one, is in the groups that list that name, unless the manifest
    // requests a group.
    let mut member_of = Vec::new();
    if let (Some(PasswdEntry { name, .. }), None) = (&entry, &user.group) {
        member_of = groups
            .lines()
            .filter_map(GroupEntry::parse)
            .filter(|group| group.members.split(',').any(|member| member == *name))
            .map(|group| checked(&format!("gid of {}", group.name), group.gid, GROUP))
            .collect::<io::Result<_>>()?;
    }
    // The list includes the group itself. Otherwise a set-gid program, which replaces the group, could open a file that is closed to
    // the group.
    member_of.push(gid);
    member_of.sort_unstable();
    member_of.dedup();
    let home = entry.map(|entry| entry.home).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
    Ok(Credentials { uid, gid, groups: member_of, home })
}

fn not_found(kind: &str, name: &str, file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{kind} {name} is not in {file} of the rootfs"))
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> PasswdEntry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("/");
        Some(Self { name, uid, gid, home })
    }
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> GroupEntry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Self { name, gid, members: fields.next().unwrap_or_default() })
    }
}

/// Reads a file's text; empty where the file does not exist.
fn read(root: BorrowedFd<'_>, path: &Path) -> io::Result<String> {
    let failed =
        |action| move |error: io::Error| context(format_args!("{action} {} of the rootfs", path.display()))(error);
    let place = match in_root::open(root, path, OFlags::PATH) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(error) => return Err(failed("open")(error.into())),
    };
    if FileType::from_raw_mode(fstat(&place)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other(format!("{} of the rootfs is not a regular file", path.display())));
    }
    let mut bytes = Vec::new();
    let file = regular::reopen(place.as_fd()).map_err(failed("open"))?;
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(failed("read"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::Mode;

    use super::*;

    fn in_root(user: Principal, group: Option<Principal>) -> io::Result<Credentials> {
        let root = tempfile::tempdir()?;
        fs::create_dir(root.path().join("etc"))?;
        fs::write(root.path().join("etc/passwd"), "root:x:0:0:r:/root:/bin/sh\nann:x:1000:100:A:/home/ann:/bin/sh\n")?;
        fs::write(root.path().join("etc/group"), "root:x:0:\nusers:x:100:\naudio:x:29:bob,ann\nx:bad\n")?;
        let fd = rustix::fs::open(root.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        look_up(fd.as_fd(), &User { user, group })
    }

    #[test]
    fn a_name_has_the_number_group_groups_and_home_of_its_entry() {
        let found = in_root(Principal::Name("ann".into()), None).unwrap();
        assert_eq!(found, Credentials { uid: 1000, gid: 100, groups: vec![29, 100], home: "/home/ann".into() });
    }

    #[test]
    fn a_requested_group_is_the_only_one() {
        let found = in_root(Principal::Name("ann".into()), Some(Principal::Name("audio".into()))).unwrap();
        assert_eq!((found.gid, found.groups), (29, vec![29]));
    }

    #[test]
    fn a_number_of_an_entry_has_the_same_groups_as_the_name() {
        let by_name = in_root(Principal::Name("ann".into()), None).unwrap();
        assert_eq!(in_root(Principal::Id(1000), None).unwrap(), by_name);
        let alone = in_root(Principal::Id(1000), Some(Principal::Id(7))).unwrap();
        assert_eq!(alone.groups, [7]);
    }

    #[test]
    fn a_number_needs_no_entry() {
        let found = in_root(Principal::Id(70000), None).unwrap();
        assert_eq!(found, Credentials { uid: 70000, gid: 0, groups: vec![0], home: "/".into() });
    }

    #[test]
    fn the_invalid_id_is_refused_in_each_field() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(root.path().join("etc").join(name), text).unwrap();
        let name = |name: &str| Principal::Name(name.into());
        fs::create_dir(root.path().join("etc")).unwrap();
        file("passwd", "a:x:4294967295:0::/:\nb:x:1:4294967295::/:\nc:x:2:2::/:\n");
        file("group", "d:x:4294967295:c\n");
        let fd = rustix::fs::open(root.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        for (user, group, message) in [
            (name("a"), None, "the uid of a in /etc/passwd of the rootfs is 4294967295, which is not a valid id"),
            (name("a"), Some(Principal::Id(5)), "the uid of a in /etc/passwd"),
            (name("b"), None, "the gid of b in /etc/passwd"),
            (Principal::Id(1), None, "the gid of b in /etc/passwd"),
            (name("c"), None, "the gid of d in /etc/group"),
            (Principal::Id(2), Some(name("d")), "the gid of d in /etc/group"),
        ] {
            let error = look_up(fd.as_fd(), &User { user, group }).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        // The entries of other users and groups do not matter.
        let user = User { user: name("c"), group: Some(Principal::Id(7)) };
        assert_eq!(look_up(fd.as_fd(), &user).unwrap().gid, 7);
    }

    #[test]
    fn an_unknown_name_is_reported_with_its_file() {
        let error = in_root(Principal::Name("eve".into()), None).unwrap_err();
        assert_eq!(error.to_string(), "user eve is not in /etc/passwd of the rootfs");
    }
}
