//! Checks of mounts: their type, the keys that it permits, and their options.

mod fixed;
mod options;
mod ssh;
mod targets;

use std::io;
use std::path::Path;

use super::build::{AbsentSecret, CacheMount, Mount, MountKind, Secret, Sharing};
use super::check::{Check, PathCheck, has_nul, missing};
use super::containers::Definitions;
use super::host::FileKind;
use crate::diagnostic::{Place, Problem, Trail};
use crate::manifest::MountDef;

/// The options of any mount of a known type.
const ACCESS: &[&str] = &["ro", "rw", "nodev", "nosuid", "noexec"];
/// The other options of binds and tmpfs.
const FLAGS: &[&str] = &["dev", "suid", "exec", "noatime", "relatime", "nodiratime"];
/// The other options of binds.
const BIND: &[&str] = &["bind", "rbind", "private", "rprivate", "slave", "rslave", "shared", "rshared"];
/// The other options of a cache.
const WITH_PRIVILEGES: &[&str] = &["suid", "dev"];
const OWNER: &[&str] = &["mode", "uid", "gid"];
const TMPFS: &[&str] = &["size", "mode", "uid", "gid", "nr_inodes"];

/// The filesystems of Linux, also those of modules; names of `FUSE` filesystems follow a dot.
const FILESYSTEMS: [&str; 72] = [
    "9p",
    "adfs",
    "affs",
    "afs",
    "anon_inodefs",
    "autofs",
    "bcachefs",
    "bdev",
    "befs",
    "bfs",
    "binder",
    "binfmt_misc",
    "bpf",
    "btrfs",
    "ceph",
    "cgroup",
    "cgroup2",
    "cifs",
    "coda",
    "configfs",
    "cpuset",
    "cramfs",
    "dax",
    "debugfs",
    "devpts",
    "devtmpfs",
    "ecryptfs",
    "efivarfs",
    "efs",
    "erofs",
    "exfat",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "fuse",
    "fuseblk",
    "fusectl",
    "gfs2",
    "hfs",
    "hfsplus",
    "hostfs",
    "hpfs",
    "hugetlbfs",
    "iso9660",
    "jffs2",
    "jfs",
    "minix",
    "mqueue",
    "msdos",
    "nfs",
    "nfs4",
    "nilfs2",
    "nsfs",
    "ntfs3",
    "ocfs2",
    "orangefs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "resctrl",
    "romfs",
    "securityfs",
    "selinuxfs",
    "smb3",
    "squashfs",
    "sysfs",
    "tracefs",
    "udf",
    "vfat",
    "xfs",
];

/// The types that are not filesystems of the kernel.
const TYPES: [&str; 7] = ["bind", "tmpfs", "cache", "secret", "ssh", "snapshot", "image"];

