//! `runner __session`: the process of one thread that calls libcontainer, and waits for the container's end.

use std::error::Error;
use std::io;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::rc::Rc;

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::init::Init;
use super::protocol::{Open, Opened, receive, send};
use super::devices;
use crate::sys;

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
    let mut container = match create(&open, &socket) {
        Ok(container) => container,
        Err(error) => {
            send(&socket, &Opened::Failed(words(error.as_ref())), &[])?;
            return Err(io::Error::other("no container"));
        }
    };
    // From here on only the container's init holds this end: it closes with init, and init ends when the other closes.
    drop(socket);
    if let Some(pid) = container.pid() {
        let _ = waitpid(Pid::from_raw(pid.as_raw()), None);
    }
    container.delete(true).map_err(io::Error::other)
}

fn create(open: &Open, socket: &Rc<UnixStream>) -> Result<Container, Box<dyn Error>> {
    let init = Init::new(Rc::clone(socket), open);
    let mut container = ContainerBuilder::new(open.id.clone(), SyscallType::Linux)
        .with_root_path(&open.state)?
        .with_executor(init)
        .as_init(&open.bundle)
        .with_systemd(false)
        .build()?;
    let started = devices::close_tun(&open.id, container.pid().map(|pid| pid.as_raw())).and_then(|()| Ok(container.start()?));
    if let Err(error) = started {
        let _ = container.delete(true);
        return Err(error);
    }
    Ok(container)
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
