//! Checks of the source of a container's root filesystem.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::Definitions;
use crate::diagnostic::{Place, Problem, Trail};
use crate::digest::Digest;
use crate::manifest::{LayersDef, RootfsDef};
use crate::model::build::{FileSource, Rootfs, StepId};
use crate::model::check::{Check, has_nul, missing};
use crate::model::host::FileKind;

impl Check<'_> {
    pub(super) fn rootfs(&mut self, def: Option<&RootfsDef>, at: &Trail<'_>, known: &Definitions<'_>) -> Rootfs {
        const KINDS: &str = "squashfs, erofs, tar, dir, oci, image, url, debian, programs, snapshot or scratch";
        let Some(def) = def else {
            let problem = Problem::new(missing(at, "rootfs"), "the container has no rootfs").label("in this container");
            self.add(problem.help(format!("write `rootfs: {{ … }}` with one of {KINDS}")));
            return Rootfs::Scratch;
        };
        let at = at.key("rootfs");
        let there = [
            ("squashfs", def.squashfs.is_some()),
            ("erofs", def.erofs.is_some()),
            ("tar", def.tar.is_some()),
            ("dir", def.dir.is_some()),
            ("debian", def.debian.is_some()),
            ("oci", def.oci.is_some()),
            ("image", def.image.is_some()),
            ("url", def.url.is_some()),
            ("programs", def.programs.is_some()),
            ("snapshot", def.snapshot.is_some()),
            ("scratch", def.scratch.is_some()),
        ];
        let mut kinds = there.into_iter().filter(|(_, there)| *there).map(|(kind, _)| kind);
        match (kinds.next(), kinds.next()) {
            (None, _) => {
                let only_a_gap = there.iter().any(|(kind, _)| self.unknown_paths.covers(&at.key(kind).path()));
                if !only_a_gap {
                    let problem = Problem::new(&at, "the rootfs comes from nowhere").label("a source is missing");
                    self.add(problem.help(format!("write one of {KINDS}")));
                }
            }
            (Some(first), Some(second)) => {
                let problem = Problem::new(Place::key(at.key(second).path()), "the rootfs has more than one source");
                let problem = problem.label("a second source").related(Place::key(at.key(first).path()), "the first");
                self.add(problem.in_text_order().help("keep one of them"));
            }
            (Some(_), None) => {}
        }
        if def.oci.is_some() || def.image.is_some() {
            return self.image(def, &at, known);
        }
        if let Some(url) = &def.url {
            return self.url(url, def, &at);
        }
        self.refuse_platform(def, &at, "another source");
        if let Some(layers) = &def.squashfs {
            let digest = match layers {
                LayersDef::Stack(layers) if layers.len() != 1 => {
                    let help = "remove it: `runner lock` locks the digest of each layer; or name one image in place of the list";
                    self.refuse_digest(def, &at, "a list of layers", help);
                    None
                }
                _ => self.digest(def, &at),
            };
            return Rootfs::Squashfs(self.rootfs_layers(layers, digest, &at.key("squashfs"), known));
        }
        if let Some(image) = &def.erofs {
            return Rootfs::Erofs(self.rootfs_file(def, ("erofs", image), &at, known));
        }
        if let Some(archive) = &def.tar {
            return Rootfs::Tar(self.rootfs_file(def, ("tar", archive), &at, known));
        }
        self.refuse_digest_of_others(def, &at);
        if let Some(directory) = &def.dir {
            let path = self.rootfs_path(&at.key("dir"), directory, &[FileKind::Dir], known);
            self.refuse_mounts_below(&at.key("dir"), &path);
            return Rootfs::Dir(path);
        }
        if let Some(programs) = &def.programs {
            return Rootfs::Programs(self.programs(programs, &at.key("programs")));
        }
        if let Some(step) = &def.snapshot {
            return self.snapshot_step(step, &at.key("snapshot"), known).map_or(Rootfs::Scratch, Rootfs::Snapshot);
        }
        if def.scratch == Some(false) {
            let problem = Problem::new(&at.key("scratch"), "`scratch: false` is not a rootfs").label("this is false");
            self.add(problem.help("write `scratch: true` for an empty root, or another source"));
        }
        Rootfs::Scratch
    }

    /// Returns a source that is one file, with its digest if the manifest names it.
    fn rootfs_file(
        &mut self,
        def: &RootfsDef,
        (key, written): (&str, &str),
        at: &Trail<'_>,
        known: &Definitions<'_>,
    ) -> FileSource {
        let digest = self.digest(def, at);
        FileSource { path: self.rootfs_path(&at.key(key), written, &[FileKind::File], known), digest }
    }

    fn rootfs_layers(
        &mut self,
        layers: &LayersDef,
        digest: Option<Digest>,
        at: &Trail<'_>,
        known: &Definitions<'_>,
    ) -> Vec<FileSource> {
        let layers = match layers {
            LayersDef::One(image) => {
                return vec![FileSource { path: self.rootfs_path(at, image, &[FileKind::File], known), digest }];
            }
            LayersDef::Stack(layers) => layers,
        };
        if layers.is_empty() {
            let problem = Problem::new(at, "the list of layers is empty").label("no image");
            self.add(problem.help("write the images, the lowest first, such as [base.squashfs, sdk.squashfs]"));
        }
        let mut first: HashMap<PathBuf, usize> = HashMap::new();
        let mut files = Vec::new();
        for (n, image) in layers.iter().enumerate() {
            let layer = at.index(n);
            let path = self.rootfs_path(&layer, image, &[FileKind::File], known);
            if !image.is_empty()
                && let Some(before) = first.insert(self.real_input(&path), n)
            {
                let problem = Problem::new(&layer, format!("the image `{image}` is listed twice as a layer"));
                let problem = problem.label("again here").related(&at.index(before), "first listed here");
                self.add(problem.help("list each image once, the lowest first"));
            }
            files.push(FileSource { path, digest });
        }
        files
    }

    pub(super) fn rootfs_path(
        &mut self,
        at: &Trail<'_>,
        written: &str,
        kinds: &[FileKind],
        known: &Definitions<'_>,
    ) -> PathBuf {
        let path = self.on_host(at, "rootfs", written);
        if let Some(step) = known.outputs.get(&self.real_input(&path)) {
            let problem = Problem::new(at, format!("the rootfs `{written}` is the output of step `{step}`"));
            let problem = problem.label("does not exist before the step has finished");
            let is_snapshot = known.snapshots.iter().any(|(_, name)| name == step);
            let (before, name) = if is_snapshot { ("", *step) } else { ("take a snapshot of that root, and ", "NAME") };
            self.add(problem.help(format!(
                "{before}write `rootfs: {{ snapshot: {name} }}`, and the steps come in the right order"
            )));
        } else if !written.is_empty() {
            self.exists(at, "rootfs", &path, kinds);
        }
        path
    }

    /// Refuses a directory with mounts below it: an overlay's layer is one filesystem, so steps would find empty
    /// directories in their place. Mounts where a session has its own are not missed.
    fn refuse_mounts_below(&mut self, at: &Trail<'_>, directory: &Path) {
        if has_nul(directory) || self.host.kind(directory).ok() != Some(FileKind::Dir) {
            return;
        }
        let own = |mount: &PathBuf| ["proc", "sys", "dev"].iter().any(|own| mount.starts_with(directory.join(own)));
        let mounts: Vec<PathBuf> = self.host.mounts_below(directory).into_iter().filter(|mount| !own(mount)).collect();
        let Some(first) = mounts.first() else { return };
        let more = if mounts.len() > 1 { format!(" and {} more", mounts.len() - 1) } else { String::new() };
        let problem = Problem::new(at, format!("something is mounted at {}{more}, below the rootfs", first.display()));
        let problem = problem.label("its content would not be in the root");
        self.add(
            problem.help(format!(
                "`umount {}`, and copy the files that the root needs into the directory",
                first.display()
            )),
        );
    }

    fn programs(&mut self, programs: &[String], at: &Trail<'_>) -> Vec<PathBuf> {
        if programs.is_empty() {
            let problem = Problem::new(at, "the list of programs is empty").label("no program");
            self.add(problem.help("write the programs that the steps need, such as [sh, ls]"));
        }
        let program = |(n, program): (usize, &String)| {
            let at = at.index(n);
            if program.contains('/') || program.is_empty() || program.contains('\0') {
                let path = self.on_host(&at, "program", program);
                if !program.is_empty() {
                    self.exists(&at, "program", &path, &[FileKind::File]);
                }
                return path;
            }
            self.host.program(program).unwrap_or_else(|| {
                let problem = Problem::new(&at, format!("the program `{program}` is not on this host"));
                let problem = problem.label("not found in PATH");
                self.add(problem.help("install it, or write its absolute path"));
                PathBuf::new()
            })
        };
        programs.iter().enumerate().map(program).collect()
    }

    /// Returns the snapshot step of that name, or a step of that name that is none, which has a problem then.
    pub(in crate::model) fn snapshot_step(
        &mut self,
        name: &str,
        at: &Trail<'_>,
        known: &Definitions<'_>,
    ) -> Option<StepId> {
        let Some(&step) = known.steps.get(name) else {
            if !self.unknown_paths.hide_step_names() {
                self.unknown_of(at, ("step", "snapshot"), name, known.snapshots.iter().map(|(_, name)| *name));
            }
            return None;
        };
        if known.snapshots.binary_search_by_key(&step, |(snapshot, _)| *snapshot).is_err() {
            let steps = Trail::TOP.key("steps");
            let action = steps.index(step).key("snapshot").path();
            if !self.unknown_paths.covers(&action) {
                let problem =
                    Problem::new(at, format!("step `{name}` is not a snapshot")).label("a snapshot step is required");
                let problem = problem.related(&steps.index(step).key("name"), "this step");
                let near = self.nearest(name, known.snapshots.iter().map(|(_, name)| *name));
                let help = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => {
                        format!("write a step after `{name}` in its container with `snapshot: {{}}`, and its name here")
                    }
                };
                self.add(problem.help(help));
            }
        }
        Some(StepId(step))
    }
}
