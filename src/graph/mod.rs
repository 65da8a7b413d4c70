//! The plan as a picture: containers as boxes with their steps, snapshots as edges from a box to the next. Pure.
//!
//! One model, [`Graph`], is written in three formats: for Graphviz ([`dot`]), for Markdown ([`mermaid`]), and as a
//! drawing that needs no other program ([`svg`]). Each has a legend of its signs and colours.

mod dot;
mod layout;
mod legend;
mod mermaid;
mod svg;

use std::collections::HashMap;
use std::path::Path;

use crate::escape::word;
use crate::model::{Action, Build, ContainerId, ImagePlace, Rootfs, SnapshotMode, StepId};
use crate::plan::{Plan, copied};

pub use dot::dot;
pub use mermaid::mermaid;
pub use svg::svg;

/// The mark of a step, which shows its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Its result is in the store: it need not run, or did not.
    Fresh,
    /// It will run.
    Due,
    /// It will run if a step before it changes an input.
    Maybe,
    /// It ran.
    Ran,
    /// It failed.
    Failed,
    /// It did not begin.
    Skipped,
}

impl Mark {
    /// All marks.
    const ALL: [Self; 6] = [Self::Fresh, Self::Due, Self::Maybe, Self::Ran, Self::Failed, Self::Skipped];

    /// Returns the meaning, for a legend.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Fresh => "in the store",
            Self::Due => "runs",
            Self::Maybe => "may run",
            Self::Ran => "ran",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    /// Returns the word, for classes and labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Due => "due",
            Self::Maybe => "maybe",
            Self::Ran => "ran",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// The marks of the steps, if there are any.
pub type Marks<'m> = Option<&'m dyn Fn(StepId) -> Mark>;

/// A plan, ready to be drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// The build's name.
    pub name: String,
    /// The containers with a planned step, in the manifest's order.
    boxes: Vec<Cluster>,
    /// The steps, in the plan's order.
    nodes: Vec<Node>,
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cluster {
    name: String,
    /// The source of its root, in a few words.
    root: String,
    /// The node whose snapshot its root is.
    below: Option<usize>,
    /// Its steps, in the plan's order.
    nodes: Vec<usize>,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    step: StepId,
    name: String,
    /// Its command or action, from the manifest.
    command: String,
    /// For a snapshot, its mode and output.
    snapshot: Option<String>,
    /// The box that contains it.
    of: usize,
    /// Its position among the box's steps.
    row: usize,
    /// The steps that it waits for, except the snapshot below its box.
    needs: Vec<usize>,
    /// Those of them whose files it takes.
    sources: Vec<usize>,
}

impl Graph {
    /// Returns the graph of the planned steps.
    pub fn new(build: &Build, plan: &Plan) -> Self {
        let order = plan.order();
        let mut node_of = vec![None; build.steps.len()];
        for (node, step) in order.iter().enumerate() {
            node_of[step.0] = Some(node);
        }
        let node_of = |step: StepId| node_of.get(step.0).copied().flatten();
        let mut boxes = Vec::new();
        let mut box_of = vec![0; build.containers.len()];
        let mut tests_of: HashMap<ContainerId, usize> = HashMap::new();
        for (index, container) in build.containers.iter().enumerate() {
            let nodes: Vec<usize> = plan.session(ContainerId(index)).iter().filter_map(|step| node_of(*step)).collect();
            if nodes.is_empty() {
                continue;
            }
            // All tests of a container are in one box.
            if let Some(tested) = container.variant_of {
                let at = *tests_of.entry(tested).or_insert(boxes.len());
                if let Some(Cluster { nodes: tests, .. }) = boxes.get_mut(at) {
                    box_of[index] = at;
                    tests.extend(nodes);
                    continue;
                }
            }
            box_of[index] = boxes.len();
            let below = match container.rootfs {
                Rootfs::Snapshot(step) => node_of(step),
                _ => None,
            };
            let kind = if container.variant_of.is_some() { " (tests)" } else { "" };
            boxes.push(Cluster {
                name: format!("{}{kind}", container.name),
                root: root(build, &container.rootfs),
                below,
                nodes,
            });
        }
        let mut rows = vec![0; order.len()];
        for container in &boxes {
            container.nodes.iter().enumerate().for_each(|(row, node)| rows[*node] = row);
        }
        let nodes = order.iter().zip(rows).map(|(id, row)| {
            let step = build.step(*id);
            let of = box_of[step.container.0];
            let below = boxes[of].below;
            let needs = plan.needs(*id).into_iter().filter_map(node_of).filter(|need| Some(*need) != below).collect();
            let sources = build.sources(step).filter_map(node_of).collect();
            let (snapshot, command) = (snapshot(build, &step.action), command(build, &step.action));
            Node { step: *id, name: step.name.clone(), command, snapshot, of, row, needs, sources }
        });
        let nodes = nodes.collect();
        Self { name: build.name.clone(), boxes, nodes }
    }

