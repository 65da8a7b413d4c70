//! A container's own mounts, made ready on the host's side: each becomes a bind mount (or a kernel mount) of the bundle.
//!
//! Tmpfs mounts, other kernel mounts that are no step's own, binds, secrets and device nodes outside `/dev` are made
//! here, in runner's mount namespace, and belong to the session: they last over its steps with any runtime.
//!
//! A bind is a copy of what is mounted at its source, made from the descriptor of the source; a runtime binds that copy.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount as OciMount, MountBuilder};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid, chmodat, chownat, fstat, makedev, mknodat};

use super::filesystems::{kernel, new_tmpfs};
use super::secrets;
use super::skeleton::MountPoint;
use crate::error::context;
use crate::model::{Container, MountKind, Secret};
use crate::mount::{BindOptions, Mounted, bind, cover, make_mount_point};
use crate::named_paths::NamedPaths;
use crate::runtime::embedded::INIT;
use crate::runtime::external::INIT_PATH;
use crate::secret::Secrets;

/// Memory too, that nobody else sees.
pub const RAMFS: &str = "ramfs";

/// Where the scripts of steps are, inside.
pub const SCRIPTS: &str = "/dev/runner";

/// Filesystems that show the namespaces of whoever mounts them: those of a step, which the runtime makes.
const OF_A_STEP: [&str; 6] = ["proc", "sysfs", "mqueue", "devpts", "cgroup", "cgroup2"];

/// One mount, ready for a bundle.
#[derive(Debug)]
pub struct Ready {
    point: MountPoint,
    kind: String,
    source: PathBuf,
    options: Vec<String>,
    by_hand: ByHand,
    /// The directories in it that hide the store, from its target on.
    covered: Vec<PathBuf>,
}

/// What stands for a mount in a bundle that is kept, for what a session makes is gone with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ByHand {
    /// The mount itself.
    Same,
    /// One of this type, from this source, with these options.
    Like(String, PathBuf, Vec<String>),
    /// Nothing.
    LeftOut,
}

impl Ready {
    /// Where it is to be mounted.
    pub fn point(&self) -> &MountPoint {
        &self.point
    }

    /// As config.json says it, mounted at `real`.
    ///
    /// # Errors
    /// None in practice: every required field is given.
    pub fn oci(&self, real: &Path) -> io::Result<OciMount> {
        MountBuilder::default()
            .destination(real)
            .typ(&self.kind)
            .source(&self.source)
            .options(self.options.clone())
            .build()
            .map_err(io::Error::other)
    }

    /// As the config.json of a bundle that is kept says it; none where there is nothing to say.
    ///
    /// # Errors
    /// None in practice: every required field is given.
    pub fn oci_by_hand(&self, real: &Path) -> io::Result<Option<OciMount>> {
        let (kind, source, options) = match &self.by_hand {
            ByHand::Same => (&self.kind, &self.source, &self.options),
            ByHand::Like(kind, source, options) => (kind, source, options),
            ByHand::LeftOut => return Ok(None),
        };
        let mount = MountBuilder::default().destination(real).typ(kind).source(source).options(options.clone());
        mount.build().map(Some).map_err(io::Error::other)
    }

    fn bind(target: &Path, name: String, source: PathBuf, options: Vec<String>) -> io::Result<Self> {
        let found = std::fs::metadata(&source).map_err(context(format_args!("look at {}", source.display())))?;
        let folder = found.is_dir();
        let point = MountPoint { target: target.to_owned(), folder, content: Some(source.clone()), name };
        Ok(Self { point, kind: "bind".into(), source, options, by_hand: ByHand::Same, covered: Vec::new() })
    }

    /// Whether a path below its target is in a directory that hides the store.
    pub fn hides_store(&self, path: &Path) -> bool {
        let below = path.strip_prefix(&self.point.target);
        below.is_ok_and(|below| self.covered.iter().any(|covered| below.starts_with(covered)))
    }

    fn kept_as(self, by_hand: ByHand) -> Self {
        Self { by_hand, ..self }
    }
}

/// The mounts of a session, and what they need to stay.
#[derive(Debug)]
pub struct SessionMounts {
    ready: Vec<Ready>,
    /// The tmpfs mounts and their like, each with its target.
    tmpfs: Vec<(PathBuf, Mounted)>,
    /// Secrets that belong to the user of the step: the file of each, and whether the user and the group do.
    of_user: Vec<(PathBuf, bool, bool)>,
    /// Other kernel mounts that are the session's.
    _kept: Vec<Mounted>,
}

