//! Checks of the target of a mount, and of its mount point in a read-only bind.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::diagnostic::{Problem, Trail};
use crate::model::build::{Mount, MountKind};
use crate::model::check::{Check, has_nul};
use crate::model::host::FileKind;

/// The files of /proc that a mount may replace with every runtime.
const REPLACEABLE: [&str; 8] = ["cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime"];

/// The paths at which each step has a filesystem or a device of its own, which programs need.
const PER_STEP_PATHS: [&str; 12] = [
    "/proc",
    "/dev",
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/console",
    "/dev/ptmx",
    "/dev/pts",
    "/sys",
];

impl Check<'_> {
    /// Refuses a target at which each step has files of its own: programs do not work without them.
    pub(super) fn refuse_per_step_path(&mut self, at: &Trail<'_>, target: &Path) {
        if PER_STEP_PATHS.iter().any(|own| Path::new(own) == target) {
            let problem = Problem::new(at, format!("nothing of a build can be mounted over {}", target.display()));
            let problem = problem.label("each step has its own here");
            self.add(problem.help("mount it elsewhere: programs do not work without the files that a step has there"));
        }
    }

    /// Refuses a target below /proc or /dev/mqueue: only the kernel makes files there, so no mount point can be made.
    pub(super) fn refuse_below_proc(&mut self, at: &Trail<'_>, target: &Path) {
        let name = target.strip_prefix("/proc").ok().and_then(Path::to_str);
        let problem = if name.is_some_and(|name| !name.is_empty() && !REPLACEABLE.contains(&name)) {
            let help = format!("below /proc a file can replace {} alone; mount it elsewhere", REPLACEABLE.join(", "));
            Problem::new(at, format!("nothing can be mounted on {}", target.display())).label("below /proc").help(help)
        } else if target.starts_with("/dev/mqueue") && target != Path::new("/dev/mqueue") {
            Problem::new(at, format!("nothing can be mounted on {}", target.display()))
                .label("below /dev/mqueue")
                .help("mount it elsewhere: each step has message queues of its own there, and nothing else")
        } else {
            return;
        };
        self.add(problem);
    }

    /// Refuses a mount in a read-only bind whose source has no mount point: none can be made there. If the manifest
    /// has a writable bind of the source, a step may make it.
    pub(in crate::model) fn mount_point(
        &mut self,
        at: &Trail<'_>,
        mount: &Mount,
        mounts: &[Mount],
        known: &BTreeMap<&str, Mount>,
    ) {
        let is_above = |other: &&Mount| {
            other.target.is_absolute() && mount.target != other.target && mount.target.starts_with(&other.target)
        };
        let above = mounts.iter().filter(is_above).max_by_key(|other| other.target.components().count());
        let Some(Mount { kind: MountKind::Bind(source), target, .. }) = above.filter(|above| above.is_read_only())
        else {
            return;
        };
        let Ok(below) = mount.target.strip_prefix(target) else { return };
        let place = source.join(below);
        if has_nul(&place) || !source.is_absolute() {
            return;
        }
        // Inside, a link may lead to another file than on the host.
        let on_the_way = place.ancestors().take_while(|path| path != source);
        let mut on_the_way = on_the_way.map(|path| self.host.node(path));
        let has_link = on_the_way.any(|node| matches!(node, Ok(FileKind::Symlink)));
        let may_make = |other: &Mount| match &other.kind {
            MountKind::Bind(source) => {
                !other.is_read_only() && (place.starts_with(source) || source.starts_with(&place))
            }
            _ => false,
        };
        let is_missing = |kind: io::Result<FileKind>| kind.is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if has_link
            || self.host.kind(source).ok() != Some(FileKind::Dir)
            || !is_missing(self.host.kind(&place))
            || mounts.iter().chain(known.values()).any(may_make)
        {
            return;
        }
        let message = format!("there is no {} to mount {} on", place.display(), mount.target.display());
        let problem = Problem::new(at, message).label(format!("{} is read-only", target.display()));
        let is_directory = match &mount.kind {
            MountKind::Bind(source) => self.host.kind(source).ok() == Some(FileKind::Dir),
            MountKind::Secret(_) | MountKind::Ssh(_) => false,
            MountKind::Tmpfs
            | MountKind::Cache(_)
            | MountKind::Snapshot { .. }
            | MountKind::Image(_)
            | MountKind::Kernel(..) => true,
        };
        let make = if is_directory { "mkdir -p" } else { "touch" };
        self.add(problem.help(format!("make it before: `{make} {}`", place.display())));
    }
}
