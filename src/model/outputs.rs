//! Checks of images and of the outputs of steps.

use std::collections::HashMap;
use std::path::PathBuf;

use super::build::{Action, Compression, Container, Rootfs, Snapshot, SnapshotMode};
use super::check::Check;
use super::host::FileKind;
use super::steps::OrderedStep;
use crate::diagnostic::{Place, Problem, Trail};
use crate::manifest::SnapshotDef;

impl Check<'_> {
    pub(super) fn snapshot(&mut self, def: &SnapshotDef, at: &Trail<'_>) -> Snapshot {
        let modes = [("layer", SnapshotMode::Layer), ("full", SnapshotMode::Full)];
        let compressions = [
            ("zstd", Compression::Zstd),
            ("gzip", Compression::Gzip),
            ("xz", Compression::Xz),
            ("lz4", Compression::Lz4),
            ("none", Compression::None),
        ];
        let mode = match &def.mode {
            Some(word) => self.choice(&at.key("mode"), "mode", word, &modes, SnapshotMode::Layer),
            None => SnapshotMode::Layer,
        };
        let compression = match &def.compression {
            Some(word) => self.choice(&at.key("compression"), "compression", word, &compressions, Compression::Zstd),
            None => Compression::Zstd,
        };
        self.level(def.level, compression, at);
        Snapshot {
            mode,
            output: def.output.as_ref().map(|o| self.output(&at.key("output"), o)),
            compression,
            level: def.level,
            subtree: def.subtree.clone(),
        }
    }

    /// Refuses a level that the compression does not have.
    pub(super) fn level(&mut self, level: Option<u32>, compression: Compression, at: &Trail<'_>) {
        // A compression that could not be read may have other levels than the default.
        let level_is_known = self.unknown_paths.is_empty() || !self.unknown_paths.covers(&at.key("compression").path());
        if let Some(level) = level.filter(|_| level_is_known) {
            let (name, most) = (compression.name(), compression.max_level());
            match most {
                None => {
                    let place = Place::key(at.key("level").path());
                    let problem = Problem::new(place, format!("the compression `{name}` has no level"));
                    self.add(problem.label("means nothing here").help("remove it"));
                }
                Some(most) if !(1..=most).contains(&level) => {
                    let problem =
                        Problem::new(&at.key("level"), format!("the compression `{name}` has no level {level}"));
                    self.add(problem.label("out of range").help(format!("write a number from 1 to {most}")));
                }
                Some(_) => {}
            }
        }
    }

    pub(super) fn output(&mut self, at: &Trail<'_>, written: &str) -> PathBuf {
        let path = self.on_host(at, "output", written);
        if written.is_empty() || written.contains('\0') {
            return path;
        }
        let is_directory = self.host.kind(&path).is_ok_and(|kind| kind == FileKind::Dir);
        if is_directory || written.ends_with('/') || path.file_name().is_none() {
            let problem =
                Problem::new(at, format!("the output `{written}` is a directory")).label("a file is written here");
            self.add(problem.help("write a file in it"));
        } else if let Ok(found) = self.host.node(&path)
            && !matches!(found, FileKind::File | FileKind::Dir)
        {
            let problem = Problem::new(at, format!("the output `{written}` is {}", found.name()));
            let problem = problem.label("this would be replaced");
            self.add(problem.help("write another file: an output replaces a regular file only"));
        }
        path
    }

    /// Refuses outputs that would overwrite each other, or a file that the build reads.
    pub(super) fn outputs(&mut self, steps: &[OrderedStep], containers: &[Container], manifest: &std::path::Path) {
        let mut writers: HashMap<PathBuf, usize> = HashMap::new();
        let top = Trail::TOP.key("steps");
        for (n, ordered) in steps.iter().enumerate() {
            let Some(output) = ordered.step.action.output() else { continue };
            let key = |n: usize| if matches!(steps[n].step.action, Action::Export(_)) { "export" } else { "snapshot" };
            let step = top.index(n);
            let action = step.key(key(n));
            let at = action.key("output");
            let output = self.real_output(output);
            if let Some(&first) = writers.get(&output) {
                let both = if key(n) == key(first) { format!("two {}s", key(n)) } else { "two steps".to_owned() };
                let problem =
                    Problem::new(&at, format!("{both} have the same output")).label("this would overwrite the first");
                let first = Place::value(top.index(first).key(key(first)).key("output").path());
                self.add(problem.related(first, "the first").help("give one of them another output"));
                continue;
            }
            if output == self.real_input(manifest) {
                let problem = Problem::new(&at, "the output is the manifest itself").label("this would overwrite it");
                self.add(problem.help("write another file"));
            }
            writers.insert(output, n);
        }
        if writers.is_empty() {
            return;
        }
        let top = Trail::TOP.key("containers");
        for container in containers {
            // The check of the container reports a squashfs, tar or directory that is an output.
            let Rootfs::Programs(programs) = &container.rootfs else { continue };
            // The path of a program that was not found is empty, and that has been reported.
            let found = programs.iter().enumerate().filter(|(_, program)| !program.as_os_str().is_empty());
            for (n, program) in found {
                if writers.contains_key(&self.real_input(program)) {
                    let at = top.key(&container.name);
                    let at = at.key("rootfs");
                    let at = at.key("programs");
                    let problem = Problem::new(&at.index(n), "the program is the output of a snapshot");
                    self.add(problem.label("this would be overwritten").help("write the snapshot to another file"));
                }
            }
        }
    }
}