    /// Returns the planned steps with their names.
    pub fn steps(&self) -> impl Iterator<Item = (StepId, &str)> {
        self.nodes.iter().map(|node| (node.step, node.name.as_str()))
    }

    /// Returns the name and the command of each planned step: the text of a script, a command line, or the words for a
    /// snapshot.
    pub fn commands(&self) -> impl Iterator<Item = (&str, &str)> {
        self.nodes.iter().map(|node| (node.name.as_str(), node.command.as_str()))
    }

    fn mark(&self, node: usize, marks: Marks<'_>) -> Option<Mark> {
        marks.map(|marks| marks(self.nodes[node].step))
    }
}

fn root(build: &Build, rootfs: &Rootfs) -> String {
    let with = |kind: &str, path: &Path| format!("{kind}: {}", short(build, path));
    match rootfs {
        Rootfs::Squashfs(layers) => match layers.as_slice() {
            [image] => with("squashfs", &image.path),
            layers => format!("squashfs: {} layers", layers.len()),
        },
        Rootfs::Erofs(image) => with("erofs", &image.path),
        Rootfs::Tar(archive) => with("tar", &archive.path),
        Rootfs::Dir(path) => with("dir", path),
        Rootfs::Image(image) => match &image.place {
            ImagePlace::Registry(name) => format!("image: {name}"),
            ImagePlace::Layout(path, None) => with("oci", path),
            ImagePlace::Layout(path, Some(tag)) => format!("{}:{tag}", with("oci", path)),
        },
        Rootfs::Url(source) => format!("url: {}", source.name()),
        Rootfs::Programs(programs) if programs.len() == 1 => "1 program".to_owned(),
        Rootfs::Programs(programs) => format!("{} programs", programs.len()),
        Rootfs::Snapshot(step) => format!("snapshot: {}", build.step(*step).name),
        Rootfs::Scratch => "scratch".to_owned(),
    }
}

fn command(build: &Build, action: &Action) -> String {
    match action {
        Action::Run(script) => script.trim().to_owned(),
        Action::Exec(argv) => argv.iter().map(|argument| word(argument)).collect::<Vec<_>>().join(" "),
        Action::Copy(copy) => format!("copy: {}", copied(build, copy)),
        Action::Snapshot(_) => format!("snapshot: {}", snapshot(build, action).unwrap_or_default()),
        Action::Export(export) => {
            let output = export.output.iter().map(|output| short(build, output));
            let to = output.chain(export.push.iter().map(ToString::to_string)).map(|place| format!(" → {place}"));
            format!("export: {} {}{}", export.format.name(), export.path.display(), to.collect::<String>())
        }
    }
}

fn snapshot(build: &Build, action: &Action) -> Option<String> {
    let Action::Snapshot(snapshot) = action else { return None };
    let mode = match snapshot.mode {
        SnapshotMode::Layer => "layer",
        SnapshotMode::Full => "full image",
    };
    Some(match &snapshot.output {
        Some(path) => format!("{mode} → {}", short(build, path)),
        None => mode.to_owned(),
    })
}

/// Returns a path relative to the manifest's directory; of a long one the end, which says more than its beginning.
fn short(build: &Build, path: &Path) -> String {
    const MAX_CHARACTERS: usize = 40;
    let path = path.strip_prefix(&build.directory).unwrap_or(path).to_string_lossy();
    let path: String = path.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    match path.char_indices().nth_back(MAX_CHARACTERS - 1) {
        Some((at, _)) if at > 0 => format!("…{}", &path[at..]),
        _ => path,
    }
}

#[cfg(test)]
mod tests;
