//! Encodes a step's own mounts in the flat form that init reads: those that belong to one process table or IPC namespace.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use super::filter::Filter;
use super::nodes::{self, DevFile, DevFileKind};
use super::request::Writer;
use crate::runtime::lost_mount::mounts_at_risk;
use crate::runtime::options::Options;
use crate::runtime::spec;
use crate::runtime::wire::step_setup;
use crate::seccomp::Kernel;

/// Returns whether each step makes a mount anew, and the container itself does not have it.
pub fn is_fresh(mount: &Mount) -> bool {
    match mount.typ().as_deref() {
        Some("proc" | "mqueue" | "devpts") => true,
        // Any other tmpfs is made by the session, and bound.
        Some("tmpfs") => is_dev(mount) || mount.destination() == Path::new("/dev/shm"),
        _ => false,
    }
}

/// Returns whether a mount is the `/dev` that is made from config.json's devices.
fn is_dev(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("tmpfs") && mount.destination() == Path::new("/dev")
}

/// Returns whether a mount is a filesystem in `/dev` that is the same for each step until a step changes it.
fn is_in_dev(mount: &Mount) -> bool {
    let place = mount.destination();
    match mount.typ().as_deref() {
        Some("devpts") => place == Path::new("/dev/pts"),
        Some("tmpfs") => place == Path::new("/dev/shm"),
        _ => false,
    }
}

/// Returns whether a mount lies in one that each step makes anew.
pub fn is_in_fresh(spec: &Spec, mount: &Mount) -> bool {
    let place = mount.destination();
    let before = spec.mounts().iter().flatten().take_while(|other| *other != mount);
    before
        .filter(|other| is_fresh(other))
        .any(|above| place != above.destination() && place.starts_with(above.destination()))
}

/// Returns whether a mount covers a directory that `setup` has made for it, and that only a step that may unmount can write to.
fn is_over_empty(spec: &Spec, mount: &Mount) -> bool {
    let place = mount.destination();
    if spec
        .mounts()
        .iter()
        .flatten()
        .any(|other| other.destination() != place && other.destination().starts_with(place))
    {
        return false;
    }
    let below = |other: &&Mount| mount.destination().starts_with(other.destination());
    let last = spec.mounts().iter().flatten().take_while(|other| *other != mount).filter(below).last();
    last.is_some_and(is_dev)
}

/// Returns whether a path lies in a process table, which only a step has.
pub fn in_proc(spec: &Spec, path: &str) -> bool {
    let mut tables = spec.mounts().iter().flatten().filter(|mount| mount.typ().as_deref() == Some("proc"));
    tables.any(|mount| Path::new(path).starts_with(mount.destination()))
}

/// Returns whether steps can unmount mounts of their container, and then remove the mount points: with their own capability, or
/// with that of a user namespace that they make.
pub fn may_unmount(filter: &Filter, bounding: u64) -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    bounding & SYS_ADMIN != 0 || filter.inherited.is_empty() || filter.mounts || filter.namespaces
}

/// Returns whether a mount is a `/dev` that the container needs too, below that of each step: one that contains mounts of the
/// container, which each step moves to its own. The container never has a process table, because it would show init.
pub fn contains_mounts(spec: &Spec, mount: &Mount) -> bool {
    let in_dev = |other: &Mount| mount.destination() != other.destination() && other.destination().starts_with("/dev");
    is_dev(mount) && spec.mounts().iter().flatten().any(|other| in_dev(other) && !is_fresh(other))
}

