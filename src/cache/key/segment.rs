//! Makes the fields of a segment's key, as the table of the parent module lists them.

use std::collections::BTreeMap;

use super::value::{self, path};
use super::{FORMAT, HostInputs, KeyFields, StepInputs};
use crate::model::{Action, Build, Container, Limits, Scratch, Step, StepId, Unmask, interpreter};
use crate::plan::Segment;

/// Returns the fields of a segment's key, without its parents.
pub fn fields(build: &Build, segment: &Segment, inputs: &HostInputs) -> KeyFields {
    let mut fields = KeyFields::default();
    fields.set("format", FORMAT);
    if segment.is_export_of_layers(build) {
        return exports_of_layers(fields, build, segment, inputs);
    }
    fields.set("runtime", inputs.runtime.clone());
    fields.set("source_date_epoch", epoch(build));
    container(&mut fields, build.container(segment.container), inputs);
    for (n, id) in segment.steps.iter().enumerate() {
        let step = build.step(*id);
        match &step.action {
            Action::Snapshot(snapshot) => {
                fields.set("writer", inputs.writer.clone());
                fields.set("snapshot", value::snapshot(snapshot));
            }
            _ => {
                let shell = build.container(segment.container).shell.as_ref();
                let at = format!("step/{n:05}");
                self::step(&mut fields, &at, step, shell, after(build, segment, n));
                own_settings(&mut fields, &at, build, step, inputs.of_steps.get(id));
                for ((_, source), content) in inputs.copied.range((n, 0)..(n + 1, 0)) {
                    fields.set(format!("{at}/content/{source:05}"), content.clone());
                }
            }
        }
    }
    export_writers(&mut fields, segment, inputs);
    fields
}

fn export_writers(fields: &mut KeyFields, segment: &Segment, inputs: &HostInputs) {
    for (n, writer) in segment.steps.iter().enumerate().filter_map(|(n, id)| Some((n, inputs.export_writers.get(id)?)))
    {
        fields.set(format!("step/{n:05}/writer"), writer.clone());
    }
}

fn epoch(build: &Build) -> String {
    build.source_date_epoch.map_or("none".to_owned(), |seconds| seconds.to_string())
}

/// Returns the fields of an export that reads only layers: no process sees the container.
fn exports_of_layers(mut fields: KeyFields, build: &Build, segment: &Segment, inputs: &HostInputs) -> KeyFields {
    fields.set("source_date_epoch", epoch(build));
    for id in &segment.steps {
        step(&mut fields, "step/00000", build.step(*id), None, None);
    }
    export_writers(&mut fields, segment, inputs);
    fields
}

/// Returns the definition of a container and one of its steps as fields, without those of the host: fields to be
/// compared, which make no key.
pub fn of_step(build: &Build, id: StepId) -> KeyFields {
    let (mut fields, step) = (KeyFields::default(), build.step(id));
    container(&mut fields, build.container(step.container), &HostInputs::default());
    self::step(&mut fields, "step/00000", step, build.container(step.container).shell.as_ref(), None);
    own_settings(&mut fields, "step/00000", build, step, None);
    fields
}

