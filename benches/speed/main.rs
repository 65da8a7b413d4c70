//! The figures that runner must reach, each beside `runc run` a step on the same root, measured in turns in one run.
//!
//! `cargo bench --bench speed`, as root, with squashfs-tools, runc and mount. It asserts nothing about time: it prints.

mod ancestor;
mod build;
mod figure;
mod roots;

use std::error::Error;
use std::path::Path;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;

use crate::ancestor::Ancestor;
use crate::build::{Action, Project};
use crate::figure::{Figure, Row, Target, table};
use crate::roots::Roots;

/// The samples of each figure, unless it says another number.
const SAMPLES: usize = 11;

/// A build of this many steps, less a build of one, is the overhead of the steps between.
const STEPS: usize = 200;

/// The files in a directory that a container binds.
const FILES: usize = 10_000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    // The mounts of the ancestor end with this process, however it ends.
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    let directory = tempfile::Builder::new().prefix("runner-bench-").tempdir()?;
    let roots = Roots::make(directory.path())?;
    let mut rows = Vec::new();
    rows.push(step_overhead(directory.path(), &roots)?);
    rows.extend(opening(directory.path(), &roots)?);
    rows.push(twenty_steps(directory.path(), &roots)?);
    rows.extend(again(directory.path(), &roots)?);
    rows.push(small_change(directory.path(), &roots)?);
    rows.extend(many_lines(directory.path(), &roots)?);
    rows.push(plan(directory.path())?);
    rows.extend(memory(directory.path(), &roots)?);
    print!("{}", table(&rows));
    Ok(())
}

fn step_overhead(directory: &Path, roots: &Roots) -> Result<Row> {
    let (many, one) = (true_steps(directory, &roots.small, STEPS)?, true_steps(directory, &roots.small, 1)?);
    let ancestor = Ancestor::open(directory, &roots.small)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        let between = many.time(Action::Apply)? - one.time(Action::Apply)?;
        ours.push(between / (STEPS - 1) as f64);
        for _ in 0..5 {
            theirs.push(ancestor.run(&["/bin/true"])?);
        }
    }
    ancestor.close()?;
    let target = Target { most: 1.5, unit: "ms" };
    Ok(Row::new("a step's overhead (`true`, 200 steps)", Figure::of(ours), Some(Figure::of(theirs)), target))
}

fn opening(directory: &Path, roots: &Roots) -> Result<Vec<Row>> {
    let project = true_steps(directory, &roots.small, 1)?;
    let (mut whole, mut told, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        whole.push(project.time(Action::Apply)? - project.time(Action::Validate)?);
        told.push(project.events()?.between(("step_started", "step0"), ("step_finished", "step0"))?);
        let (opened, ancestor) = figure::timed(|| {
            let ancestor = Ancestor::open(directory, &roots.small)?;
            ancestor.run(&["/bin/true"])?;
            Ok(ancestor)
        })?;
        theirs.push(opened);
        ancestor.close()?;
    }
    let theirs = Figure::of(theirs);
    let target = Target { most: 20.0, unit: "ms" };
    let name = "open a session on squashfs, and `true`";
    Ok(vec![
        Row::new(&format!("{name} (by its events)"), Figure::of(told), Some(theirs), target),
        Row::new(&format!("{name} (a build less `validate`)"), Figure::of(whole), Some(theirs), target),
    ])
}

fn twenty_steps(directory: &Path, roots: &Roots) -> Result<Row> {
    let mut steps: Vec<_> = (0..20).map(|n| format!("run: echo {n} > /file{n}")).collect();
    steps.push("snapshot: { output: out.squashfs }".into());
    let project = Project::new(directory, &roots.small, &steps)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        ours.push(project.time(Action::Apply)?);
        let (took, ()) = figure::timed(|| {
            let ancestor = Ancestor::open(directory, &roots.small)?;
            for n in 0..20 {
                ancestor.run(&["/bin/sh", "-ec", &format!("echo {n} > /file{n}")])?;
            }
            ancestor.snapshot()?;
            ancestor.close()
        })?;
        theirs.push(took);
    }
    let target = Target { most: 150.0, unit: "ms" };
    Ok(Row::new("20 small steps and a snapshot, cold", Figure::of(ours), Some(Figure::of(theirs)), target))
}

