//! The build under test: two containers, the second on the layer of the first, with scratch in memory and on disk.

use std::fs;
use std::sync::OnceLock;

use crate::built::wait_for;
use crate::judge::{self, Outputs};
use crate::project::{Project, Run};

const MANIFEST: &str = "
version: 1
mounts:
  src: { type: bind, source: src, target: /src, options: [ro] }
  gate: { type: bind, source: gate, target: /gate }
  tmp: { type: tmpfs, target: /tmp }
containers:
  base: { rootfs: { programs: [/bin/sh, /bin/cat, /bin/sleep, /bin/touch] }, mounts: [src, tmp] }
  next: { rootfs: { snapshot: layer }, scratch: { disk: true }$GATE }
steps:
  - { name: write, container: base, run: cat /src/file > /data }
  - { name: layer, container: base, snapshot: { output: out/base.squashfs } }
  - { name: add, container: next, run: \"cat /data; echo two >> /data\" }
  - { name: meet, container: next, run: $MEET }
  - { name: image, container: next, snapshot: { mode: full, output: out/full.squashfs } }
";

/// A project, and the outputs of a clean build of it.
pub struct Sample {
    pub project: Project,
    pub right: Outputs,
}

/// Returns the outputs of a clean build; built once.
fn right(make: fn() -> Project, outputs: &'static OnceLock<Outputs>) -> Outputs {
    let build = || {
        let project = make();
        project.write("gate/open", "");
        project.apply();
        judge::outputs(&project)
    };
    outputs.get_or_init(build).clone()
}

fn plain() -> Project {
    make("", "'true'")
}

fn gated() -> Project {
    make(", mounts: [gate]", "'touch /gate/here; until [ -e /gate/open ]; do sleep 0.02; done'")
}

fn make(gate: &str, meet: &str) -> Project {
    let project = Project::new(&MANIFEST.replace("$GATE", gate).replace("$MEET", meet));
    project.write("src/file", "one\n");
    project.write("gate/.keep", "");
    project
}

impl Sample {
    pub fn new() -> Self {
        static RIGHT: OnceLock<Outputs> = OnceLock::new();
        Self { project: plain(), right: right(plain, &RIGHT) }
    }

    /// Makes one whose last step but one waits until [`open_gate`](Self::open_gate).
    pub fn with_gate() -> Self {
        static RIGHT: OnceLock<Outputs> = OnceLock::new();
        Self { project: gated(), right: right(gated, &RIGHT) }
    }

    #[track_caller]
    pub fn await_gate(&self) {
        wait_for("the step at the gate", || self.project.path("gate/here").exists().then_some(()));
    }

    pub fn open_gate(&self) {
        fs::write(self.project.path("gate/open"), "").unwrap();
    }

    /// Runs a shell command in a mount namespace of its own; `"$@"` is runner without arguments.
    pub fn in_namespace(&self, shell: &str) -> Run {
        let output = self.project.shell_in_namespace(shell, &[]).output().unwrap();
        Run::new(std::process::id(), &output)
    }
}
