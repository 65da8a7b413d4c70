//! What a command or a shell runs in: a container or a step, found by its name, and its session with all that it stands on.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use super::absent_secrets::Source;
use super::site::{LongReads, Site, of_store};
use super::{Stop, absent_secrets, apply, in_background, loaded_with_text, settings_with_warning};
use crate::build::{Build, ContainerId, Rootfs, StepId};
use crate::cli::{Cli, OnArgs};
use crate::diagnostic::nearest;
use crate::error::{Error, Exit, told};
use crate::event::{Events, Stream};
use crate::execute::{self, Attempt, Context, Inside, Options, RestoreError, Rooms, Stay};
use crate::freshness::{self, Judge};
use crate::key;
use crate::load::Loaded;
use crate::plan::{Plan, Segments};
use crate::report::{self, Mode, ReportOutputs, duration, sanitize};
use crate::session::SessionError;
use crate::settings::{Partial, Settings};
use crate::store::{CacheTurn, KeptFailure, StoreError};
use crate::warning::Warning;

/// Opens the session that a name stands for, for what `work` does in it; gives the exit code of that.
pub fn in_session(
    cli: &Cli,
    on: &OnArgs,
    name: &str,
    find: impl FnOnce(&Build, &str) -> Result<Inside, Error>,
    work: impl for<'a> FnOnce(Context<'a>, &Rooms<'a>, Inside) -> Result<Attempt, SessionError>,
) -> Result<(), Stop> {
    let flags = Partial { store: cli.store.clone(), runtime: on.runtime.runtime.clone(), ..Partial::default() };
    let settings = settings_with_warning(flags, &on.manifest)?;
    let Loaded { build, text } = loaded_with_text(&on.manifest, &on.sets)?;
    let source = Source { path: &on.manifest, text: &text };
    let inside = find(&build, name)?;
    absent_secrets::refuse(source, &build, |container| container == inside.container)?;
    let mut site = Site::open(&settings)?;
    let bundles = site.keep_bundles(on.runtime.bundle_dir.as_deref(), &build);
    let below = outputs_below(&build, inside);
    let paths = match bundles.and_then(|()| site.open_paths(&build, &below, Some(inside.container))) {
        Ok(paths) => paths,
        Err(error) => {
            site.close()?;
            return Err(error.into());
        }
    };
    let context = site.context(&build, &paths);
    if context.store.is_read_only() {
        // Nobody would clear what a session leaves that is killed.
        let error = StoreError::ReadOnly { path: context.store.root().to_owned() };
        site.close()?;
        return Err(of_store(error).into());
    }
    let rooms = Rooms::new(context);
    let result = open(context, source, &settings, &rooms, inside).and_then(|kept| {
        let attempt = turns_with_caches(context, inside.container).and_then(|_turns| {
            work(context, &rooms, inside).map_err(|error| {
                let hint = error.hint();
                Error::new(error.exit(), error).with_hint(hint).into()
            })
        });
        // What it began with is in use until now.
        drop(kept);
        attempt
    });
    let closed = rooms.close_all();
    drop(rooms);
    site.close()?;
    let attempt = result?;
    closed.map_err(|error| Error::new(Exit::Host, error))?;
    end(&attempt)
}

/// Waits for the turn of a command with the caches of its container.
pub fn turns_with_caches(context: Context<'_>, container: ContainerId) -> Result<Vec<CacheTurn>, Stop> {
    let tell = |id: &str| notice(&Warning::CacheInUse { id: sanitize(id).into_owned() }.to_string());
    let turns = execute::take_turns(context, container, || false, tell).map_err(of_store)?;
    turns.ok_or_else(|| Exit::Interrupted.into())
}

/// What the program ends with after a command.
fn end(attempt: &Attempt) -> Result<(), Stop> {
    if attempt.interrupted {
        return Err(Exit::Interrupted.into());
    }
    if let execute::Outcome::NotStarted { why, .. } = &attempt.outcome {
        notice(&format!("error: cannot start: {why}"));
    }
    match u8::try_from(attempt.outcome.exit_code()) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Stop::Code(code.into())),
        Err(_) => Err(Exit::StepFailed.into()),
    }
}

/// A line on standard error.
pub fn notice(text: &str) {
    // Where standard error is gone there is nobody to be told.
    let _ = report::pass_through(Stream::Stderr, format!("{text}\n").as_bytes());
}