/// Builds with everything in the store; beside it, the time of the first build.
fn again(directory: &Path, roots: &Roots) -> Result<Vec<Row>> {
    let mut steps: Vec<_> = (0..20).map(|n| format!("run: echo {n} > /file{n}")).collect();
    steps.push("snapshot: { output: out.squashfs }".into());
    let small = Project::new(directory, &roots.small, &steps)?;
    let large = Project::with_files(directory, &roots.small, FILES, &steps)?;
    let mut rows = Vec::new();
    for (project, name, most) in [
        (small, "20 steps and a snapshot, again (beside: the first run)".to_owned(), 10.0),
        (large, format!("the same with {FILES} files in a bind, again (beside: the first run)"), 40.0),
    ] {
        let (mut first, mut again) = (Vec::new(), Vec::new());
        for _ in 0..SAMPLES.div_ceil(2) {
            first.push(project.time(Action::Apply)?);
            again.push(project.time(Action::Again)?);
        }
        let target = Target { most, unit: "ms" };
        rows.push(Row::new(&name, Figure::of(again), Some(Figure::of(first)), target));
    }
    Ok(rows)
}

fn small_change(directory: &Path, roots: &Roots) -> Result<Row> {
    let change = "head -c 1000000 /dev/urandom > /changed";
    let steps = [format!("run: {change}"), "snapshot: { output: out.squashfs }".into()];
    let project = Project::new(directory, &roots.large, &steps)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES.div_ceil(2) {
        let events = project.events()?;
        ours.push(events.between(("step_started", "step1"), ("step_finished", "step1"))?);
        let ancestor = Ancestor::open(directory, &roots.large)?;
        ancestor.run(&["/bin/sh", "-ec", change])?;
        theirs.push(figure::timed(|| ancestor.snapshot())?.0);
        ancestor.close()?;
    }
    let name = format!("snapshot of 1 MB changed on a {} MB root", roots.large_megabytes);
    let target = Target { most: 40.0, unit: "ms" };
    Ok(Row::new(&name, Figure::of(ours), Some(Figure::of(theirs)), target))
}

/// Measures a step that prints 200,000 lines as fast as it can, with each way of showing them, and with none.
fn many_lines(directory: &Path, roots: &Roots) -> Result<Vec<Row>> {
    let lines = "exec: [seq, \"200000\"]".to_owned();
    let project = Project::new(directory, &roots.small, &[lines])?;
    let modes = ["plain", "tty", "json"];
    let mut ratios = [const { Vec::new() }; 3];
    for _ in 0..SAMPLES {
        let hidden = project.time(Action::Shown("quiet"))?;
        for (mode, ratios) in modes.iter().zip(&mut ratios) {
            ratios.push(project.time(Action::Shown(mode))? / hidden);
        }
    }
    let target = Target { most: 1.1, unit: "×" };
    let row = |(mode, ratios)| {
        Row::new(&format!("200,000 lines shown ({mode}), against `quiet`"), Figure::of(ratios), None, target)
    };
    Ok(modes.iter().zip(ratios).map(row).collect())
}

fn plan(directory: &Path) -> Result<Row> {
    let project = Project::on_scratch(directory, &vec!["exec: [\"true\"]".into(); 10_000])?;
    let mut ours = Vec::new();
    for _ in 0..SAMPLES {
        ours.push(project.time(Action::Plan)?);
    }
    let target = Target { most: 100.0, unit: "ms" };
    Ok(Row::new("plan of 10,000 steps (the whole command)", Figure::of(ours), None, target))
}

fn memory(directory: &Path, roots: &Roots) -> Result<Vec<Row>> {
    let target = Target { most: 32.0, unit: "MB" };
    let mut steps = vec!["exec: [\"true\"]".into(); STEPS];
    steps.push("snapshot: { output: out.squashfs }".into());
    let build = Project::new(directory, &roots.small, &steps)?;
    let plan = Project::on_scratch(directory, &vec!["exec: [\"true\"]".into(); 10_000])?;
    let (mut of_build, mut of_plan) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        of_build.push(build.peak(Action::Apply)?);
        of_plan.push(plan.peak(Action::Plan)?);
    }
    Ok(vec![
        Row::new("peak memory: 200 steps and a snapshot", Figure::of(of_build), None, target),
        Row::new("peak memory: plan of 10,000 steps", Figure::of(of_plan), None, target),
    ])
}

fn true_steps(directory: &Path, root: &Path, count: usize) -> Result<Project> {
    Project::new(directory, root, &vec!["exec: [\"true\"]".into(); count])
}
