//! Checks of mounts whose content no step changes: snapshots and images.

use std::path::PathBuf;

use super::ACCESS;
use crate::diagnostic::{Problem, Trail};
use crate::manifest::MountDef;
use crate::model::build::MountKind;
use crate::model::check::{Check, missing};
use crate::model::containers::Definitions;
use crate::model::host::FileKind;

/// The options of such a mount beside those of any mount.
const PRIVILEGES: &[&str] = &["suid", "dev", "exec"];

impl Check<'_> {
    pub(super) fn snapshot_mount(&mut self, def: &MountDef, at: &Trail<'_>, known: &Definitions<'_>) -> MountKind {
        self.only(def, at, "a snapshot", &["step", "path"]);
        self.fixed_options(def, at, "a snapshot");
        let path = match &def.path {
            Some(path) => self.absolute(&at.key("path"), "path", path),
            None => PathBuf::from("/"),
        };
        let Some(name) = &def.step else {
            let problem = Problem::new(missing(at, "step"), "the mount names no snapshot").label("in this mount");
            self.add(problem.help("write `step:` and the name of a snapshot step"));
            return MountKind::Tmpfs;
        };
        match self.snapshot_step(name, &at.key("step"), known) {
            Some(step) => MountKind::Snapshot { step, path },
            None => MountKind::Tmpfs,
        }
    }

    pub(super) fn image_mount(&mut self, def: &MountDef, at: &Trail<'_>, known: &Definitions<'_>) -> MountKind {
        self.only(def, at, "an image", &["source"]);
        self.fixed_options(def, at, "an image");
        let Some(source) = &def.source else {
            let problem = Problem::new(missing(at, "source"), "the image has no source").label("in this mount");
            self.add(problem.help("write `source: FILE`, a squashfs or EROFS image, relative to the manifest"));
            return MountKind::Tmpfs;
        };
        let at = at.key("source");
        let path = self.on_host(&at, "image", source);
        if let Some(step) = known.outputs.get(&self.real_input(&path)) {
            let problem = Problem::new(&at, format!("the image `{source}` is the output of step `{step}`"));
            let problem = problem.label("does not exist before the step has finished");
            self.add(
                problem.help(format!("write `type: snapshot, step: {step}`, and the steps come in the right order")),
            );
        } else if !source.is_empty() {
            self.exists(&at, "image", &path, &[FileKind::File]);
        }
        MountKind::Image(path)
    }

    /// Checks the options of a mount that nothing can write to.
    fn fixed_options(&mut self, def: &MountDef, at: &Trail<'_>, what: &str) {
        self.options(def, at, &[ACCESS, PRIVILEGES], &[]);
        for (n, _) in def.options.iter().flatten().enumerate().filter(|(_, option)| *option == "rw") {
            let problem = Problem::new(&at.key("options").index(n), format!("{what} cannot be written to"));
            let problem = problem.label("always read-only");
            self.add(problem.help("remove it; to change the files, copy them into the root with a `copy` step"));
        }
    }
}
