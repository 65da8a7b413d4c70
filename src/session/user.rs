//! `USER[:GROUP]` to numbers, by the passwd(5) and group(5) of a root, which is hostile.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;

use crate::error::context;
use crate::fs::{in_root, regular};
use crate::model::{Principal, User};
use crate::runtime::process::Credentials;

/// Past this a passwd or group file is taken for an attack.
const MAX_BYTES: u64 = 8 << 20;

/// `(uid_t) -1` and `(gid_t) -1`.
const NOBODYS_ID: u32 = u32::MAX;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Looks a user up in the root that `root` is open on.
///
/// # Errors
/// A name that is not there, a number out of range, a file that is no file.
pub fn look_up(root: BorrowedFd<'_>, user: &User) -> io::Result<Credentials> {
    let passwd = read(root, Path::new(PASSWD))?;
    let entry = passwd.lines().filter_map(PasswdEntry::parse).find(|entry| match &user.user {
        Principal::Id(uid) => entry.uid == *uid,
        Principal::Name(name) => entry.name == name,
    });
    // setresuid(2) takes it for "no change": the process would stay root.
    let checked = |what: &str, id: u32, file: &str| match id {
        NOBODYS_ID => {
            let why = format!("the {what} in {file} of the rootfs is {NOBODYS_ID}, which is nobody's");
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
    // As with Docker: a user, by name or by a number that has one, is in the groups that list that name, unless a group
    // is asked for.
    let mut member_of = Vec::new();
    if let (Some(PasswdEntry { name, .. }), None) = (&entry, &user.group) {
        member_of = groups
            .lines()
            .filter_map(GroupEntry::parse)
            .filter(|group| group.members.split(',').any(|member| member == *name))
            .map(|group| checked(&format!("gid of {}", group.name), group.gid, GROUP))
            .collect::<io::Result<_>>()?;
    }
    // The group itself too: else a file that is closed to the group would open once a set-gid program has taken its place.
    member_of.push(gid);
    member_of.sort_unstable();
    member_of.dedup();
    let home = entry.map(|entry| entry.home).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
    Ok(Credentials { uid, gid, groups: member_of, home })
}

fn not_found(what: &str, name: &str, file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{what} {name} is not in {file} of the rootfs"))
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

/// The file's text; nothing where there is no such file.
fn read(root: BorrowedFd<'_>, path: &Path) -> io::Result<String> {
    let failed =
        |action| move |error: io::Error| context(format_args!("{action} {} of the rootfs", path.display()))(error);
    let place = match in_root::open(root, path, OFlags::PATH) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(error) => return Err(failed("open")(error.into())),
    };
    if FileType::from_raw_mode(fstat(&place)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other(format!("{} of the rootfs is no file", path.display())));
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
    fn a_name_gives_its_number_group_groups_and_home() {
        let found = in_root(Principal::Name("ann".into()), None).unwrap();
        assert_eq!(found, Credentials { uid: 1000, gid: 100, groups: vec![29, 100], home: "/home/ann".into() });
    }

    #[test]
    fn a_group_that_is_asked_for_is_the_only_one() {
        let found = in_root(Principal::Name("ann".into()), Some(Principal::Name("audio".into()))).unwrap();
        assert_eq!((found.gid, found.groups), (29, vec![29]));
    }

    #[test]
    fn a_number_of_a_user_gives_what_the_name_gives() {
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
    fn an_id_that_means_no_change_is_refused_wherever_it_stands() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| fs::write(root.path().join("etc").join(name), text).unwrap();
        let name = |name: &str| Principal::Name(name.into());
        fs::create_dir(root.path().join("etc")).unwrap();
        file("passwd", "a:x:4294967295:0::/:\nb:x:1:4294967295::/:\nc:x:2:2::/:\n");
        file("group", "d:x:4294967295:c\n");
        let fd = rustix::fs::open(root.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        for (user, group, told) in [
            (name("a"), None, "the uid of a in /etc/passwd of the rootfs is 4294967295, which is nobody's"),
            (name("a"), Some(Principal::Id(5)), "the uid of a in /etc/passwd"),
            (name("b"), None, "the gid of b in /etc/passwd"),
            (Principal::Id(1), None, "the gid of b in /etc/passwd"),
            (name("c"), None, "the gid of d in /etc/group"),
            (Principal::Id(2), Some(name("d")), "the gid of d in /etc/group"),
        ] {
            let error = look_up(fd.as_fd(), &User { user, group }).unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
        }
        // Those of others do not matter.
        let user = User { user: name("c"), group: Some(Principal::Id(7)) };
        assert_eq!(look_up(fd.as_fd(), &user).unwrap().gid, 7);
    }

    #[test]
    fn an_unknown_name_is_told_with_the_file_it_is_not_in() {
        let error = in_root(Principal::Name("eve".into()), None).unwrap_err();
        assert_eq!(error.to_string(), "user eve is not in /etc/passwd of the rootfs");
    }
}
