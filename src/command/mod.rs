//! The commands: each puts the parts together for what the command line asks; the only place that knows them all.

mod absent_secrets;
mod apply;
mod doctor;
mod graph;
mod inside;
mod limits;
mod lock;
mod man;
mod next_steps;
mod outline;
mod plan;
mod run;
mod shell;
mod show;
mod site;
mod store;
mod verify;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::thread::JoinHandle;

use crate::build::{Build, size_text};
use crate::cli::{self, Cli, Command, ManifestArgs, SchemaOf, SetArgs};
use crate::diagnostic::Style;
use crate::error::{Error, Exit, told_with_hint};
use crate::escape::visible;
use crate::host::ThisHost;
use crate::kernel_files;
use crate::load::{LoadError, Loaded, load};
use crate::manifest;
use crate::named_paths::{Confinement, binds_that_show_store, unordered_binds};
use crate::plan::Plan;
use crate::report;
use crate::resource_limits::{self, MIN_STACK};
use crate::settings::{EMBEDDED, Partial, Progress, Settings, SettingsError};
use crate::warning::Warning;
use crate::{sys, terminal, threads};

/// Why a command ends without having done what it was asked for.
pub(crate) enum Stop {
    /// It was told already, or is no error: only the code is left.
    Code(ExitCode),
    /// An error to be told.
    Error(Error),
    /// Told with the places in a file.
    Shown(Exit, String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Exit> for Stop {
    fn from(exit: Exit) -> Self {
        Self::Code(exit.into())
    }
}

/// Carries out the command line and gives the program's exit code.
pub fn run(cli: Cli) -> ExitCode {
    // They fail for no signal that exists.
    let _ = sys::keep_ends_of_children().and_then(|()| sys::refuse_writes_beyond_a_limit());
    let result = needed_files(&cli.command).and_then(|()| carry_out(&cli));
    match result {
        Ok(()) => Exit::Done.into(),
        Err(Stop::Code(code)) => code,
        Err(Stop::Error(error)) => tell(error.exit(), &error.render()),
        Err(Stop::Shown(exit, text)) => tell(exit, &text),
    }
}

/// Checks that a command finds the files of the kernel that it cannot do without.
fn needed_files(command: &Command) -> Result<(), Stop> {
    match command {
        Command::Schema { .. } | Command::Doctor | Command::Man { .. } | Command::Completions { .. } => Ok(()),
        // Files are opened by way of their descriptors there.
        Command::Validate(_) | Command::Store(_) | Command::Plan(_) | Command::Graph(_) => {
            Ok(kernel_files::check_proc()?)
        }
        Command::Apply(_) | Command::Lock(_) | Command::Verify(_) | Command::Run(_) | Command::Shell(_) => {
            kernel_files::check_proc()?;
            Ok(kernel_files::check_null()?)
        }
    }
}

fn carry_out(cli: &Cli) -> Result<(), Stop> {
    match &cli.command {
        Command::Apply(args) => apply::apply(cli, args),
        Command::Plan(args) => plan::plan(cli, args),
        Command::Graph(args) => graph::graph(cli, args),
        Command::Validate(args) => validate(cli, args),
        Command::Lock(args) => lock::lock(cli, args),
        Command::Verify(args) => verify::verify(cli, args),
        Command::Run(args) => run::run(cli, args),
        Command::Shell(args) => shell::shell(cli, args),
        Command::Store(command) => store::store(cli, command),
        Command::Schema { of: SchemaOf::Manifest } => print(manifest::schema_text().as_bytes()),
        Command::Schema { of: SchemaOf::Events } => print(report::events_schema_text().as_bytes()),
        Command::Doctor => doctor::doctor(cli),
        Command::Man { folder } => man::man(folder),
        Command::Completions { shell } => print(&cli::completions(*shell)),
    }
}

/// Raises the soft limit of this process' stack where its caller has set a low one.
///
/// # Errors
/// Says so, and gives the exit code, where the hard limit is too low for runner.
pub fn make_room_for_the_stack() -> Result<(), ExitCode> {
    let Some(most) = resource_limits::raise_stack() else { return Ok(()) };
    let error =
        format!("runner needs a stack of {}, and its caller limits it to {}", size_text(MIN_STACK), size_text(most));
    let hint = "raise that with `ulimit -Hs unlimited; ulimit -s 8192`, or `LimitSTACK=` of a systemd unit".to_owned();
    Err(tell(Exit::Host, &Error::new(Exit::Host, error).with_hint(Some(hint)).render()))
}

/// Has this process name the limit of its caller where it gets no more memory, which aborts it.
pub fn prepare_for_want_of_memory() {
    if let Some(limit) = resource_limits::memory_hint() {
        // It fails for no signal that exists.
        let _ = sys::abort_in_words(format!("error: runner is out of memory: {limit}\n"), Exit::Host.code().into());
    }
}

fn tell(exit: Exit, text: &str) -> ExitCode {
    // Where standard error is gone there is nobody to be told; the code still says it.
    let _ = io::stderr().write_all(text.as_bytes());
    exit.into()
}

/// Shows a build on a thread of its own while it runs.
fn in_background<T: Send + 'static>(show: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>, Error> {
    threads::start("report", show).map_err(|error| site::no_thread("show what happens", error))
}

/// Prints to standard output. A reader that has read enough is no error.
fn print(bytes: &[u8]) -> Result<(), Stop> {
    match io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Exit::Host, format!("cannot write to standard output: {error}")).into())
        }
        _ => Ok(()),
    }
}

