//! `runner apply`: builds.

use std::io::{self, IsTerminal};
use std::thread;

use super::site::Site;
use super::{Stop, loaded, settings};
use crate::cli::{ApplyArgs, Cli, targets};
use crate::error::{Error, Exit};
use crate::event::{BuildStatus, Event, Events};
use crate::execute::{self, Options, Rooms, Summary};
use crate::freshness::{self, Judge};
use crate::plan::{Plan, Segments};
use crate::report::{self, Mode};
use crate::settings::{Partial, Progress};

/// Runs the plan of a manifest.
pub fn apply(cli: &Cli, args: &ApplyArgs) -> Result<(), Stop> {
    let flags = Partial { store: cli.store.clone(), jobs: args.jobs, progress: args.progress, ..Partial::default() };
    let settings = settings(flags, &args.manifest.manifest)?;
    let build = loaded(&args.manifest.manifest, &args.manifest.sets)?;
    let plan = Plan::new(&build, &targets(&build, &args.targets)?);
    let site = Site::open(&settings)?;
    let (events, receiver) = Events::channel();
    let mode = mode(settings.progress);
    let reporter = thread::spawn(move || report::run(receiver, mode, io::stdout()));
    site.warn(&events);
    let context = site.context(&build);
    let rooms = Rooms::new(context);
    let segments = Segments::new(&build, &plan);
    let judge = Judge::new(&build, &segments, Some(context.store), freshness::Options { no_cache: args.no_cache });
    let options = Options { jobs: settings.jobs.get(), keep_going: args.keep_going };
    let summary = execute::apply(context, &plan, &judge, options, &rooms, &events);
    if let Err(error) = judge.close() {
        let message = Error::new(Exit::Host, error).to_string();
        events.send(Event::Warning { step: None, message });
    }
    drop((rooms, events));
    site.close()?;
    let shown = reporter.join();
    exit(&summary)?;
    match shown {
        Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Exit::Host, format!("write to standard output: {error}")).into())
        }
        _ => Ok(()),
    }
}

/// What the end of a run ends the program with.
pub fn exit(summary: &Summary) -> Result<(), Stop> {
    match summary.status {
        BuildStatus::Done => Ok(()),
        BuildStatus::Interrupted => Err(Exit::Interrupted.into()),
        BuildStatus::Failed if summary.step_failed => Err(Exit::StepFailed.into()),
        BuildStatus::Failed => Err(Exit::Host.into()),
    }
}

fn mode(progress: Progress) -> Mode {
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match progress {
        Progress::Auto | Progress::Plain => Mode::Plain { colour },
        Progress::Json => Mode::Json,
        Progress::Quiet => Mode::Quiet,
    }
}
