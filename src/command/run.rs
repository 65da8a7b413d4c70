//! `runner run`: one command in a fresh session of a container.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::thread;

use super::site::Site;
use super::{Stop, apply, loaded, settings};
use crate::build::{Build, ContainerId, Rootfs};
use crate::cli::{Cli, RunArgs};
use crate::diagnostic::nearest;
use crate::error::{Error, Exit};
use crate::event::Events;
use crate::execute::{self, Context, Options, Rooms};
use crate::freshness::{self, Judge};
use crate::plan::{Plan, Segments};
use crate::report::{self, Beside, Mode};
use crate::settings::{Partial, Settings};

/// Runs the command and passes its exit code on.
pub fn run(cli: &Cli, args: &RunArgs) -> Result<(), Stop> {
    let settings = settings(Partial { store: cli.store.clone(), ..Partial::default() }, &args.manifest)?;
    let build = loaded(&args.manifest, &args.sets)?;
    let container = container(&build, &args.container)?;
    let site = Site::open(&settings)?;
    let context = site.context(&build);
    let rooms = Rooms::new(context);
    let result = build_below(context, &settings, &rooms, container).and_then(|()| {
        let outcome = execute::run(context, &rooms, container, &args.command, stdin()?, &mut report::pass_through);
        outcome.map_err(|error| Error::new(Exit::Host, error).into())
    });
    drop(rooms);
    site.close()?;
    let attempt = result?;
    if attempt.interrupted {
        return Err(Exit::Interrupted.into());
    }
    if let execute::Outcome::NotStarted { why, .. } = &attempt.outcome {
        let text = format!("error: cannot start: {why}\n");
        report::pass_through(crate::event::Stream::Stderr, text.as_bytes()).ok();
    }
    match u8::try_from(attempt.outcome.exit_code()) {
        Ok(0) => Ok(()),
        Ok(code) => Err(Stop::Code(ExitCode::from(code))),
        Err(_) => Err(Exit::StepFailed.into()),
    }
}

fn container(build: &Build, name: &str) -> Result<ContainerId, Error> {
    let names = || build.containers.iter().map(|container| container.name.as_str());
    names().position(|known| known == name).map(ContainerId).ok_or_else(|| {
        let hint = match nearest(name, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the manifest has: {}", names().collect::<Vec<_>>().join(", ")),
        };
        Error::new(Exit::Usage, format!("cannot find the container `{name}`")).with_hint(Some(hint))
    })
}

/// Builds the snapshot that the container's root is, if it is one; shown on standard error.
fn build_below<'a>(
    context: Context<'a>,
    settings: &Settings,
    rooms: &Rooms<'a>,
    container: ContainerId,
) -> Result<(), Stop> {
    let Rootfs::Snapshot(step) = context.build.container(container).rootfs else { return Ok(()) };
    let plan = Plan::new(context.build, &[step]);
    let (events, receiver) = Events::channel();
    let reporter =
        thread::spawn(move || report::run(receiver, Mode::Plain { colour: false }, io::stderr(), Beside::default()));
    let options = Options { jobs: settings.jobs.get(), keep_going: false };
    let segments = Segments::new(context.build, &plan);
    let judge = Judge::new(context.build, &segments, Some(context.store), freshness::Options::default());
    let summary = execute::apply(context, &plan, &judge, options, rooms, &events);
    // What it would have learnt is learnt again the next time.
    let _ = judge.close();
    drop(events);
    // Nothing is left to do about a standard error that cannot be written to.
    let _ = reporter.join();
    apply::exit(&summary)
}

/// Standard input, unless it is a terminal: what runs inside is hostile, and could type into one (TIOCSTI of tty_ioctl(4)).
fn stdin() -> Result<OwnedFd, Error> {
    let stdin = io::stdin();
    let open =
        || if stdin.is_terminal() { Ok(File::open("/dev/null")?.into()) } else { stdin.as_fd().try_clone_to_owned() };
    open().map_err(|error: io::Error| Error::new(Exit::Host, format!("open standard input: {error}")))
}