impl SessionMounts {
    /// Makes the mounts of `container` ready in `folder`, a new folder in memory; cache mounts are folders of `caches`. The
    /// values of its secrets are added to `secrets`. A runtime that `is_external` is given the program of steps' first
    /// processes, where these are not the steps' own.
    ///
    /// # Errors
    /// With the mount's target: a source that is gone, options that the kernel does not take.
    pub fn prepare(
        container: &Container,
        outside_dev: &[&LinuxDevice],
        folder: &Path,
        paths: &NamedPaths,
        cache: impl Fn(&str) -> io::Result<PathBuf>,
        secrets: &Secrets,
        is_external: bool,
    ) -> io::Result<Self> {
        let mut ready = Vec::new();
        let mut tmpfs = Vec::new();
        let mut of_user = Vec::new();
        let mut kept = Vec::new();
        for (index, mount) in container.mounts.iter().enumerate() {
            let place = folder.join(format!("mount{index}"));
            let made = match &mount.kind {
                MountKind::Bind(source) => bind_source(source, &place, &mount.options, paths).and_then(|bound| {
                    let (mounted, covered) = bound;
                    kept.push(mounted);
                    let options = safe(bind_options(&mount.options, true));
                    let by_hand = ByHand::Like("bind".into(), source.clone(), options.clone());
                    let ready = Ready::bind(&mount.target, mount.kind.name(), place, whole(options))?.kept_as(by_hand);
                    Ok(Ready { covered, ..ready })
                }),
                MountKind::Tmpfs => new_tmpfs(&place, &mount.options).and_then(|mounted| {
                    tmpfs.push((mount.target.clone(), mounted));
                    let ready = Ready::bind(
                        &mount.target,
                        mount.kind.name(),
                        place,
                        bind_options(&flags_only(&mount.options), false),
                    )?;
                    Ok(ready.kept_as(ByHand::Like("tmpfs".into(), "tmpfs".into(), mount.options.clone())))
                }),
                MountKind::Cache(known) => cache(&known.id).and_then(|source| {
                    own(&source, &mount.options, 0o755)?;
                    Ready::bind(
                        &mount.target,
                        mount.kind.name(),
                        source,
                        safe(bind_options(&flags_only(&mount.options), false)),
                    )
                }),
                MountKind::Secret(secret) => {
                    write_secret(&place, secret, &mount.options, paths, secrets).and_then(|()| {
                        let owned = |key: &str| !mount.options.iter().any(|option| option.starts_with(key));
                        of_user.push((place.clone(), owned("uid="), owned("gid=")));
                        let mut options = bind_options(&flags_only(&mount.options), false);
                        options.extend(["ro", "nosuid", "nodev"].map(String::from));
                        if !is_program(&mount.options) {
                            options.push("noexec".into());
                        }
                        // A bundle that is kept must not keep a secret.
                        Ok(Ready::bind(&mount.target, mount.kind.name(), place, options)?.kept_as(ByHand::LeftOut))
                    })
                }
                MountKind::Kernel(kind, source) if !OF_A_STEP.contains(&kind.as_str()) => {
                    let source = Path::new(source);
                    kernel(kind, source, &place, &mount.options, paths).and_then(|mounted| {
                        if kind == RAMFS {
                            tmpfs.push((mount.target.clone(), mounted));
                        } else {
                            kept.push(mounted);
                        }
                        let options = bind_options(&flags_only(&mount.options), false);
                        let like = ByHand::Like(kind.clone(), source.to_owned(), mount.options.clone());
                        Ok(Ready::bind(&mount.target, mount.kind.name(), place, options)?.kept_as(like))
                    })
                }
                MountKind::Kernel(kind, source) => Ok(Ready {
                    point: MountPoint {
                        target: mount.target.clone(),
                        folder: true,
                        content: None,
                        name: mount.kind.name(),
                    },
                    kind: kind.clone(),
                    source: source.into(),
                    options: mount.options.clone(),
                    by_hand: ByHand::Same,
                    covered: Vec::new(),
                }),
            };
            ready.push(made.map_err(context(format_args!("mount {}", mount.target.display())))?);
        }
        for (index, device) in outside_dev.iter().enumerate() {
            let place = folder.join(format!("device{index}"));
            make_node(&place, device)
                .map_err(context(format_args!("make the device node {}", device.path().display())))?;
            // In a bundle that is kept it is a device like those below /dev.
            ready.push(
                Ready::bind(
                    device.path(),
                    format!("the device node {}", device.path().display()),
                    place,
                    bind_options(&[], false),
                )?
                .kept_as(ByHand::LeftOut),
            );
        }
        if container.has_scripts {
            let place = folder.join("scripts");
            DirBuilder::new().mode(0o755).create(&place)?;
            std::fs::set_permissions(&place, Permissions::from_mode(0o755))?;
            let options = ["bind", "ro", "nosuid", "nodev"].map(String::from).to_vec();
            ready.push(
                Ready::bind(Path::new(SCRIPTS), "the scripts of steps".to_owned(), place, options)?
                    .kept_as(ByHand::LeftOut),
            );
        }
        if container.init && is_external {
            // A copy of the session's own, and read-only where it is seen: nothing inside has a way to runner's program.
            let place = folder.join("init");
            File::options().write(true).create_new(true).mode(0o555).open(&place)?.write_all(INIT)?;
            std::fs::set_permissions(&place, Permissions::from_mode(0o555))?;
            let options = ["bind", "ro", "nosuid", "nodev"].map(String::from).to_vec();
            ready.push(
                Ready::bind(Path::new(INIT_PATH), "the first process of steps".to_owned(), place, options)?
                    .kept_as(ByHand::LeftOut),
            );
        }
        // What lies deeper is mounted later, so that nothing is hidden by its own parent.
        ready.sort_by_key(|mount| mount.point.target.components().count());
        Ok(Self { ready, tmpfs, of_user, _kept: kept })
    }