fn container(fields: &mut KeyFields, container: &Container, inputs: &HostInputs) {
    fields.set("hostname", container.hostname.clone());
    fields.set("network", value::network(container.network));
    fields.set("user", value::user(&container.user));
    fields.set("cwd", path(&container.cwd));
    env(fields, "env", &container.env);
    fields.set("capabilities", value::capabilities(&container.capabilities));
    fields.set("no_new_privileges", container.no_new_privileges.to_string());
    fields.set("seccomp", value::seccomp(&container.seccomp));
    match &container.unmask {
        Unmask::All => fields.set("unmask", "all"),
        Unmask::Paths(paths) if !paths.is_empty() => {
            fields.set("unmask", paths.iter().map(|path| value::path(path)).collect::<Vec<_>>().join(" "));
        }
        Unmask::Paths(_) => {}
    }
    if container.init {
        fields.set("init", "true");
    }
    fields.set("xino", container.xino.to_string());
    fields.set("read_only", container.read_only.to_string());
    let limits = container.limits;
    fields.set("limits/nofile", limits.nofile.unwrap_or(Limits::DEFAULT_NOFILE).to_string());
    let pids = limits.pids.unwrap_or(Limits::DEFAULT_PIDS);
    let optional = [("memory", limits.memory), ("millicpus", limits.millicpus), ("pids", Some(pids))];
    for (name, limit) in optional.into_iter().filter_map(|(name, limit)| Some((name, limit?))) {
        fields.set(format!("limits/{name}"), limit.to_string());
    }
    for mount in &container.mounts {
        fields.set(format!("mount/{}", path(&mount.target)), value::mount(mount));
    }
    if inputs.lacks_user_attributes && container.scratch != Scratch::Disk {
        fields.set("user_attributes", "none");
    }
    for (target, digest) in &inputs.contents {
        fields.set(format!("content/{}", path(target)), digest.to_string());
    }
    for (target, content) in &inputs.mounted {
        fields.set(format!("content/{}", path(target)), content.clone());
    }
    for (target, node) in &inputs.nodes {
        fields.set(format!("node/{}", path(target)), node.clone());
    }
    for device in &container.devices {
        fields.set(format!("device/{}", path(&device.target)), value::device(device));
    }
}

fn step(fields: &mut KeyFields, at: &str, step: &Step, shell: Option<&Vec<String>>, after: Option<String>) {
    match &step.action {
        Action::Run(script) => {
            fields.set(format!("{at}/run"), script.clone());
            if let Some(shell) = step.shell.as_ref().or(shell).filter(|_| interpreter(script).is_none()) {
                fields.set(format!("{at}/shell"), value::quoted(shell));
            }
        }
        Action::Exec(argv) => fields.set(format!("{at}/exec"), value::quoted(argv)),
        Action::Copy(copy) => fields.set(format!("{at}/copy"), value::copy(copy)),
        Action::Snapshot(_) => {}
        Action::Export(export) => fields.set(format!("{at}/export"), value::export(export)),
    }
    env(fields, &format!("{at}/env"), &step.env);
    if let Some(cwd) = &step.cwd {
        fields.set(format!("{at}/cwd"), path(cwd));
    }
    if let Some(user) = &step.user {
        fields.set(format!("{at}/user"), value::user(user));
    }
    if let Some(after) = after {
        fields.set(format!("{at}/after"), after);
    }
}

/// Adds the settings that a step has for itself.
fn own_settings(fields: &mut KeyFields, at: &str, build: &Build, step: &Step, inputs: Option<&StepInputs>) {
    let (of, own) = (build.container(step.container), build.container(step.settings()));
    if own.network != of.network {
        fields.set(format!("{at}/network"), value::network(own.network));
    }
    if own.capabilities != of.capabilities {
        fields.set(format!("{at}/capabilities"), value::capabilities(&own.capabilities));
    }
    for mount in build.own_mounts(step) {
        fields.set(format!("{at}/mount/{}", path(&mount.target)), value::mount(mount));
    }
    for device in build.own_devices(step) {
        fields.set(format!("{at}/device/{}", path(&device.target)), value::device(device));
    }
    for (target, digest) in inputs.iter().flat_map(|inputs| &inputs.contents) {
        fields.set(format!("{at}/content/{}", path(target)), digest.to_string());
    }
    for (target, content) in inputs.iter().flat_map(|inputs| &inputs.mounted) {
        fields.set(format!("{at}/content/{}", path(target)), content.clone());
    }
    for (target, node) in inputs.iter().flat_map(|inputs| &inputs.nodes) {
        fields.set(format!("{at}/node/{}", path(target)), node.clone());
    }
}

/// Returns the numbers of the segment's steps that the `n`th waits for; none where it waits for just the one before.
fn after(build: &Build, segment: &Segment, n: usize) -> Option<String> {
    let position = |needed_step: &StepId| segment.steps.iter().position(|step| step == needed_step);
    let needed: Vec<usize> = build.step(segment.steps[n]).needs.iter().filter_map(position).collect();
    let default: Vec<usize> = n.checked_sub(1).into_iter().collect();
    (needed != default).then(|| needed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
}

fn env(fields: &mut KeyFields, at: &str, env: &BTreeMap<String, String>) {
    for (name, value) in env {
        fields.set(format!("{at}/{name}"), value.clone());
    }
}
