//! `runner __session`: the process of one thread that calls libcontainer, and waits for the container's end.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::Open;
use super::init::Init;
use crate::runtime::devices;
use crate::runtime::protocol::{Opened, receive, send};
use crate::sys;

/// Two seconds in all, beyond what libcontainer itself waits.
const DELETE_TRIES: u32 = 40;
const DELETE_PAUSE: Duration = Duration::from_millis(50);

/// Serves one session; the socket to runner is standard input.
pub fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve() -> io::Result<()> {
    let socket = Rc::new(UnixStream::from(sys::take_stdin()?));
    let Some((open, _)) = receive::<Open>(&socket)? else { return Ok(()) };
    let log = listen()?;
    let mut container = match create(&open, &socket) {
        Ok(container) => container,
        Err(error) => {
            let cause = first_line(log).map(|line| format!(" ({line})")).unwrap_or_default();
            let lacking = if open.makes_nodes { devices::check(&open.id, &open.devices).err() } else { None };
            let words = lacking.unwrap_or_else(|| words(error.as_ref()) + &cause);
            send(&socket, &Opened::Failed(words), &[])?;
            return Err(io::Error::other("no container"));
        }
    };
    // From here on only the container's init holds this end: it closes with init, and init ends when the other closes.
    drop(socket);
    if let Some(pid) = container.pid() {
        let _ = waitpid(Pid::from_raw(pid.as_raw()), None);
    }
    delete(&mut container).map_err(io::Error::other)
}

/// Deletes the container with its cgroups. The kernel may hold a cgroup for a moment after the last process in it has
/// ended, on a busy host for longer than libcontainer waits.
fn delete(container: &mut Container) -> Result<(), LibcontainerError> {
    for _ in 0..DELETE_TRIES {
        if container.delete(true).is_ok() {
            return Ok(());
        }
        std::thread::sleep(DELETE_PAUSE);
    }
    container.delete(true)
}

fn create(open: &Open, socket: &Rc<UnixStream>) -> Result<Container, Box<dyn Error>> {
    let init = Init::new(Rc::clone(socket), open);
    let mut container = ContainerBuilder::new(open.id.clone(), SyscallType::Linux)
        .with_root_path(&open.state)?
        .with_executor(init)
        .as_init(&open.bundle)
        .with_systemd(false)
        .build()?;
    let started = enforce_rules(open, &container).and_then(|()| Ok(container.start()?));
    if let Err(error) = started {
        let _ = delete(&mut container);
        return Err(error);
    }
    Ok(container)
}

fn enforce_rules(open: &Open, container: &Container) -> Result<(), Box<dyn Error>> {
    let pid = container.pid().ok_or("the container has no process")?;
    match devices::enforce(&open.id, pid.as_raw(), &open.devices) {
        // Without nodes of its own making nothing inside has any to open: those of its root do not open either.
        Err(_) if !open.makes_nodes => Ok(()),
        other => other,
    }
}

/// libcontainer's errors often only say "failed syscall"; which one, and on what, it tells by tracing alone. The file in
/// memory is shared with the processes that it forks.
fn listen() -> io::Result<File> {
    let file = File::from(rustix::fs::memfd_create("log", rustix::fs::MemfdFlags::CLOEXEC)?);
    let writer = Mutex::new(file.try_clone()?);
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::ERROR)
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_ansi(false)
        .with_writer(writer)
        .finish();
    tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)?;
    Ok(file)
}

/// The first error that was told, which is the innermost.
fn first_line(mut log: File) -> Option<String> {
    let mut text = String::new();
    log.rewind().ok()?;
    log.read_to_string(&mut text).ok()?;
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

/// An error with all its causes, each once: libcontainer's outer ones often repeat the inner ones.
fn words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = error.source();
    }
    words
}