    /// Gives the secrets for which the manifest names no owner to the user of a step that is about to start.
    ///
    /// # Errors
    /// What chown(2) says.
    pub fn give_secrets(&self, uid: u32, gid: u32) -> io::Result<()> {
        for (file, user, group) in &self.of_user {
            let (uid, gid) = (user.then_some(Uid::from_raw(uid)), group.then_some(Gid::from_raw(gid)));
            chownat(CWD, file, uid, gid, AtFlags::empty()).map_err(context("give a secret to the step's user"))?;
        }
        Ok(())
    }

    /// Targets of the tmpfs mounts that hold more than mount points of other mounts.
    ///
    /// # Errors
    /// What reading them gives.
    pub fn tmpfs_left(&self) -> io::Result<Vec<PathBuf>> {
        let mut left = Vec::new();
        for (target, mounted) in &self.tmpfs {
            let listed = std::fs::read_dir(mounted.path()).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            for entry in listed.map_err(context(format_args!("list the tmpfs {}", target.display())))? {
                let inside = target.join(entry.file_name());
                if !self.ready.iter().any(|mount| mount.point.target.starts_with(&inside)) {
                    left.push(target.clone());
                    break;
                }
            }
        }
        Ok(left)
    }

    /// The tmpfs mounts and their like: the target of each, and where it is.
    pub fn tmpfs(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.tmpfs.iter().map(|(target, mounted)| (target.as_path(), mounted.path()))
    }

    /// In the order in which they are to be mounted.
    pub fn ready(&self) -> &[Ready] {
        &self.ready
    }
}

/// A bind mount takes what is mounted below its source along, as Docker's do, and is as read-only there as above.
fn bind_options(options: &[String], recursive: bool) -> Vec<String> {
    let chosen = options.iter().any(|option| option == "bind" || option == "rbind");
    let mut all: Vec<String> = options.to_vec();
    if !chosen {
        all.insert(0, if recursive { "rbind" } else { "bind" }.into());
    }
    let whole = all.iter().any(|option| option == "rbind");
    if whole && all.iter().any(|option| option == "ro") {
        all.push("rro".into());
    }
    all
}

/// Files of the host's that steps write must be no way to its privileges, unless that is asked for.
fn safe(mut options: Vec<String>) -> Vec<String> {
    for (safe, unsafe_) in [("nosuid", "suid"), ("nodev", "dev")] {
        if !options.iter().any(|option| option == safe || option == unsafe_) {
            options.push(safe.into());
        }
    }
    options
}

/// Binds what a source of the manifest led to when the build began, at `place`, a path to be made. Returns the directories in
/// it too that hide the store.
fn bind_source(
    source: &Path,
    place: &Path,
    options: &[String],
    paths: &NamedPaths,
) -> io::Result<(Mounted, Vec<PathBuf>)> {
    let file = paths.get(source)?;
    let is_directory = FileType::from_raw_mode(fstat(&file)?.st_mode) == FileType::Directory;
    make_mount_point(place, is_directory)?;
    let is_on = |on: &str, off: &str| options.iter().rev().find(|o| *o == on || *o == off).is_some_and(|o| o == on);
    let propagations = ["shared", "rshared", "slave", "rslave"];
    let wanted = BindOptions {
        recursive: !options.iter().any(|option| option == "bind"),
        read_only: is_on("ro", "rw"),
        suid: is_on("suid", "nosuid"),
        dev: is_on("dev", "nodev"),
        propagates: options.iter().any(|option| propagations.contains(&option.as_str())),
    };
    let store = paths.store_below(source);
    let mounted = bind(file.as_fd(), place, wanted, store);
    let mounted = mounted.map_err(context(format_args!("bind {}", source.display())))?;
    let covered = store.map(|store| cover(place, store)).transpose();
    Ok((mounted, covered.map_err(context(format_args!("hide the store in {}", source.display())))?.unwrap_or_default()))
}

