//! Prepares a container's own mounts on the host's side: each becomes a bind mount (or a kernel mount) of the bundle.
//!
//! Tmpfs mounts, other kernel mounts that are no step's own, binds, secrets and device nodes outside `/dev` are made
//! here, in runner's mount namespace. They belong to the session, so all its steps share them, with any runtime.
//!
//! A bind is a copy of the mount at its source, made from the descriptor of the source; a runtime binds that copy.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount as OciMount, MountBuilder};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid, chmodat, chownat, fstat, makedev, mknodat};
use rustix::io::fcntl_dupfd_cloexec;

use super::filesystems::{kernel, new_tmpfs};
pub use super::fixed_mounts::MountSources;
use super::fixed_mounts::{attach_image, bind_fixed};
use super::mount_options::{bind_options, flags_only, is_program, recursive, safe};
use super::secrets;
use super::skeleton::MountPoint;
use crate::error::context;
use crate::model::{Container, Mount, MountKind, Secret};
use crate::mount::{BindOptions, Mounted, bind, cover, make_mount_point};
use crate::named_paths::NamedPaths;
use crate::runtime::embedded::INIT;
use crate::runtime::external::INIT_PATH;
use crate::secret::Secrets;
use crate::ssh_agent::AgentSocket;

/// The type of a filesystem in memory that has no size, which sessions treat as tmpfs.
pub const RAMFS: &str = "ramfs";

/// The directory, inside a container, of its steps' scripts.
pub const SCRIPTS: &str = "/dev/runner";

/// Filesystems that show the namespaces of the process that mounts them, which must be those of a step. So the runtime mounts them.
const OF_A_STEP: [&str; 6] = ["proc", "sysfs", "mqueue", "devpts", "cgroup", "cgroup2"];

/// One mount, prepared for a bundle.
#[derive(Debug)]
pub struct PreparedMount {
    point: MountPoint,
    kind: String,
    source: PathBuf,
    options: Vec<String>,
    in_bundle: InBundle,
    /// The directories that hide the store, relative to the target.
    covered: Vec<PathBuf>,
}

/// The replacement of a mount in the bundle directory, because the session's own mounts end with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InBundle {
    /// The mount itself.
    Same,
    /// A mount of this type, from this source, with these options.
    Like(String, PathBuf, Vec<String>),
    /// No mount.
    Omitted,
}

impl PreparedMount {
    /// Returns the mount point.
    pub fn point(&self) -> &MountPoint {
        &self.point
    }

    /// Returns the mount for config.json, with the target `real`.
    ///
    /// # Errors
    /// None in practice: every required field is set.
    pub fn oci(&self, real: &Path) -> io::Result<OciMount> {
        MountBuilder::default()
            .destination(real)
            .typ(&self.kind)
            .source(&self.source)
            .options(self.options.clone())
            .build()
            .map_err(io::Error::other)
    }

    /// Returns the mount for the config.json of the bundle directory; none if it is omitted there.
    ///
    /// # Errors
    /// None in practice: every required field is set.
    pub fn oci_in_bundle(&self, real: &Path) -> io::Result<Option<OciMount>> {
        let (kind, source, options) = match &self.in_bundle {
            InBundle::Same => (&self.kind, &self.source, &self.options),
            InBundle::Like(kind, source, options) => (kind, source, options),
            InBundle::Omitted => return Ok(None),
        };
        let mount = MountBuilder::default().destination(real).typ(kind).source(source).options(options.clone());
        mount.build().map(Some).map_err(io::Error::other)
    }

    fn bind(target: &Path, name: String, source: PathBuf, options: Vec<String>) -> io::Result<Self> {
        let metadata = std::fs::metadata(&source).map_err(context(format_args!("look at {}", source.display())))?;
        let is_directory = metadata.is_dir();
        let point = MountPoint { target: target.to_owned(), is_directory, content: Some(source.clone()), name };
        Ok(Self { point, kind: "bind".into(), source, options, in_bundle: InBundle::Same, covered: Vec::new() })
    }

