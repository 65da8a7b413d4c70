//! The plan of a step's own view in the flat form that init takes: what belongs to one process table or IPC namespace.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use super::filter::Filter;
use super::request::Writer;
use crate::runtime::lost_mount::mounts_at_risk;
use crate::runtime::options::Options;
use crate::runtime::wire::view;

/// Whether each step gets a mount anew, and the container itself has none.
pub fn is_fresh(mount: &Mount) -> bool {
    let default_shm = mount.destination() == Path::new("/dev/shm") && mount.typ().as_deref() == Some("tmpfs");
    matches!(mount.typ().as_deref(), Some("proc" | "mqueue")) || default_shm
}

/// Whether a mount is over a directory that `setup` has made for it, and that only a step that may unmount can write to.
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
    last.is_some_and(|last| last.destination() == Path::new("/dev") && last.typ().as_deref() == Some("tmpfs"))
}

/// Whether a path lies in a process table, which only a step has.
pub fn in_proc(spec: &Spec, path: &str) -> bool {
    let mut tables = spec.mounts().iter().flatten().filter(|mount| mount.typ().as_deref() == Some("proc"));
    tables.any(|mount| Path::new(path).starts_with(mount.destination()))
}

/// Whether steps can take mounts of their container down, and then remove the places of these: with the capability, or with
/// that of a user namespace of their own.
pub fn may_unmount(filter: &Filter, bounding: u64) -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    bounding & SYS_ADMIN != 0 || filter.inherited.is_empty() || filter.mounts || filter.namespaces
}

/// Where each mount of the view is, by its number.
pub fn targets(spec: &Spec, may_unmount: bool) -> Vec<PathBuf> {
    let own = own(spec).into_iter().map(|mount| mount.destination().clone());
    let watched = watched(spec, may_unmount).into_iter().map(|mount| mount.destination().clone());
    own.chain(watched).chain(read_only(spec).map(PathBuf::from)).chain(masked(spec).map(PathBuf::from)).collect()
}

/// The mounts that each step makes: those that are anew, and the container's that lie below one of them.
fn own(spec: &Spec) -> Vec<&Mount> {
    let mut fresh: Vec<&Path> = Vec::new();
    let mut own = Vec::new();
    for mount in spec.mounts().iter().flatten() {
        let place = mount.destination();
        if is_fresh(mount) {
            fresh.push(place);
        } else if !fresh.iter().any(|above| place != *above && place.starts_with(above)) {
            continue;
        }
        own.push(mount);
    }
    own
}

/// The mounts of the container that are looked at before each step and after it; those of a step's own are its own.
fn watched(spec: &Spec, may_unmount: bool) -> Vec<&Mount> {
    let own = own(spec);
    let removable = mounts_at_risk(spec, may_unmount);
    removable.into_iter().filter(|mount| !own.contains(mount)).collect()
}

fn read_only(spec: &Spec) -> impl Iterator<Item = &String> {
    let linux = spec.linux().as_ref();
    linux.and_then(|linux| linux.readonly_paths().as_ref()).into_iter().flatten().filter(|path| in_proc(spec, path))
}

fn masked(spec: &Spec) -> impl Iterator<Item = &String> {
    let linux = spec.linux().as_ref();
    linux.and_then(|linux| linux.masked_paths().as_ref()).into_iter().flatten().filter(|path| in_proc(spec, path))
}