impl Check<'_> {
    pub(super) fn mount(&mut self, def: &MountDef, at: &Trail<'_>, known: &Definitions<'_>) -> Mount {
        let target = match &def.target {
            Some(target) => {
                let at = at.key("target");
                let path = self.absolute(&at, "target", target);
                if target == "/" {
                    let problem = Problem::new(&at, "nothing can be mounted over the root").label("this is the root");
                    self.add(problem.help("write a directory inside; the root comes from `rootfs`"));
                }
                self.refuse_below_proc(&at, &path);
                path
            }
            None if def.r#type.as_deref() == Some("ssh") => ssh::TARGET.into(),
            None => {
                let problem = Problem::new(missing(at, "target"), "the mount has no target").label("in this mount");
                self.add(problem.help("write `target: /path/inside`"));
                Default::default()
            }
        };
        let kind = match def.r#type.as_deref() {
            None => {
                let problem = Problem::new(missing(at, "type"), "the mount has no type").label("in this mount");
                self.add(problem.help(
                    "write `type: bind`, `tmpfs`, `cache`, `secret`, `ssh`, `snapshot`, `image` or a kernel filesystem",
                ));
                MountKind::Tmpfs
            }
            Some("") => {
                let problem = Problem::new(&at.key("type"), "the mount's type is empty").label("a type is missing");
                self.add(problem.help(
                    "write `type: bind`, `tmpfs`, `cache`, `secret`, `ssh`, `snapshot`, `image` or a kernel filesystem",
                ));
                MountKind::Tmpfs
            }
            Some("bind") => self.bind(def, at),
            Some("tmpfs") => {
                self.only(def, at, "a tmpfs", &[]);
                self.options(def, at, &[ACCESS, FLAGS], TMPFS);
                MountKind::Tmpfs
            }
            Some("cache") => {
                self.only(def, at, "a cache", &["id", "sharing"]);
                self.options(def, at, &[ACCESS, WITH_PRIVILEGES], OWNER);
                if let Some(id) = &def.id {
                    self.no_nul(&at.key("id"), id);
                    if id.is_empty() {
                        let problem = Problem::new(&at.key("id"), "the cache's id is empty").label("an id is missing");
                        self.add(problem.help("leave it out: the target is the default"));
                    }
                }
                let id = def.id.clone().unwrap_or_else(|| target.display().to_string());
                MountKind::Cache(CacheMount { id, sharing: self.sharing(def, at) })
            }
            Some("secret") => self.secret(def, at),
            Some("snapshot") => self.snapshot_mount(def, at, known),
            Some("image") => self.image_mount(def, at, known),
            Some("ssh") => self.ssh(def, at),
            Some(filesystem) => {
                self.no_nul(&at.key("type"), filesystem);
                self.filesystem(&at.key("type"), filesystem);
                self.only(def, at, &format!("a {filesystem} mount"), &["source", "cache"]);
                let source = def.source.clone().unwrap_or_else(|| filesystem.to_owned());
                self.no_nul(&at.key("source"), &source);
                for (n, option) in def.options.iter().flatten().enumerate() {
                    self.option_text(&at.key("options").index(n), option);
                }
                MountKind::Kernel(filesystem.to_owned(), source)
            }
        };
        if matches!(
            kind,
            MountKind::Tmpfs
                | MountKind::Cache(_)
                | MountKind::Secret(_)
                | MountKind::Ssh(_)
                | MountKind::Snapshot { .. }
                | MountKind::Image(_)
        ) && def.target.is_some()
        {
            self.refuse_per_step_path(&at.key("target"), &target);
        }
        let ignored = self.ignored(def, at);
        Mount { kind, target, options: def.options.clone().unwrap_or_default(), ignored }
    }

    /// Refuses a type that neither runner nor any Linux knows, unless this host's kernel has it.
    fn filesystem(&mut self, at: &Trail<'_>, name: &str) {
        let is_known = FILESYSTEMS.contains(&name) || name.starts_with("fuse.") || name.starts_with("fuseblk.");
        if is_known || self.host.filesystems().iter().any(|loaded| loaded == name) {
            return;
        }
        let problem = Problem::new(at, format!("`{name}` is not a type of mount")).label("not known here");
        let help = match self.nearest(name, TYPES.iter().chain(&FILESYSTEMS).copied().collect::<Vec<_>>().into_iter()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "write `bind`, `tmpfs`, `cache`, `secret`, `ssh`, `snapshot`, `image` or a filesystem of the kernel; where this kernel has one called \
                 `{name}`, `modprobe {name}` makes it known"
            ),
        };
        self.add(problem.help(help));
    }

    fn sharing(&mut self, def: &MountDef, at: &Trail<'_>) -> Sharing {
        let Some(word) = &def.sharing else { return Sharing::Shared };
        let words = [("shared", Sharing::Shared), ("locked", Sharing::Locked)];
        self.choice(&at.key("sharing"), "sharing", word, &words, Sharing::Shared)
    }

    /// Returns whether the mount has `cache: ignore`.
    fn ignored(&mut self, def: &MountDef, at: &Trail<'_>) -> bool {
        let Some(word) = &def.cache else { return false };
        let at = at.key("cache");
        self.choice(&at, "cache", word, &[("ignore", ())], ());
        true
    }

    fn bind(&mut self, def: &MountDef, at: &Trail<'_>) -> MountKind {
        self.only(def, at, "a bind mount", &["source", "cache"]);
        self.options(def, at, &[ACCESS, FLAGS, BIND], &[]);
        let Some(source) = &def.source else {
            let problem = Problem::new(missing(at, "source"), "the bind mount has no source").label("in this mount");
            self.add(problem.help("write `source: PATH`, relative to the manifest"));
            return MountKind::Bind(Default::default());
        };
        let at = at.key("source");
        let path = self.on_host(&at, "bind source", source);
        if self.is_of_output(&at, source, &path) {
            return MountKind::Bind(path);
        }
        if !source.is_empty() {
            use FileKind::{BlockDevice, CharDevice, Dir, File, Other};
            self.exists(&at, "bind source", &path, &[Dir, File, CharDevice, BlockDevice, Other]);
        }
        MountKind::Bind(path)
    }

    /// Refuses a source that does not exist yet because the first build would make it for an output, which is too late.
    fn is_of_output(&mut self, at: &Trail<'_>, source: &str, path: &Path) -> bool {
        let is_missing = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
        if source.is_empty() || has_nul(path) || !self.host.node(path).is_err_and(is_missing) {
            return false;
        }
        let found = self.outputs.iter().find(|(output, _)| *output != path && output.starts_with(path));
        let Some((_, step)) = found else { return false };
        let problem =
            Problem::new(at, format!("the bind source `{}` does not exist", path.display())).label("not found");
        let problem = problem.help(format!(
            "`mkdir -p {}` makes it; step `{step}` writes its output there, and the source of a bind must exist before anything runs",
            path.display()
        ));
        self.add(problem);
        true
    }

    fn secret(&mut self, def: &MountDef, at: &Trail<'_>) -> MountKind {
        self.only(def, at, "a secret", &["source", "env"]);
        self.options(def, at, &[ACCESS], OWNER);
        match (&def.source, &def.env) {
            (Some(source), None) => {
                let at = at.key("source");
                let path = self.on_host(&at, "secret file", source);
                let secret = Secret::File(path.clone());
                if !source.is_empty() {
                    match self.look(&at, "secret file", &path, &[FileKind::File]) {
                        PathCheck::Found | PathCheck::Skipped => {}
                        PathCheck::Absent(problem) => {
                            self.absent_secrets.push(AbsentSecret { secret: secret.clone(), problem });
                        }
                        PathCheck::WrongKind(problem) => self.add(problem),
                    }
                }
                MountKind::Secret(secret)
            }
            (None, Some(variable)) => {
                let at = at.key("env");
                self.variable_name(|| Place::from(&at), variable);
                let secret = Secret::Variable(variable.clone());
                if !self.host.has_variable(variable) {
                    let problem = self.unset_variable(&at, variable);
                    self.absent_secrets.push(AbsentSecret { secret: secret.clone(), problem });
                }
                MountKind::Secret(secret)
            }
            (Some(_), Some(_)) => {
                let problem = Problem::new(Place::key(at.key("env").path()), "the secret has two sources");
                let problem = problem.label("a variable").related(Place::key(at.key("source").path()), "and a file");
                self.add(problem.help("keep one of `source` and `env`"));
                MountKind::Secret(Secret::Variable(String::new()))
            }
            (None, None) => {
                let problem = Problem::new(missing(at, "source"), "the secret has no source").label("in this mount");
                // The part that could not be read may be either of them.
                if !self.unknown_paths.covers(&at.key("env").path()) {
                    self.add(problem.help("write `source: FILE` or `env: VARIABLE`"));
                }
                MountKind::Secret(Secret::Variable(String::new()))
            }
        }
    }

    fn unset_variable(&mut self, at: &Trail<'_>, variable: &str) -> Problem {
        let set = self.host.variables();
        let near = self.nearest(variable, set.iter().map(String::as_str));
        let near = near.map_or_else(String::new, |near| format!("did you mean `{near}`, which is set? Otherwise "));
        let problem = Problem::new(at, format!("the variable `{variable}` of the secret is not set"));
        problem.label("not in the environment of runner").help(format!(
            "{near}run `export {variable}=…` first; sudo passes it on with `sudo --preserve-env={variable} runner …`"
        ))
    }

    /// Refuses keys that have no meaning for this type of mount.
    fn only(&mut self, def: &MountDef, at: &Trail<'_>, what: &str, allowed: &[&str]) {
        let keys = [
            ("source", def.source.is_some()),
            ("id", def.id.is_some()),
            ("sharing", def.sharing.is_some()),
            ("env", def.env.is_some()),
            ("cache", def.cache.is_some()),
            ("step", def.step.is_some()),
            ("path", def.path.is_some()),
        ];
        for (key, _) in keys.into_iter().filter(|(key, there)| *there && !allowed.contains(key)) {
            let place = Place::key(at.key(key).path());
            self.add(
                Problem::new(place, format!("{what} has no `{key}`")).label("means nothing here").help("remove it"),
            );
        }
    }
}