    /// Returns a mount that nothing can write to, of the files at `place`. They are not mounted any more when somebody runs the bundle.
    fn fixed(mount: &Mount, place: PathBuf) -> io::Result<Self> {
        let mut options = safe(bind_options(&mount.options, false));
        options.push("ro".into());
        Ok(Self::bind(&mount.target, mount.kind.name(), place, options)?.with_bundle(InBundle::Omitted))
    }

    /// Returns whether a path below the target is in a directory that hides the store.
    pub fn hides_store(&self, path: &Path) -> bool {
        let below = path.strip_prefix(&self.point.target);
        below.is_ok_and(|below| self.covered.iter().any(|covered| below.starts_with(covered)))
    }

    fn with_bundle(self, in_bundle: InBundle) -> Self {
        Self { in_bundle, ..self }
    }
}

/// The mounts of a session, and the kernel mounts on which they depend.
#[derive(Debug)]
pub struct SessionMounts {
    prepared: Vec<PreparedMount>,
    /// The tmpfs and ramfs mounts, each with its target.
    tmpfs: Vec<(PathBuf, Mounted)>,
    /// The secrets that belong to the user of the step: the file of each, and whether its user and its group are the step's.
    of_user: Vec<(PathBuf, bool, bool)>,
    /// The sockets that pass requests on to SSH agents.
    _agents: Vec<AgentSocket>,
    /// The other kernel mounts of the session.
    _others: Vec<Mounted>,
}