/// Prints what a command found out beside the display of a build. Events as JSON lines have standard output for themselves.
fn print_beside(settings: &Settings, text: &str) -> Result<(), Stop> {
    match settings.progress {
        Progress::Json => {
            // Where standard error is gone there is nobody to be told.
            let _ = io::stderr().write_all(text.as_bytes());
            Ok(())
        }
        _ => print(text.as_bytes()),
    }
}

/// The columns that standard output has, where it is a terminal.
fn columns() -> Option<usize> {
    let stdout = io::stdout();
    let is_terminal = stdout.is_terminal();
    is_terminal.then(|| terminal::size(stdout.as_fd())).flatten().map(|size| usize::from(size.ws_col))
}

fn validate(cli: &Cli, args: &ManifestArgs) -> Result<(), Stop> {
    let settings = settings(Partial { store: cli.store.clone(), ..Partial::default() }, &args.manifest)?;
    let build = loaded(&args.manifest, &args.sets)?;
    let store = std::path::absolute(&settings.store).unwrap_or_else(|_| settings.store.clone());
    // Where that cannot be looked at, whoever builds there finds out.
    let external = (settings.runtime != EMBEDDED).then_some(settings.runtime.as_str());
    for (source, refused) in binds_that_show_store(&build, &store, &Confinement::of(external)).unwrap_or_default() {
        let warning = match refused {
            Some(error) => Warning::BuildRefused { why: told_with_hint(&error, error.hint()) },
            None => Warning::StoreInBind { source, store: store.clone() },
        };
        inside::notice(&format!("warning: {warning}"));
    }
    absent_secrets::warn_of(&build);
    warn_of_order(&build, &Plan::new(&build, &[]));
    let (containers, steps) = (counted(build.containers.len(), "container"), counted(build.steps.len(), "step"));
    print(format!("{}: {containers}, {steps}: nothing wrong\n", args.manifest.display()).as_bytes())
}

/// Some things, by their number.
fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Warns of containers that read what others write, with no order between them.
fn warn_of_order(build: &Build, plan: &Plan) {
    for warning in Warning::of_unordered(build, &unordered_binds(build, plan)) {
        warn(&warning);
    }
}

/// The checked build of a manifest.
fn loaded(path: &Path, sets: &SetArgs) -> Result<Build, Stop> {
    Ok(loaded_with_text(path, sets)?.build)
}

/// The same, with the text.
fn loaded_with_text(path: &Path, sets: &SetArgs) -> Result<Loaded, Stop> {
    let path = cli::manifest(path)?;
    let sets: BTreeMap<String, String> = sets.values.iter().cloned().collect();
    let mut loaded = load(path, &sets, &ThisHost).map_err(|error| match error {
        LoadError::Read { .. } => Error::new(Exit::Usage, error.to_string()).with_hint(error.hint()).into(),
        LoadError::Refused { .. } => Stop::Shown(Exit::Usage, error.render(style())),
    })?;
    if let Some(seconds) = source_date_epoch()? {
        loaded.build.source_date_epoch = Some(seconds);
    }
    Ok(loaded)
}

/// `SOURCE_DATE_EPOCH` of the environment, which has the last word, see reproducible-builds.org's specification.
fn source_date_epoch() -> Result<Option<u64>, Error> {
    let name = "SOURCE_DATE_EPOCH";
    let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    let seconds = value.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let seconds = seconds.and_then(|text| text.parse().ok());
    seconds.map(Some).ok_or_else(|| {
        let message = format!("the variable {name} is `{}`, and not a number of seconds", value.display());
        Error::new(Exit::Usage, message).with_hint(Some(format!("unset {name}, or set it to seconds since 1970")))
    })
}

/// The settings that hold for a manifest, after a warning on standard error where `runner.toml` is not read.
fn settings_with_warning(flags: Partial, manifest: &Path) -> Result<Settings, Stop> {
    let settings = settings(flags, manifest)?;
    if let Some(warning) = &settings.ignored {
        warn(warning);
    }
    Ok(settings)
}

fn warn(what: &dyn Display) {
    // Where standard error is gone there is nobody to be told.
    let _ = writeln!(io::stderr(), "warning: {}", visible(&what.to_string()));
}

/// The settings that hold for a manifest. A build tells their warning as an event.
fn settings(flags: Partial, manifest: &Path) -> Result<Settings, Stop> {
    let folder = manifest.parent().unwrap_or(Path::new(""));
    Settings::resolve(flags, |name| std::env::var_os(name), folder).map_err(shown)
}

fn shown(error: SettingsError) -> Stop {
    Stop::Shown(Exit::Usage, error.render(style()))
}

/// How reports on standard error look.
fn style() -> Style {
    Style {
        color: io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        ..Style::default()
    }
}