/// Shows a warning to the caller of a command.
pub fn warn(warning: &Warning) {
    notice(&format!("warning: {warning}"));
}

/// The container of that name.
pub fn container(build: &Build, name: &str) -> Result<Inside, Error> {
    let names = || build.containers.iter().map(|container| container.name.as_str());
    if let Some(container) = container_id(build, name) {
        return Ok(Inside { container, step: None, as_root: false });
    }
    let step = build.steps.iter().find(|step| step.name == name);
    let hint = match (step, nearest(name, names())) {
        (Some(step), _) => {
            format!("a step has that name, in the container `{}`", build.container(step.container).name)
        }
        (None, Some(near)) => format!("did you mean `{near}`?"),
        (None, None) => format!("the manifest has: {}", names().collect::<Vec<_>>().join(", ")),
    };
    Err(Error::new(Exit::Usage, format!("cannot find the container `{name}`")).with_hint(Some(hint)))
}

/// The container or the step of that name; led by `container:` or `step:`, only that.
pub fn container_or_step(build: &Build, name: &str) -> Result<Inside, Error> {
    if let Some(name) = name.strip_prefix("container:") {
        return container(build, name);
    }
    let (bare, only_step) = match name.strip_prefix("step:") {
        Some(bare) => (bare, true),
        None => (name, false),
    };
    let step = build.steps.iter().position(|step| step.name == bare).map(StepId);
    let of_step = |step| Inside { container: build.step(step).container, step: Some(step), as_root: false };
    match (container_id(build, bare).filter(|_| !only_step), step) {
        (Some(container), None) => Ok(Inside { container, step: None, as_root: false }),
        (None, Some(step)) => Ok(of_step(step)),
        (Some(_), Some(_)) => {
            let hint = format!("write `container:{bare}` or `step:{bare}`");
            Err(Error::new(Exit::Usage, format!("a container and a step have the name `{bare}`")).with_hint(Some(hint)))
        }
        (None, None) => {
            let steps = build.steps.iter().map(|step| step.name.as_str());
            let containers = build.containers.iter().map(|container| container.name.as_str());
            let near = nearest(bare, steps.chain(containers.filter(|_| !only_step)));
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`runner plan` lists the steps and their containers".to_owned(),
            };
            let what = if only_step { "step" } else { "container or step" };
            Err(Error::new(Exit::Usage, format!("cannot find the {what} `{bare}`")).with_hint(Some(hint)))
        }
    }
}

fn container_id(build: &Build, name: &str) -> Option<ContainerId> {
    build.containers.iter().position(|container| container.name == name).map(ContainerId)
}

/// The steps that may have to be done before the session is what it is.
fn outputs_below(build: &Build, inside: Inside) -> Vec<StepId> {
    let needs = match (inside.step, &build.container(inside.container).rootfs) {
        (Some(step), _) => build.step(step).needs.clone(),
        (None, Rootfs::Snapshot(below)) => vec![*below],
        (None, _) => Vec::new(),
    };
    if needs.is_empty() { Vec::new() } else { Plan::new(build, &needs).order().to_vec() }
}

/// Gets ready what the session stands on: of a container, what is there before its first step; of a step that failed, its
/// session as it was then; of any other step, what is there before it.
fn open<'a>(
    context: Context<'a>,
    source: Source<'_>,
    settings: &Settings,
    rooms: &Rooms<'a>,
    inside: Inside,
) -> Result<Option<KeptFailure>, Stop> {
    let Some(step) = inside.step else {
        if let Rootfs::Snapshot(below) = context.build.container(inside.container).rootfs {
            build_below(context, source, settings, rooms, &[below], Stay::None)?;
        }
        return Ok(None);
    };
    let known = context.build.step(step);
    let kept = context.store.failed(&context.build.project, &known.name).map_err(of_store)?;
    if let Some(kept) = kept.filter(|kept| kept.step.container == context.build.container(inside.container).name) {
        rooms.restore(inside.container, &kept).map_err(|error| not_restored(&error, &kept))?;
        tell_kept(context.build, step, &kept);
        return Ok(Some(kept));
    }
    if !known.needs.is_empty() {
        build_below(context, source, settings, rooms, &known.needs, Stay::Container(inside.container))?;
    }
    notice(&format!("the session before {}; what is done in it is kept nowhere", sanitize(&known.name)));
    Ok(None)
}