impl SessionMounts {
    /// Prepares the mounts of `container` in `directory`, a new directory in memory.
    /// The values of the container's secrets are added to `secrets`. For a runtime that `is_external` it adds the program of the
    /// steps' first processes, if the container has `init: true`.
    ///
    /// # Errors
    /// With the mount's target: a removed source, options that the kernel refuses.
    pub fn prepare(
        container: &Container,
        outside_dev: &[&LinuxDevice],
        directory: &Path,
        paths: &NamedPaths,
        sources: MountSources<'_>,
        secrets: &Secrets,
        is_external: bool,
    ) -> io::Result<Self> {
        let mut prepared = Vec::new();
        let mut tmpfs = Vec::new();
        let mut of_user = Vec::new();
        let mut others = Vec::new();
        let mut agents = Vec::new();
        for (index, mount) in container.mounts.iter().enumerate() {
            let place = directory.join(format!("mount{index}"));
            let made = match &mount.kind {
                MountKind::Bind(source) => bind_source(source, &place, &mount.options, paths).and_then(|bound| {
                    let (mounted, covered) = bound;
                    others.push(mounted);
                    let options = safe(bind_options(&mount.options, true));
                    let in_bundle = InBundle::Like("bind".into(), source.clone(), options.clone());
                    let ready = PreparedMount::bind(&mount.target, mount.kind.name(), place, recursive(options))?
                        .with_bundle(in_bundle);
                    Ok(PreparedMount { covered, ..ready })
                }),
                MountKind::Tmpfs => new_tmpfs(&place, &mount.options).and_then(|mounted| {
                    tmpfs.push((mount.target.clone(), mounted));
                    let ready = PreparedMount::bind(
                        &mount.target,
                        mount.kind.name(),
                        place,
                        bind_options(&flags_only(&mount.options), false),
                    )?;
                    Ok(ready.with_bundle(InBundle::Like("tmpfs".into(), "tmpfs".into(), mount.options.clone())))
                }),
                MountKind::Cache(found) => (sources.cache)(&found.id).and_then(|source| {
                    set_owner(&source, &mount.options, 0o755)?;
                    PreparedMount::bind(
                        &mount.target,
                        mount.kind.name(),
                        source,
                        safe(bind_options(&flags_only(&mount.options), false)),
                    )
                }),
                MountKind::Snapshot { step, path } => (sources.snapshot)(*step, path)
                    .and_then(|file| bind_fixed(&file, &place, &mount.options))
                    .and_then(|mounted| {
                        others.push(mounted);
                        PreparedMount::fixed(mount, place)
                    }),
                MountKind::Image(source) => attach_image(source, &place, paths).and_then(|mounted| {
                    others.push(mounted);
                    PreparedMount::fixed(mount, place)
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
                        // The bundle directory must not contain a secret.
                        Ok(PreparedMount::bind(&mount.target, mount.kind.name(), place, options)?
                            .with_bundle(InBundle::Omitted))
                    })
                }
                MountKind::Ssh(Secret::Variable(variable)) => Err(io::Error::other(format!("{variable} is not set"))),
                MountKind::Ssh(Secret::File(path)) => listen(path, &place, &mount.options, paths).and_then(|agent| {
                    agents.push(agent);
                    let owned = |key: &str| !mount.options.iter().any(|option| option.starts_with(key));
                    of_user.push((place.clone(), owned("uid="), owned("gid=")));
                    let options = ["bind", "ro", "nosuid", "nodev", "noexec"].map(String::from).to_vec();
                    Ok(PreparedMount::bind(&mount.target, mount.kind.name(), place, options)?
                        .with_bundle(InBundle::Omitted))
                }),
                MountKind::Kernel(kind, source) if !OF_A_STEP.contains(&kind.as_str()) => {
                    let source = Path::new(source);
                    kernel(kind, source, &place, &mount.options, paths).and_then(|mounted| {
                        if kind == RAMFS {
                            tmpfs.push((mount.target.clone(), mounted));
                        } else {
                            others.push(mounted);
                        }
                        let options = bind_options(&flags_only(&mount.options), false);
                        let like = InBundle::Like(kind.clone(), source.to_owned(), mount.options.clone());
                        Ok(PreparedMount::bind(&mount.target, mount.kind.name(), place, options)?.with_bundle(like))
                    })
                }
                MountKind::Kernel(kind, source) => Ok(PreparedMount {
                    point: MountPoint {
                        target: mount.target.clone(),
                        is_directory: true,
                        content: None,
                        name: mount.kind.name(),
                    },
                    kind: kind.clone(),
                    source: source.into(),
                    options: mount.options.clone(),
                    in_bundle: InBundle::Same,
                    covered: Vec::new(),
                }),
            };
            prepared.push(made.map_err(context(format_args!("mount {}", mount.target.display())))?);
        }
        for (index, device) in outside_dev.iter().enumerate() {
            let place = directory.join(format!("device{index}"));
            make_node(&place, device)
                .map_err(context(format_args!("make the device node {}", device.path().display())))?;
            // In the bundle directory it is a device like those below /dev.
            prepared.push(
                PreparedMount::bind(
                    device.path(),
                    format!("the device node {}", device.path().display()),
                    place,
                    bind_options(&[], false),
                )?
                .with_bundle(InBundle::Omitted),
            );
        }
        if container.has_scripts {
            let place = directory.join("scripts");
            DirBuilder::new().mode(0o755).create(&place)?;
            std::fs::set_permissions(&place, Permissions::from_mode(0o755))?;
            let options = ["bind", "ro", "nosuid", "nodev"].map(String::from).to_vec();
            prepared.push(
                PreparedMount::bind(Path::new(SCRIPTS), "the scripts of steps".to_owned(), place, options)?
                    .with_bundle(InBundle::Omitted),
            );
        }
        if container.init && is_external {
            // A copy for this session alone, and read-only inside, so that no process inside can reach runner's program.
            let place = directory.join("init");
            File::options().write(true).create_new(true).mode(0o555).open(&place)?.write_all(INIT)?;
            std::fs::set_permissions(&place, Permissions::from_mode(0o555))?;
            let options = ["bind", "ro", "nosuid", "nodev"].map(String::from).to_vec();
            prepared.push(
                PreparedMount::bind(Path::new(INIT_PATH), "the first process of steps".to_owned(), place, options)?
                    .with_bundle(InBundle::Omitted),
            );
        }
        // Deeper mounts come later, so that no mount is hidden by the one above it.
        prepared.sort_by_key(|mount| mount.point.target.components().count());
        Ok(Self { prepared, tmpfs, of_user, _agents: agents, _others: others })
    }

    /// Makes the user of a step that is about to start the owner of the secrets for which the manifest names no owner.
    ///
    /// # Errors
    /// Those of chown(2).
    pub fn change_secret_owners(&self, uid: u32, gid: u32) -> io::Result<()> {
        for (file, user, group) in &self.of_user {
            let (uid, gid) = (user.then_some(Uid::from_raw(uid)), group.then_some(Gid::from_raw(gid)));
            chownat(CWD, file, uid, gid, AtFlags::empty())
                .map_err(context("make the step's user the owner of a secret"))?;
        }
        Ok(())
    }

    /// Returns the targets of the tmpfs mounts that contain more than mount points of other mounts.
    ///
    /// # Errors
    /// Those of reading the mounts.
    pub fn nonempty_tmpfs(&self) -> io::Result<Vec<PathBuf>> {
        let mut nonempty = Vec::new();
        for (target, mounted) in &self.tmpfs {
            let listed = std::fs::read_dir(mounted.path()).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            for entry in listed.map_err(context(format_args!("list the tmpfs {}", target.display())))? {
                let inside = target.join(entry.file_name());
                if !self.prepared.iter().any(|mount| mount.point.target.starts_with(&inside)) {
                    nonempty.push(target.clone());
                    break;
                }
            }
        }
        Ok(nonempty)
    }

    /// Returns the tmpfs and ramfs mounts: the target of each, and its path in the workspace.
    pub fn tmpfs(&self) -> impl Iterator<Item = (&Path, &Path)> {
        self.tmpfs.iter().map(|(target, mounted)| (target.as_path(), mounted.path()))
    }

    /// Returns the mounts in the order in which they must be mounted.
    pub fn prepared(&self) -> &[PreparedMount] {
        &self.prepared
    }
}

