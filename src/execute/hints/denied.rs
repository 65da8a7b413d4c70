//! Finds the cause of a denied access: device nodes and set-uid programs in a bind or a cache have no effect; a secret,
//! a cache or a tmpfs belongs to another user; or root without DAC_OVERRIDE has only the permissions of the file.

use std::path::Path;

use rustix::fs::FileType;

use super::{Failed, SessionFacts, mount_of, paths};
use crate::model::{Capability, Container, Mount, MountKind};
use crate::runtime::process::Credentials;
use crate::session::FileInside;

/// EACCES in the words of the C library, in small letters.
const DENIED: &[&str] = &["permission denied"];

/// The set-uid and set-gid bits.
const GIVES_PRIVILEGES: u32 = 0o6000;

/// Returns a hint with the option that the step may need.
pub(super) fn hint(container: &Container, failed: Failed<'_>, inside: &impl SessionFacts) -> Option<String> {
    let is_denied = failed.lines(DENIED).next().is_some();
    let all = paths(failed.command).chain(paths(failed.printed));
    let of_file = all.into_iter().find_map(|path| {
        let mount = host_files(container, path)?;
        let mode = inside.file(path)?.mode;
        let (path, target) = (path.display(), mount.target.display());
        match FileType::from_raw_mode(mode) {
            FileType::CharacterDevice | FileType::BlockDevice if is_denied && !allows(mount, "dev", "nodev") => Some(
                format!(
                    "{path} is a device node, which the mount at {target} opens to nobody; `options: [dev]` of that mount \
                     does, for a device that the container has"
                ),
            ),
            FileType::RegularFile if mode & GIVES_PRIVILEGES != 0 && failed.user.uid != 0 => {
                let mut needed = Vec::new();
                if !allows(mount, "suid", "nosuid") {
                    needed.push(format!("`options: [suid]` of the mount at {target}"));
                }
                if container.no_new_privileges {
                    needed.push("`no_new_privileges: false` of the container".to_owned());
                }
                let needs = |needed: String| format!("{path} is set-uid or set-gid; it gives privileges only with {needed}");
                (!needed.is_empty()).then(|| needs(needed.join(" and ")))
            }
            _ => None,
        }
    });
    of_file
        .or_else(|| failed.lines(DENIED).find_map(|line| of_owner(container, failed.user, line, inside)))
        .or_else(|| failed.lines(DENIED).flat_map(paths).find_map(|path| of_root(container, failed.user, path, inside)))
}

/// Returns the hint for root without DAC_OVERRIDE, where the permissions of a file or of a directory above it deny
/// access.
fn of_root(container: &Container, user: &Credentials, path: &Path, inside: &impl SessionFacts) -> Option<String> {
    if user.uid != 0 || container.capabilities.contains(&Capability::DacOverride) {
        return None;
    }
    let ancestors: Vec<&Path> = path.ancestors().collect();
    let closed = ancestors.into_iter().rev().find_map(|at| {
        let file = inside.file(at)?;
        let wanted = match file.file_type() {
            FileType::Directory if at == path => 0o7,
            FileType::Directory if Some(at) == path.parent() && inside.file(path).is_none() => 0o3,
            FileType::Directory => 0o1,
            _ => 0o6,
        };
        (!allows_user(file, user, wanted)).then(|| (at.display(), file))
    });
    let (at, FileInside { uid, gid, mode, .. }) = closed?;
    Some(format!(
        "{at} belongs to user {uid} and group {gid} with mode {:04o}, which root passes only with the capability DAC_OVERRIDE; \
         leave DAC_OVERRIDE out of `drop` under the `capabilities` of container {}",
        mode & 0o7777,
        container.name
    ))
}

/// Returns the hint for a user other than root who was denied a secret, a cache or a tmpfs, which the line names.
fn of_owner(container: &Container, user: &Credentials, line: &str, inside: &impl SessionFacts) -> Option<String> {
    let mount = paths(line).find_map(|path| mount_of(container, path)).filter(|_| user.uid != 0)?;
    let (what, wanted, for_all, verb) = match mount.kind {
        MountKind::Secret(_) => ("secret", 0o4, "0444", "read it"),
        MountKind::Ssh(_) => ("socket of the SSH agent", 0o2, "0666", "use it"),
        MountKind::Cache(_) => ("directory of the cache", 0o7, "1777", "write to it"),
        MountKind::Tmpfs => ("tmpfs", 0o7, "1777", "write to it"),
        MountKind::Bind(_) | MountKind::Snapshot { .. } | MountKind::Image(_) | MountKind::Kernel(..) => return None,
    };
    let found = inside.file(&mount.target).filter(|found| !allows_user(*found, user, wanted))?;
    let (target, uid, mode) = (mount.target.display(), user.uid, found.mode & 0o7777);
    let mut options = vec![format!("`options: [mode={for_all}]`")];
    if found.uid != uid {
        options.insert(0, format!("`options: [uid={uid}]`"));
    }
    let also = match mount.kind {
        MountKind::Cache(_) => "; files in it belong to the users that made them",
        _ => "",
    };
    Some(format!(
        "the {what} {target} belongs to user {} and group {} with mode {mode:04o}; {} of its mount lets user {uid} {verb}{also}",
        found.uid,
        found.gid,
        options.join(" or ")
    ))
}