fn not_restored(error: &RestoreError, kept: &KeptFailure) -> Error {
    let what = format!("cannot open the session of {} as it was when it failed: {}", kept.step.step, told(error));
    Error::new(Exit::Host, what).with_hint(error.hint())
}

fn tell_kept(build: &Build, step: StepId, kept: &KeptFailure) {
    let known = &kept.step;
    let then = humantime::parse_rfc3339(&known.time).ok();
    let ago = then.and_then(|then| SystemTime::now().duration_since(then).ok());
    let ago = ago.map(|ago| duration(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)) + " ago").unwrap_or_default();
    let name = sanitize(&known.step);
    notice(&format!("{name} failed {ago}: {}", sanitize(known.reason.lines().next().unwrap_or_default())));
    let changed = key::reasons(&known.fields, &key::of_step(build, step), &[], &[&known.step]);
    for reason in changed {
        notice(&format!("warning: since then the manifest has changed: {}", sanitize(&reason.to_string())));
    }
    notice("its session as it was then; what is done in it is kept nowhere");
}

/// Does these steps and what they need; shown on standard error.
fn build_below<'a>(
    context: Context<'a>,
    source: Source<'_>,
    settings: &Settings,
    rooms: &Rooms<'a>,
    steps: &[StepId],
    stay: Stay,
) -> Result<(), Stop> {
    let plan = Plan::new(context.build, steps);
    let (events, receiver) = Events::channel();
    let events = events.masking(context.workspace.secrets());
    let reporter = in_background(move || {
        report::run(receiver, Mode::Plain { colour: false }, io::stderr(), ReportOutputs::default())
    })?;
    let options = Options { stay, ..Options::of(settings.jobs) };
    let segments = Segments::new(context.build, &plan);
    // What the store has of a session that is gone on in is no use but as a layer.
    let runtime = context.workspace.runtime().clone();
    let long_reads = LongReads::default();
    let long_read = long_reads.reporter();
    // Not a copy: the reporter of events ends when the last sender has gone, which the judge then has.
    long_reads.are_events(&events);
    let judged_by = freshness::Options {
        layers_only: stay != Stay::None,
        no_cache: false,
        stop: context.interrupt.flag(),
        runtime,
        long_read,
        own_files: Vec::new(),
        log: None,
        reports: Vec::new(),
        unreadable: None,
        opened: Arc::clone(context.paths.opened()),
    };
    let judge = Judge::new(context.build, &segments, Some(context.store), judged_by);
    let needed = absent_secrets::refuse_planned(source, context.build, &plan, &judge);
    let summary = needed.map(|()| execute::apply(context, &plan, &judge, options, rooms, &events));
    // What it would have learnt is learnt again the next time.
    let _ = judge.close();
    drop(events);
    // Nothing is left to do about a standard error that cannot be written to.
    let _ = reporter.join();
    match summary {
        Err(_) if context.interrupt.is_set() => Err(Exit::Interrupted.into()),
        summary => apply::exit(&summary?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture::build;

    #[test]
    fn a_name_is_a_containers_or_a_steps_and_of_both_it_must_be_said_which() {
        let mut build = build(&[("make", 0, &[]), ("test", 1, &[])]);
        build.containers[0].name = "base".into();
        build.containers[1].name = "test".into();
        let found = |name| container_or_step(&build, name).map(|inside| (inside.container.0, inside.step.map(|s| s.0)));
        assert_eq!(found("base").unwrap(), (0, None));
        assert_eq!(found("make").unwrap(), (0, Some(0)));
        assert_eq!(found("step:test").unwrap(), (1, Some(1)));
        assert_eq!(found("container:test").unwrap(), (1, None));
        let told = |name| found(name).unwrap_err().render();
        assert_eq!(
            told("test"),
            "error: a container and a step have the name `test`\n  help: write `container:test` or `step:test`\n"
        );
        assert!(told("mkae").contains("cannot find the container or step `mkae`\n  help: did you mean `make`?"));
        assert!(told("step:base").starts_with("error: cannot find the step `base`\n"), "{}", told("step:base"));
        assert!(told("container:make").contains("a step has that name, in the container `base`"));
    }
}