/// Makes the mount point `place`, and binds a source of the manifest there, by the descriptor that was opened when the build began.
/// Also returns the directories in it that hide the store.
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
    let options = BindOptions {
        recursive: !options.iter().any(|option| option == "bind"),
        read_only: is_on("ro", "rw"),
        suid: is_on("suid", "nosuid"),
        dev: is_on("dev", "nodev"),
        propagates: options.iter().any(|option| propagations.contains(&option.as_str())),
    };
    let store = paths.store_below(source);
    let mounted = bind(file.as_fd(), place, options, store);
    let mounted = mounted.map_err(context(format_args!("bind {}", source.display())))?;
    let covered = store.map(|store| cover(place, store)).transpose();
    Ok((mounted, covered.map_err(context(format_args!("hide the store in {}", source.display())))?.unwrap_or_default()))
}

/// Makes the socket `place` for the agent at `path`, which was opened when the build began.
fn listen(path: &Path, place: &Path, options: &[String], paths: &NamedPaths) -> io::Result<AgentSocket> {
    let agent = fcntl_dupfd_cloexec(paths.get(path)?.as_fd(), 0)?;
    let socket = AgentSocket::listen(place, agent)?;
    set_owner(place, options, 0o600)?;
    Ok(socket)
}

fn write_secret(
    place: &Path,
    secret: &Secret,
    options: &[String],
    paths: &NamedPaths,
    masked: &Secrets,
) -> io::Result<()> {
    let bytes = secrets::read(secret, paths, masked)?;
    File::options().write(true).create_new(true).mode(0o600).open(place)?.write_all(&bytes)?;
    set_owner(place, options, 0o400)
}

/// Applies `mode=`, `uid=` and `gid=`.
fn set_owner(path: &Path, options: &[String], mode: u32) -> io::Result<()> {
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