/// One entry of a step's mounts.
enum Entry<'a> {
    /// A new mount.
    Fresh(&'a Mount),
    /// A new file in `/dev`.
    File(DevFile),
    /// A mount of the container that lies in a new mount.
    Below(&'a Mount),
    /// A mount of the container that is checked before and after each step.
    Watched(&'a Mount),
    ReadOnly(&'a str),
    Masked(&'a str),
}

impl Entry<'_> {
    fn target(&self) -> PathBuf {
        match self {
            Self::Fresh(mount) | Self::Below(mount) | Self::Watched(mount) => mount.destination().clone(),
            Self::File(file) => Path::new("/dev").join(&file.path),
            Self::ReadOnly(path) | Self::Masked(path) => PathBuf::from(path),
        }
    }
}

/// Lists the entries that make a `/dev`, with the mount points of the filesystems in it.
fn own_dev(spec: &Spec) -> io::Result<Vec<Entry<'_>>> {
    let mounts = || spec.mounts().iter().flatten();
    let Some(dev) = mounts().find(|mount| is_dev(mount)) else {
        return Ok(mounts().filter(|mount| is_in_dev(mount)).map(Entry::Fresh).collect());
    };
    let mut entries = vec![Entry::Fresh(dev)];
    entries.extend(nodes::files(spec)?.into_iter().map(Entry::File));
    let places =
        mounts().filter(|mount| is_fresh(mount)).filter_map(|mount| mount.destination().strip_prefix("/dev").ok());
    let places = places.filter(|path| path.components().count() == 1).map(Path::to_owned);
    entries.extend(places.map(|path| Entry::File(DevFile { path, kind: DevFileKind::Directory })));
    entries.extend(mounts().filter(|mount| is_in_dev(mount)).map(Entry::Fresh));
    Ok(entries)
}

/// Lists all entries, in the order in which a step makes them.
fn entries(spec: &Spec, may_unmount: bool) -> io::Result<Vec<Entry<'_>>> {
    let mut entries = own_dev(spec)?;
    for mount in spec.mounts().iter().flatten() {
        if is_fresh(mount) && !is_dev(mount) && !is_in_dev(mount) {
            entries.push(Entry::Fresh(mount));
        } else if !is_fresh(mount) && is_in_fresh(spec, mount) {
            entries.push(Entry::Below(mount));
        }
    }
    let at_risk = mounts_at_risk(spec, may_unmount).into_iter();
    entries.extend(at_risk.filter(|mount| !is_fresh(mount)).map(Entry::Watched));
    entries.extend(read_only(spec).map(|path| Entry::ReadOnly(path)));
    entries.extend(masked(spec).map(|path| Entry::Masked(path)));
    Ok(entries)
}

/// Returns the target of each entry, by its index.
///
/// # Errors
/// Those of [`nodes::files`].
pub fn targets(spec: &Spec, may_unmount: bool) -> io::Result<Vec<PathBuf>> {
    Ok(entries(spec, may_unmount)?.iter().map(Entry::target).collect())
}

fn read_only(spec: &Spec) -> impl Iterator<Item = &String> {
    let linux = spec.linux().as_ref();
    linux.and_then(|linux| linux.readonly_paths().as_ref()).into_iter().flatten().filter(|path| in_proc(spec, path))
}

fn masked(spec: &Spec) -> impl Iterator<Item = &String> {
    let linux = spec.linux().as_ref();
    linux.and_then(|linux| linux.masked_paths().as_ref()).into_iter().flatten().filter(|path| in_proc(spec, path))
}

/// Returns whether a step may reuse the `/dev` of one that has ended: not where steps may unmount, because they see the files
/// below a mount in it, and not where other mounts of the container are attached in each `/dev`.
fn reuses_dev(spec: &Spec, may_unmount: bool) -> bool {
    !may_unmount && !spec.mounts().iter().flatten().any(|mount| contains_mounts(spec, mount))
}

/// Returns whether a change of a file in a tmpfs always has another time than the one that was read before it, however soon it
/// follows: Linux has such multigrain timestamps since 6.13, see its Documentation/filesystems/multigrain-ts.rst.
fn has_fine_times(kernel: Kernel) -> bool {
    (kernel.version, kernel.revision) >= (6, 13)
}

/// Encodes the whole description, with the seccomp filter of each step and the capabilities that each may have.
///
/// # Errors
/// Those of [`nodes::files`].
pub fn encode(spec: &Spec, filter: &Filter, bounding: u64) -> io::Result<Vec<u8>> {
    let may_unmount = may_unmount(filter, bounding);
    let mut bytes = Writer::default();
    let confined = !filter.inherited.is_empty() && !filter.mounts;
    let flags = [
        (filter.is_loaded_first, step_setup::FILTER_FIRST),
        (confined, step_setup::CONFINED),
        (spec::kernel().is_ok_and(has_fine_times), step_setup::FINE_TIMES),
        (reuses_dev(spec, may_unmount), step_setup::REUSES_DEV),
    ];
    bytes.0.push(flags.into_iter().filter(|(is_set, _)| *is_set).fold(0, |all, (_, flag)| all | flag));
    bytes.u64(bounding);
    for program in [&filter.inherited, &filter.own] {
        bytes.count(program.len());
        bytes.0.extend(program);
    }
    let has_dev = spec.mounts().iter().flatten().any(is_dev);
    bytes.count(if has_dev { own_dev(spec)?.len() } else { 0 });
    let entries = entries(spec, may_unmount)?;
    bytes.count(entries.len());
    for entry in &entries {
        match entry {
            Entry::Fresh(mount) => encode_fresh(&mut bytes, spec, mount),
            Entry::File(file) => encode_file(&mut bytes, file),
            Entry::Below(mount) => tagged(&mut bytes, step_setup::BELOW, mount.destination().as_os_str()),
            Entry::Watched(mount) => tagged(&mut bytes, step_setup::WATCHED, mount.destination().as_os_str()),
            Entry::ReadOnly(path) => tagged(&mut bytes, step_setup::READ_ONLY, path),
            Entry::Masked(path) => tagged(&mut bytes, step_setup::MASKED, path),
        }
    }
    Ok(bytes.0)
}

fn tagged(bytes: &mut Writer, tag: u8, path: impl AsRef<OsStr>) {
    bytes.0.push(tag);
    bytes.text(path.as_ref().as_bytes());
}

fn encode_fresh(bytes: &mut Writer, spec: &Spec, mount: &Mount) {
    let options = Options::of(mount);
    let kind = mount.typ().as_deref().unwrap_or_default().as_bytes();
    let mut pairs: Vec<&[u8]> = vec![b"source", kind];
    for (key, value) in &options.data {
        pairs.extend([key.as_bytes(), value.as_deref().unwrap_or_default().as_bytes()]);
    }
    bytes.0.push(if is_over_empty(spec, mount) { step_setup::FRESH_OVER_EMPTY } else { step_setup::FRESH });
    bytes.u64(options.set);
    bytes.text(kind);
    bytes.text(mount.destination().as_os_str().as_bytes());
    bytes.texts(&pairs);
}

fn encode_file(bytes: &mut Writer, file: &DevFile) {
    let path = file.path.as_os_str();
    match &file.kind {
        DevFileKind::Directory => tagged(bytes, step_setup::DIRECTORY, path),
        DevFileKind::Node { mode, major, minor, uid, gid } => {
            bytes.0.push(step_setup::NODE);
            for number in [mode, major, minor, uid, gid] {
                bytes.u32(*number);
            }
            bytes.text(path.as_bytes());
        }
        DevFileKind::Link { target } => {
            bytes.0.push(step_setup::LINK);
            bytes.text(target.as_bytes());
            bytes.text(path.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxBuilder, MountBuilder, SpecBuilder};

    use super::*;
    use crate::runtime::wire::{MountEntry, StepSetup};

    fn spec() -> Spec {
        let mount = |target: &str, kind: &str, options: &[&str]| {
            let options: Vec<String> = options.iter().map(ToString::to_string).collect();
            MountBuilder::default().destination(target).typ(kind).options(options).build().unwrap()
        };
        let paths = |paths: &[&str]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
        let linux = LinuxBuilder::default()
            .masked_paths(paths(&["/proc/keys", "/sys/firmware"]))
            .readonly_paths(paths(&["/proc/sys"]))
            .build();
        let mounts = vec![
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["mode=755"]),
            mount("/dev/shm", "tmpfs", &["mode=1777", "size=65536k"]),
            mount("/mqueue", "mqueue", &[]),
            mount("/dev/shm/below", "bind", &["rbind"]),
            mount("/dev/shmother", "bind", &["rbind"]),
            mount("/dev/mqueue", "mqueue", &[]),
        ];
        SpecBuilder::default().mounts(mounts).linux(linux.unwrap()).build().unwrap()
    }

    fn lines(setup: &StepSetup<'_>) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.strip_suffix(b"\0").unwrap().to_vec()).unwrap();
        setup
            .mounts()
            .map(|mount| match mount {
                MountEntry::Fresh { over_empty, attributes, kind, target, options } => {
                    let over = if over_empty { " over an empty directory" } else { "" };
                    let options: Vec<String> = options.map(text).collect();
                    format!("{} {} {attributes}{over}: {}", text(kind), text(target), options.join(" "))
                }
                MountEntry::Directory(path) => format!("directory {}", text(path)),
                MountEntry::Node { mode, major, minor, path, .. } => {
                    format!("node {} {mode:o} {major}:{minor}", text(path))
                }
                MountEntry::Link { target, path } => format!("link {} to {}", text(path), text(target)),
                MountEntry::Below(path) => format!("below {}", text(path)),
                MountEntry::ReadOnly(path) => format!("read-only {}", text(path)),
                MountEntry::Masked(path) => format!("masked {}", text(path)),
                MountEntry::Watched(path) => format!("watched {}", text(path)),
            })
            .collect()
    }

    #[test]
    fn a_step_makes_its_own_dev_and_the_mounts_of_its_process_table() {
        let spec = spec();
        let filter = Filter { inherited: vec![1; 16], own: vec![2; 8], is_loaded_first: true, ..Filter::default() };
        let bytes = encode(&spec, &filter, 1 << 40 | 3).unwrap();
        let setup = StepSetup::parse(&bytes).unwrap();
        assert_eq!((setup.inherited_filter, setup.own_filter), (&[1u8; 16][..], &[2u8; 8][..]));
        assert_eq!((setup.filter_first, setup.bounding), (true, 1 << 40 | 3));
        assert!(setup.confined);
        let words = lines(&setup);
        assert_eq!(words.len(), targets(&spec, false).unwrap().len());
        // The number depends on the host, whose kernel may have no /proc/kcore.
        let files = nodes::files(&spec).unwrap().len();
        assert_eq!(words[..2], ["tmpfs /dev 0: source tmpfs mode 755", "node null 20666 1:3"]);
        let after = [
            "directory shm",
            "directory mqueue",
            "tmpfs /dev/shm 0: source tmpfs mode 1777 size 65536k",
            "proc /proc 14: source proc",
            "mqueue /mqueue 0: source mqueue",
            "below /dev/shm/below",
            "below /dev/shmother",
            "mqueue /dev/mqueue 0 over an empty directory: source mqueue",
            "read-only /proc/sys",
            "masked /proc/keys",
        ];
        assert_eq!(words[files + 1..], after);
    }

    #[test]
    fn a_dev_is_reused_where_it_contains_no_mount_of_the_container_and_steps_may_not_unmount() {
        let dev_entries = |spec: &Spec, bounding: u64| {
            let filter = Filter { inherited: vec![1; 16], ..Filter::default() };
            let bytes = encode(spec, &filter, bounding).unwrap();
            let setup = StepSetup::parse(&bytes).unwrap();
            let words: Vec<String> = lines(&setup).into_iter().take(setup.dev_entries).collect();
            (words, setup.reuses_dev)
        };
        let of = |targets: &[(&str, &str)]| {
            let mount = |(target, kind): &(&str, &str)| {
                MountBuilder::default().destination(*target).typ(*kind).options(Vec::new()).build().unwrap()
            };
            SpecBuilder::default().mounts(targets.iter().map(mount).collect::<Vec<_>>()).build().unwrap()
        };
        let usual = [
            ("/proc", "proc"),
            ("/dev", "tmpfs"),
            ("/dev/pts", "devpts"),
            ("/dev/mqueue", "mqueue"),
            ("/dev/shm", "tmpfs"),
        ];
        let (usual_dev, is_reused) = dev_entries(&of(&usual), 0);
        assert!(is_reused);
        assert_eq!(usual_dev[0], "tmpfs /dev 0: source tmpfs");
        let over = "0 over an empty directory: source";
        let last = [format!("devpts /dev/pts {over} devpts"), format!("tmpfs /dev/shm {over} tmpfs")];
        assert_eq!(usual_dev[usual_dev.len() - 2..], last);
        assert_eq!(dev_entries(&of(&usual), 1 << 21), (usual_dev.clone(), false));
        for other in [("/dev/own", "bind"), ("/dev/shm/own", "bind"), ("/dev/own", "hugetlbfs")] {
            assert!(!dev_entries(&of(&[&usual[..], &[other]].concat()), 0).1, "{other:?}");
        }
        assert_eq!(dev_entries(&of(&[&usual[..], &[("/device", "bind")]].concat()), 0), (usual_dev, true));
        assert!(dev_entries(&of(&[("/proc", "proc"), ("/dev", "bind")]), 0).0.is_empty());
    }

    #[test]
    fn a_mount_in_a_bind_is_watched_unless_each_step_makes_it_anew() {
        let mount =
            |(target, kind): (&str, &str)| MountBuilder::default().destination(target).typ(kind).build().unwrap();
        let mounts = [("/shared", "bind"), ("/shared/proc", "proc"), ("/shared/below", "bind")];
        let spec = SpecBuilder::default().mounts(mounts.map(mount)).build().unwrap();
        let confining = Filter { inherited: vec![1; 16], ..Filter::default() };
        let watched = |filter: &Filter, bounding: u64| -> Vec<_> {
            let bytes = encode(&spec, filter, bounding).unwrap();
            let setup = StepSetup::parse(&bytes).unwrap();
            let mounts = setup.mounts().zip(targets(&spec, may_unmount(filter, bounding)).unwrap());
            mounts.filter(|(mount, _)| matches!(mount, MountEntry::Watched(_))).map(|(_, target)| target).collect()
        };
        assert_eq!(watched(&confining, !(1 << 21)), [PathBuf::from("/shared/below")]);
        let all = ["/shared", "/shared/below"].map(PathBuf::from);
        assert_eq!(watched(&confining, 1 << 21), all);
        assert_eq!(watched(&Filter::default(), 0), all);
        for filter in [Filter { mounts: true, ..confining.clone() }, Filter { namespaces: true, ..confining.clone() }] {
            assert_eq!(watched(&filter, 0), all);
        }
    }

    #[test]
    fn a_truncated_description_is_refused() {
        let bytes = encode(&spec(), &Filter::default(), 0).unwrap();
        for length in 0..bytes.len() {
            assert!(StepSetup::parse(&bytes[..length]).is_none(), "{length}");
        }
    }
}