/// Binds the copy with all that is mounted below it: as far as that was asked for, and what covers the store.
fn whole(options: Vec<String>) -> Vec<String> {
    options.into_iter().map(|option| if option == "bind" { "rbind".into() } else { option }).collect()
}

/// Without what is data of a filesystem, `KEY=VALUE`.
fn flags_only(options: &[String]) -> Vec<String> {
    options.iter().filter(|option| !option.contains('=')).cloned().collect()
}

fn write_secret(
    place: &Path,
    secret: &Secret,
    options: &[String],
    paths: &NamedPaths,
    known: &Secrets,
) -> io::Result<()> {
    let bytes = secrets::read(secret, paths, known)?;
    File::options().write(true).create_new(true).mode(0o600).open(place)?.write_all(&bytes)?;
    own(place, options, 0o400)
}

/// Whether a secret is to be executed, such as an askpass script: its `mode` says so.
fn is_program(options: &[String]) -> bool {
    let mode = options.iter().rev().find_map(|option| option.strip_prefix("mode="));
    mode.and_then(|mode| u32::from_str_radix(mode, 8).ok()).is_some_and(|mode| mode & 0o111 != 0)
}

/// Applies `mode=`, `uid=` and `gid=`.
fn own(path: &Path, options: &[String], mode: u32) -> io::Result<()> {
    let value = |key: &str| options.iter().rev().find_map(|option| option.strip_prefix(key)?.strip_prefix('='));
    let number = |key: &str| value(key).map(|text| text.parse::<u32>().map_err(io::Error::other)).transpose();
    let mode = value("mode").map_or(Ok(mode), |text| u32::from_str_radix(text, 8)).map_err(io::Error::other)?;
    let (uid, gid) = (number("uid")?, number("gid")?);
    chownat(CWD, path, uid.map(Uid::from_raw), gid.map(Gid::from_raw), AtFlags::empty())?;
    Ok(chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty())?)
}

fn make_node(place: &Path, device: &LinuxDevice) -> io::Result<()> {
    let kind = match device.typ() {
        LinuxDeviceType::B => rustix::fs::FileType::BlockDevice,
        _ => rustix::fs::FileType::CharacterDevice,
    };
    let number = |number: i64| u32::try_from(number).map_err(io::Error::other);
    let id = makedev(number(device.major())?, number(device.minor())?);
    mknodat(CWD, place, kind, Mode::empty(), id)?;
    let (uid, gid) = (device.uid().map(Uid::from_raw), device.gid().map(Gid::from_raw));
    chownat(CWD, place, uid, gid, AtFlags::empty())?;
    Ok(chmodat(CWD, place, Mode::from_raw_mode(device.file_mode().unwrap_or(0o600)), AtFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(options: &[&str]) -> Vec<String> {
        options.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_read_only_bind_is_read_only_with_all_that_is_mounted_below() {
        assert_eq!(bind_options(&strings(&["ro"]), true), strings(&["rbind", "ro", "rro"]));
        assert_eq!(bind_options(&strings(&["bind", "ro"]), true), strings(&["bind", "ro"]));
        assert_eq!(bind_options(&strings(&["nodev"]), false), strings(&["bind", "nodev"]));
    }

    #[test]
    fn a_bind_is_without_set_uid_programs_and_devices_unless_they_are_asked_for() {
        assert_eq!(safe(strings(&["rbind"])), strings(&["rbind", "nosuid", "nodev"]));
        assert_eq!(safe(strings(&["rbind", "suid"])), strings(&["rbind", "suid", "nodev"]));
        assert_eq!(safe(strings(&["dev", "nosuid", "bind"])), strings(&["dev", "nosuid", "bind"]));
    }

    #[test]
    fn a_secret_can_be_executed_where_its_mode_says_so() {
        for (options, is) in [(&["mode=0500"][..], true), (&["mode=0400"], false), (&[], false), (&["uid=7"], false)] {
            assert_eq!(is_program(&strings(options)), is, "{options:?}");
        }
    }

    #[test]
    fn the_data_of_a_tmpfs_is_no_option_of_its_bind_mount() {
        assert_eq!(flags_only(&strings(&["nodev", "size=1m", "mode=1777"])), strings(&["nodev"]));
    }
}
