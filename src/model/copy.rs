//! Checks of a step's `copy`: the root that the files come from, the sources, and their place.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::PathBuf;

use super::build::{Container, Copy, CopySource};
use super::check::{Check, missing};
use super::containers::Definitions;
use super::devices::octal;
use super::host::FileKind;
use crate::diagnostic::{Place, Problem, Trail};
use crate::manifest::{CopyDef, CopySourcesDef};

/// The word of `from` for the host.
const HOST: &str = "host";

/// The directories of a root in which each step has files of its own.
const PER_STEP: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Returns whether the step would wait for another one if its `from` were known.
pub(super) fn has_unknown_source(def: &CopyDef) -> bool {
    def.from.as_deref() != Some(HOST)
}

impl Check<'_> {
    pub(super) fn copy(
        &mut self,
        def: &CopyDef,
        at: &Trail<'_>,
        container: Option<&Container>,
        known: &Definitions<'_>,
    ) -> Copy {
        if let Some(container) = container.filter(|container| container.read_only) {
            let name = &container.name;
            let place = Place::key(at.path());
            let problem = Problem::new(place, format!("a copy into the read-only container `{name}`"));
            let read_only = Trail::TOP.key("containers");
            let problem = problem.label("nothing can be written there");
            let problem = problem.related(&read_only.key(name).key("read_only"), "read-only by this");
            self.add(problem.help("remove `read_only` or the copy"));
        }
        let from = self.copy_from(def, at, known);
        let is_list = matches!(def.source, Some(CopySourcesDef::Several(_)));
        let ends_in_slash = def.target.as_deref().is_some_and(|target| target.ends_with('/') && target != "/");
        let into = is_list || ends_in_slash;
        let sources = self.copy_sources(def, at, from, into, known);
        Copy {
            from: from.unwrap_or(CopySource::Host),
            sources,
            target: self.copy_target(def, at, container),
            into,
            owner: def.owner.as_ref().map(|owner| self.user(&at.key("owner"), owner)),
            mode: def.mode.as_ref().and_then(|mode| {
                let bits = octal(mode);
                if bits.is_none() {
                    let text: &str = mode;
                    let problem = Problem::new(&at.key("mode"), format!("the mode `{text}` is not octal"));
                    self.add(problem.label("here").help("write octal digits in quotes, such as \"0644\""));
                }
                bits
            }),
        }
    }

    /// Returns the root that the files come from, if it is known.
    fn copy_from(&mut self, def: &CopyDef, at: &Trail<'_>, known: &Definitions<'_>) -> Option<CopySource> {
        let Some(name) = &def.from else {
            let problem = Problem::new(missing(at, "from"), "the copy does not say where its files come from");
            let problem = problem.label("in this copy");
            self.add(problem.help("write `from:` and the name of a snapshot step, or `from: host`"));
            return None;
        };
        let at = at.key("from");
        if name != HOST {
            return self.snapshot_step(name, &at, known).map(CopySource::Snapshot);
        }
        if let Some(step) = known.steps.get(HOST) {
            let problem = Problem::new(&at, "`host` is the host here, and a step has this name too");
            let problem =
                problem.label("which one?").related(&Trail::TOP.key("steps").index(*step).key("name"), "the step");
            self.add(problem.help("give the step another name"));
        }
        Some(CopySource::Host)
    }

    fn copy_sources(
        &mut self,
        def: &CopyDef,
        at: &Trail<'_>,
        from: Option<CopySource>,
        into: bool,
        known: &Definitions<'_>,
    ) -> Vec<PathBuf> {
        let at_source = at.key("source");
        let written = match &def.source {
            None => {
                let problem = Problem::new(missing(at, "source"), "the copy has no source").label("in this copy");
                self.add(problem.help("write `source: PATH`, a file or a directory"));
                return Vec::new();
            }
            Some(CopySourcesDef::One(path)) => {
                return vec![self.copy_source(path, &at_source, from, into, known)];
            }
            Some(CopySourcesDef::Several(paths)) => paths,
        };
        if written.is_empty() {
            let problem = Problem::new(&at_source, "the list of sources is empty").label("no file");
            self.add(problem.help("write the files and directories to copy"));
        }
        let mut names: HashMap<std::ffi::OsString, usize> = HashMap::new();
        let mut sources = Vec::with_capacity(written.len());
        for (n, path) in written.iter().enumerate() {
            let at = at_source.index(n);
            let source = self.copy_source(path, &at, from, into, known);
            if let Some(name) = source.file_name().map(OsStr::to_owned)
                && let Some(first) = names.insert(name.clone(), n)
            {
                let problem = Problem::new(&at, format!("two sources have the name `{}`", name.display()));
                let problem =
                    problem.label("this would replace the first").related(&at_source.index(first), "the first");
                self.add(problem.help("copy one of them in a step of its own, to another target"));
            }
            sources.push(source);
        }
        sources
    }

    fn copy_source(
        &mut self,
        written: &str,
        at: &Trail<'_>,
        from: Option<CopySource>,
        into: bool,
        known: &Definitions<'_>,
    ) -> PathBuf {
        let path = match from {
            Some(CopySource::Host) => {
                let path = self.on_host(at, "source", written);
                if let Some(step) = known.outputs.get(&self.real_input(&path)) {
                    let problem = Problem::new(at, format!("the source `{written}` is the output of step `{step}`"));
                    let problem = problem.label("does not exist before the step has finished");
                    self.add(problem.help(format!("write `from: {step}`, and the files of its root")));
                } else if !written.is_empty() {
                    self.exists(at, "source", &path, &[FileKind::File, FileKind::Dir]);
                }
                path
            }
            Some(CopySource::Snapshot(_)) => self.absolute(at, "source", written),
            None => PathBuf::from(written),
        };
        if into && !written.is_empty() && from.is_some() && path.file_name().is_none() {
            let problem = Problem::new(at, format!("the source `{written}` has no name to be copied under"));
            let problem = problem.label("no name at its end");
            self.add(problem.help("write this source alone, and a target without a `/` at its end: the content of the directory is copied there"));
        }
        path
    }

    fn copy_target(&mut self, def: &CopyDef, at: &Trail<'_>, container: Option<&Container>) -> PathBuf {
        let Some(written) = &def.target else {
            let problem = Problem::new(missing(at, "target"), "the copy has no target").label("in this copy");
            self.add(problem.help("write `target: /DIRECTORY/`, or the path that the copy gets"));
            return PathBuf::from("/");
        };
        let at = at.key("target");
        let without_slash = written.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(written);
        let target = self.absolute(&at, "target", without_slash);
        if let Some(own) = PER_STEP.iter().find(|own| target.starts_with(own)) {
            let problem = Problem::new(&at, format!("nothing can be copied to {}", target.display()));
            let problem = problem.label(format!("each step has a {own} of its own"));
            self.add(problem.help("write a target elsewhere"));
        }
        let mounts = container.iter().flat_map(|container| &container.mounts);
        let above = mounts.filter(|mount| mount.target.is_absolute() && target.starts_with(&mount.target));
        if let Some(mount) = above.max_by_key(|mount| mount.target.components().count()) {
            let message = format!("the target is in the mount {}, which would hide the copy", mount.target.display());
            let problem = Problem::new(&at, message).label("not in the root");
            self.add(problem.help(match mount.is_read_only() {
                true => "write a target outside of the mount",
                false => "write a target outside of the mount; a `run` step with `cp` writes into a mount",
            }));
        }
        target
    }
}
