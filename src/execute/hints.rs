//! The causes of a step's failure that it does not report itself: a bind or a cache opens no device node and makes nobody
//! root, a secret or a cache is another user's, and a scratch is full.

use std::path::Path;

use rustix::fs::FileType;

use crate::build::{Container, Mount, MountKind, Principal, Scratch, User, size_text};
use crate::session::scratch_files;

/// EACCES in the words of the C library.
const DENIED: &str = "Permission denied";

/// Set-uid and set-gid.
const GIVES_PRIVILEGES: u32 = 0o6000;

/// A failed step: its user, and its command with the last lines of its output.
#[derive(Debug, Clone, Copy)]
pub struct Failed<'a> {
    pub user: &'a User,
    pub words: &'a str,
}

/// Returns the option that the step may have needed. `mode_of` gives the type and the mode of a file inside.
pub fn hint(container: &Container, failed: Failed<'_>, mode_of: impl Fn(&Path) -> Option<u32>) -> Option<String> {
    if failed.words.contains("No space left on device") && container.scratch == Scratch::Default {
        let room = "the root may change by half of the memory that runner may use, at most 10 GiB";
        return Some(format!("{room}; `scratch: {{disk: true}}` or `scratch: {{tmpfs: SIZE}}` gives more"));
    }
    if let (true, Scratch::Tmpfs(bytes)) = (failed.words.contains("No space left on device"), container.scratch) {
        return Some(format!(
            "the changes of the steps may take {} in memory and be {} files; `scratch: {{disk: true}}` or a larger `tmpfs` \
             there gives more",
            size_text(bytes),
            scratch_files(bytes)
        ));
    }
    let is_denied = failed.words.contains(DENIED);
    let is_root = failed.user.is_root();
    let of_file = paths(failed.words).find_map(|path| {
        let mount = mount_of(container, path)?;
        let mode = mode_of(path)?;
        let (path, target) = (path.display(), mount.target.display());
        match FileType::from_raw_mode(mode) {
            FileType::CharacterDevice | FileType::BlockDevice if is_denied && !allows(mount, "dev", "nodev") => Some(
                format!(
                    "{path} is a device node, which the mount at {target} opens to nobody; `options: [dev]` of that mount \
                     does, for a device that the container has"
                ),
            ),
            FileType::RegularFile if mode & GIVES_PRIVILEGES != 0 && !is_root => {
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
    of_file.or_else(|| {
        failed
            .words
            .lines()
            .filter(|line| line.contains(DENIED))
            .find_map(|line| for_user(container, failed.user, line))
    })
}

/// The absolute paths that stand in a text.
fn paths(words: &str) -> impl Iterator<Item = &Path> {
    let parts = words.split(|c: char| c.is_whitespace() || c.is_control() || "'\"`‘’:;,()<>=[]&|".contains(c));
    parts.map(Path::new).filter(|path| path.is_absolute())
}

/// For another user than root whom a file in a secret or a cache was denied, in a line that names it.
fn for_user(container: &Container, user: &User, line: &str) -> Option<String> {
    if user.is_root() {
        return None;
    }
    let number = match &user.user {
        Principal::Id(id) => id.to_string(),
        Principal::Name(name) => format!("NUMBER-OF-{name}"),
    };
    let option = format!("uid={number}");
    let above = |path: &Path| {
        let mounts = container.mounts.iter().filter(|mount| path.starts_with(&mount.target));
        mounts.max_by_key(|mount| mount.target.components().count())
    };
    let mount = paths(line).find_map(above).filter(|mount| !mount.options.contains(&option))?;
    let target = mount.target.display();
    match mount.kind {
        MountKind::Secret(_) => Some(format!(
            "the secret {target} is readable by its owner alone, who is root unless its mount says `options: [{option}]`, \
             or `mode=0444` for all users"
        )),
        MountKind::Cache(_) => Some(format!(
            "the directory of the cache {target} belongs to root unless its mount says `options: [{option}]`, or `mode=1777` \
             for all users; files in it belong to the users that made them"
        )),
        _ => None,
    }
}

/// The bind or cache that a path is in.
fn mount_of<'a>(container: &'a Container, path: &Path) -> Option<&'a Mount> {
    let above = container.mounts.iter().filter(|mount| path != mount.target && path.starts_with(&mount.target));
    let mount = above.max_by_key(|mount| mount.target.components().count())?;
    matches!(mount.kind, MountKind::Bind(_) | MountKind::Cache(_)).then_some(mount)
}

/// The last of the two options counts.
fn allows(mount: &Mount, option: &str, opposite: &str) -> bool {
    mount.options.iter().rev().find(|given| *given == option || *given == opposite).is_some_and(|last| last == option)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Secret;
    use crate::plan::fixture::build;

    const CHARACTER: u32 = 0o020666;
    const SET_UID: u32 = 0o104755;

    fn container(options: &[&str], no_new_privileges: bool) -> Container {
        let mut container = build(&[("s", 0, &[])]).containers[0].clone();
        let options = options.iter().map(ToString::to_string).collect();
        let kind = MountKind::Bind("/host/src".into());
        container.mounts = vec![Mount { kind, target: "/src".into(), options, ignored: false }];
        container.no_new_privileges = no_new_privileges;
        container
    }

    fn hinted(container: &Container, uid: u32, words: &str, mode: u32) -> Option<String> {
        let user = User { user: Principal::Id(uid), group: None };
        hint(container, Failed { user: &user, words }, |path| path.starts_with("/src/a").then_some(mode))
    }

    #[test]
    fn a_device_node_that_a_bind_does_not_open_is_named_with_the_option() {
        let words = "sh: 1: cannot open /src/a/null: Permission denied";
        let told = hinted(&container(&[], true), 0, words, CHARACTER).unwrap();
        assert!(told.starts_with("/src/a/null is a device node, which the mount at /src opens"), "{told}");
        assert!(told.contains("`options: [dev]`"), "{told}");
        assert!(hinted(&container(&["dev", "nodev"], true), 0, words, CHARACTER).is_some());
        for container in [container(&["dev"], true), container(&["nodev", "dev"], true)] {
            assert_eq!(hinted(&container, 0, words, CHARACTER), None);
        }
        let others = [
            "cannot open /src/a/null: Operation not permitted",
            "/src/b: Permission denied",
            "/srca Permission denied",
        ];
        for words in others {
            assert_eq!(hinted(&container(&[], true), 0, words, CHARACTER), None, "{words}");
        }
        assert_eq!(hinted(&container(&[], true), 0, words, 0o100644), None);
    }

    #[test]
    fn a_full_scratch_in_memory_is_named_with_what_gives_more() {
        let mut container = container(&[], true);
        container.scratch = Scratch::Tmpfs(8 << 20);
        let told = hinted(&container, 0, "touch: cannot touch '/f': No space left on device", CHARACTER).unwrap();
        assert!(told.starts_with("the changes of the steps may take 8MiB in memory and be 2048 files;"), "{told}");
        container.scratch = Scratch::Disk;
        assert_eq!(hinted(&container, 0, "No space left on device", CHARACTER), None);
    }

    #[test]
    fn a_secret_or_a_cache_of_root_that_another_user_is_denied_is_named_with_the_option() {
        let mut container = container(&[], true);
        let mount = |kind, target: &str| Mount { kind, target: target.into(), options: vec![], ignored: false };
        container.mounts = vec![
            mount(MountKind::Secret(Secret::Variable("TOKEN".into())), "/run/secrets/token"),
            mount(MountKind::Cache("apt".into()), "/cache"),
        ];
        let told = |container: &Container, uid, words| hinted(container, uid, words, 0o100644);
        let token = told(&container, 1000, "cat: /run/secrets/token: Permission denied").unwrap();
        assert!(
            token.starts_with("the secret /run/secrets/token is readable") && token.contains("[uid=1000]"),
            "{token}"
        );
        let cache = told(&container, 1000, "touch: cannot touch '/cache/x/y': Permission denied").unwrap();
        assert!(cache.starts_with("the directory of the cache /cache belongs to root") && cache.contains("[uid=1000]"));
        let ann = User { user: Principal::Name("ann".into()), group: None };
        assert!(for_user(&container, &ann, "/cache: Permission denied").unwrap().contains("[uid=NUMBER-OF-ann]"));
        for (uid, words) in [
            (0, "cat: /run/secrets/token: Permission denied"),
            (1000, "cat: /run/secrets/tokens: Permission denied"),
            (1000, "cat /run/secrets/token\ncat: /etc/shadow: Permission denied"),
            (1000, "cat: /run/secrets/token: No such file or directory"),
        ] {
            assert_eq!(told(&container, uid, words), None, "{words}");
        }
        container.mounts[0].options = vec!["uid=1000".into()];
        assert_eq!(told(&container, 1000, "cat: /run/secrets/token: Permission denied"), None);
    }

    #[test]
    fn a_set_uid_program_in_a_bind_is_named_with_all_that_it_needs() {
        let words = "/src/a/su -c id\nsu: must be run from a terminal";
        let told = |options: &[&str], only| hinted(&container(options, only), 1000, words, SET_UID);
        let both = told(&[], true).unwrap();
        assert!(
            both.contains("only with `options: [suid]` of the mount at /src and `no_new_privileges: false`"),
            "{both}"
        );
        assert!(told(&["suid"], true).unwrap().ends_with("only with `no_new_privileges: false` of the container"));
        assert!(told(&[], false).unwrap().ends_with("only with `options: [suid]` of the mount at /src"));
        assert_eq!(told(&["suid"], false), None);
        assert_eq!(hinted(&container(&[], true), 0, words, SET_UID), None);
    }
}