/// The whole plan, with the seccomp filter that each step gets and the capabilities that each may have.
///
/// # Errors
/// Where a mount has an option that takes no value: none of these filesystems has one.
pub fn encode(spec: &Spec, filter: &Filter, bounding: u64) -> io::Result<Vec<u8>> {
    let may_unmount = may_unmount(filter, bounding);
    let mut bytes = Writer::default();
    let confined = !filter.inherited.is_empty() && !filter.mounts;
    bytes.0.push(if filter.first { view::FILTER_FIRST } else { 0 } | if confined { view::CONFINED } else { 0 });
    bytes.u64(bounding);
    for program in [&filter.inherited, &filter.own] {
        bytes.count(program.len());
        bytes.0.extend(program);
    }
    bytes.count(targets(spec, may_unmount).len());
    for mount in own(spec) {
        if !is_fresh(mount) {
            bytes.0.push(view::BELOW);
            bytes.text(mount.destination().as_os_str().as_bytes());
            continue;
        }
        let options = Options::of(mount);
        let kind = mount.typ().as_deref().unwrap_or_default().as_bytes();
        let mut pairs: Vec<&[u8]> = vec![b"source", kind];
        for (key, value) in &options.data {
            let value = value.as_ref().ok_or_else(|| io::Error::other(format!("the option {key} needs a value")))?;
            pairs.extend([key.as_bytes(), value.as_bytes()]);
        }
        bytes.0.push(if is_over_empty(spec, mount) { view::FRESH_OVER_EMPTY } else { view::FRESH });
        bytes.u64(options.set);
        bytes.text(kind);
        bytes.text(mount.destination().as_os_str().as_bytes());
        bytes.texts(&pairs);
    }
    for mount in watched(spec, may_unmount) {
        bytes.0.push(view::WATCHED);
        bytes.text(mount.destination().as_os_str().as_bytes());
    }
    for path in read_only(spec) {
        bytes.0.push(view::READ_ONLY);
        bytes.text(path.as_bytes());
    }
    for path in masked(spec) {
        bytes.0.push(view::MASKED);
        bytes.text(path.as_bytes());
    }
    Ok(bytes.0)
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxBuilder, MountBuilder, SpecBuilder};

    use super::*;
    use crate::runtime::wire::{View, ViewMount};

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

    #[test]
    fn a_view_has_the_mounts_of_a_process_table_and_no_others() {
        let spec = spec();
        let expected = ["/proc", "/dev/shm", "/mqueue", "/dev/shm/below", "/dev/mqueue", "/proc/sys", "/proc/keys"]
            .map(PathBuf::from);
        assert_eq!(targets(&spec, false), expected);
        let filter = Filter { inherited: vec![1; 16], own: vec![2; 8], first: true, ..Filter::default() };
        let bytes = encode(&spec, &filter, 1 << 40 | 3).unwrap();
        let view = View::parse(&bytes).unwrap();
        assert_eq!((view.inherited_filter, view.own_filter), (&[1u8; 16][..], &[2u8; 8][..]));
        assert_eq!((view.filter_first, view.bounding), (true, 1 << 40 | 3));
        assert!(view.confined);
        let mounts: Vec<_> = view.mounts().collect();
        assert_eq!(mounts.len(), targets(&spec, false).len());
        assert!(matches!(
            mounts[0],
            ViewMount::Fresh { over_empty: false, attributes: 14, kind: b"proc\0", target: b"/proc\0", .. }
        ));
        let ViewMount::Fresh { over_empty: false, options, .. } = mounts[1] else { panic!("{mounts:?}") };
        assert_eq!(
            options.collect::<Vec<_>>(),
            [&b"source\0"[..], b"tmpfs\0", b"mode\0", b"1777\0", b"size\0", b"65536k\0"]
        );
        assert!(matches!(mounts[2], ViewMount::Fresh { over_empty: false, kind: b"mqueue\0", .. }));
        assert!(matches!(mounts[3], ViewMount::Below(b"/dev/shm/below\0")));
        assert!(matches!(mounts[4], ViewMount::Fresh { over_empty: true, kind: b"mqueue\0", .. }));
        assert!(matches!(mounts[5], ViewMount::ReadOnly(b"/proc/sys\0")));
        assert!(matches!(mounts[6], ViewMount::Masked(b"/proc/keys\0")));
    }

    #[test]
    fn a_mount_that_lies_in_a_bind_is_watched_unless_it_is_of_a_step() {
        let mount =
            |(target, kind): (&str, &str)| MountBuilder::default().destination(target).typ(kind).build().unwrap();
        let mounts = [("/shared", "bind"), ("/shared/proc", "proc"), ("/shared/below", "bind")];
        let spec = SpecBuilder::default().mounts(mounts.map(mount)).build().unwrap();
        let confining = Filter { inherited: vec![1; 16], ..Filter::default() };
        let watched = |filter: &Filter, bounding: u64| -> Vec<_> {
            let bytes = encode(&spec, filter, bounding).unwrap();
            let view = View::parse(&bytes).unwrap();
            let mounts = view.mounts().zip(targets(&spec, may_unmount(filter, bounding)));
            mounts.filter(|(mount, _)| matches!(mount, ViewMount::Watched(_))).map(|(_, target)| target).collect()
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
    fn a_cut_view_is_refused() {
        let bytes = encode(&spec(), &Filter::default(), 0).unwrap();
        for length in 0..bytes.len() {
            assert!(View::parse(&bytes[..length]).is_none(), "{length}");
        }
    }
}