/// Whether the permissions of a file grant all wanted rights to a user without DAC_OVERRIDE.
fn allows_user(file: FileInside, user: &Credentials, wanted: u32) -> bool {
    let shift = match () {
        () if file.uid == user.uid => 6,
        () if file.gid == user.gid || user.groups.contains(&file.gid) => 3,
        () => 0,
    };
    file.mode >> shift & wanted == wanted
}

/// Returns the bind or cache that a path is below.
fn host_files<'a>(container: &'a Container, path: &Path) -> Option<&'a Mount> {
    let mount = mount_of(container, path).filter(|mount| path != mount.target)?;
    matches!(mount.kind, MountKind::Bind(_) | MountKind::Cache(_)).then_some(mount)
}

/// Whether `option` is in force: the last of the two options counts.
fn allows(mount: &Mount, option: &str, opposite: &str) -> bool {
    mount.options.iter().rev().find(|given| *given == option || *given == opposite).is_some_and(|last| last == option)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{TestSession, container, user};
    use super::*;
    use crate::model::{CacheMount, Secret};

    const CHARACTER: u32 = 0o020666;
    const SET_UID: u32 = 0o104755;

    fn bound(options: &[&str], no_new_privileges: bool) -> Container {
        let mut container = container(&[(MountKind::Bind("/host/src".into()), "/src", options)]);
        container.no_new_privileges = no_new_privileges;
        container
    }

    fn hinted(container: &Container, uid: u32, printed: &str, found: &TestSession) -> Option<String> {
        hint(container, Failed { user: &user(uid), cwd: Path::new("/"), command: "make", printed }, found)
    }

    #[test]
    fn a_device_node_in_a_bind_is_named_with_the_option_dev() {
        let found = TestSession::default().file("/src/a/null", CHARACTER, (0, 0));
        let words = "sh: 1: cannot open /src/a/null: Permission denied";
        let hint_text = hinted(&bound(&[], true), 0, words, &found).unwrap();
        assert!(hint_text.starts_with("/src/a/null is a device node, which the mount at /src opens"), "{hint_text}");
        assert!(hint_text.contains("`options: [dev]`"), "{hint_text}");
        assert!(hinted(&bound(&["dev", "nodev"], true), 0, words, &found).is_some());
        for container in [bound(&["dev"], true), bound(&["nodev", "dev"], true)] {
            assert_eq!(hinted(&container, 0, words, &found), None);
        }
        let others = [
            "cannot open /src/a/null: Operation not permitted",
            "/src/b: Permission denied",
            "/srca Permission denied",
        ];
        for words in others {
            assert_eq!(hinted(&bound(&[], true), 0, words, &found), None, "{words}");
        }
        let found = TestSession::default().file("/src/a/null", 0o100644, (0, 0));
        assert_eq!(hinted(&bound(&[], true), 0, words, &found), None);
    }

    #[test]
    fn a_mount_of_another_user_is_named_with_its_owner_its_mode_and_the_options() {
        let mut container = container(&[
            (MountKind::Secret(Secret::Variable("TOKEN".into())), "/run/secrets/token", &[]),
            (MountKind::Cache(CacheMount::shared("apt")), "/cache", &[]),
            (MountKind::Tmpfs, "/tmp", &[]),
        ]);
        container.capabilities = vec![Capability::DacOverride];
        let with = |secret, cache, tmpfs| {
            let found = TestSession::default().file("/run/secrets/token", secret, (0, 0));
            found.file("/cache", cache, (7, 1000)).file("/tmp", tmpfs, (1000, 0))
        };
        let closed = with(0o100400, 0o040755, 0o040055);
        let hinted_for = |uid, words, found: &TestSession| hinted(&container, uid, words, found);
        assert_eq!(
            hinted_for(1000, "cat: /run/secrets/token: Permission denied", &closed).unwrap(),
            "the secret /run/secrets/token belongs to user 0 and group 0 with mode 0400; `options: [uid=1000]` or `options: \
             [mode=0444]` of its mount lets user 1000 read it"
        );
        let cache = hinted_for(1000, "touch: cannot touch '/cache/x/y': Permission denied", &closed).unwrap();
        assert!(
            cache.starts_with("the directory of the cache /cache belongs to user 7 and group 1000 with mode 0755;")
        );
        assert!(
            cache.contains("`options: [uid=1000]` or `options: [mode=1777]`")
                && cache.ends_with("users that made them"),
            "{cache}"
        );
        // The user's own mount, whose mode denies access.
        let tmpfs = hinted_for(1000, "/tmp/x: Permission denied", &closed).unwrap();
        assert!(
            tmpfs.contains("the tmpfs /tmp belongs to user 1000") && tmpfs.contains("; `options: [mode=1777]` of"),
            "{tmpfs}"
        );
        for (uid, words) in [
            (0, "cat: /run/secrets/token: Permission denied"),
            (1000, "cat: /run/secrets/tokens: Permission denied"),
            (1000, "cat /run/secrets/token\ncat: /etc/shadow: Permission denied"),
            (1000, "cat: /run/secrets/token: No such file or directory"),
        ] {
            assert_eq!(hinted_for(uid, words, &closed), None, "{words}");
        }
    }

    #[test]
    fn a_mount_whose_options_admit_the_user_gives_no_hint() {
        let container = container(&[
            (MountKind::Secret(Secret::Variable("TOKEN".into())), "/token", &["mode=0444"]),
            (MountKind::Cache(CacheMount::shared("apt")), "/cache", &["gid=1000", "mode=0775"]),
        ]);
        let found = TestSession::default().file("/token", 0o100444, (0, 0)).file("/cache", 0o040775, (0, 1000));
        for words in ["cat: /token: Permission denied", "touch: /cache/x: Permission denied"] {
            assert_eq!(hinted(&container, 1000, words, &found), None, "{words}");
        }
        assert!(hinted(&container, 1001, "touch: /cache/x: Permission denied", &found).is_some());
    }

    #[test]
    fn root_without_dac_override_gets_the_file_or_directory_that_denies_access() {
        let mut container = container(&[]);
        let found = TestSession::default().file("/home", 0o040755, (0, 0)).file("/home/u", 0o040700, (1000, 1000));
        let found = found.file("/home/u/f", 0o100644, (1000, 1000)).file("/srv", 0o040755, (7, 7));
        let found = found.file("/etc/shadow", 0o100640, (0, 42));
        let hinted_for = |container: &Container, uid, path| {
            hinted(container, uid, &format!("cat: {path}: Permission denied"), &found)
        };
        container.capabilities = vec![Capability::Chown];
        for (path, closed) in [
            ("/home/u/f", "/home/u belongs to user 1000 and group 1000 with mode 0700"),
            ("/srv/new", "/srv belongs to user 7 and group 7 with mode 0755"),
        ] {
            let expected = format!(
                "{closed}, which root passes only with the capability DAC_OVERRIDE; leave DAC_OVERRIDE out of `drop` under the \
                 `capabilities` of container c0"
            );
            assert_eq!(hinted_for(&container, 0, path), Some(expected), "{path}");
        }
        assert_eq!(hinted_for(&container, 0, "/etc/shadow"), None);
        assert_eq!(hinted_for(&container, 1000, "/srv/new"), None);
        container.capabilities.push(Capability::DacOverride);
        assert_eq!(hinted_for(&container, 0, "/home/u/f"), None);
    }

    #[test]
    fn a_set_uid_program_in_a_bind_is_named_with_all_settings_that_it_needs() {
        let found = TestSession::default().file("/src/a/su", SET_UID, (0, 0));
        let words = "/src/a/su -c id\nsu: must be run from a terminal";
        let hinted_for = |options: &[&str], only| hinted(&bound(options, only), 1000, words, &found);
        let both = hinted_for(&[], true).unwrap();
        assert!(
            both.contains("only with `options: [suid]` of the mount at /src and `no_new_privileges: false`"),
            "{both}"
        );
        assert!(
            hinted_for(&["suid"], true).unwrap().ends_with("only with `no_new_privileges: false` of the container")
        );
        assert!(hinted_for(&[], false).unwrap().ends_with("only with `options: [suid]` of the mount at /src"));
        assert_eq!(hinted_for(&["suid"], false), None);
        assert_eq!(hinted(&bound(&[], true), 0, words, &found), None);
    }
}
