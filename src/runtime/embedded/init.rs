//! The init of a session's container: starts a step at each request, tells how it ended, ends with the socket.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::protocol::{Open, Opened, Start, receive, send};
use super::step::{Blueprint, become_step};
use crate::runtime::Outcome;
use crate::sys::{self, Fork};

/// What takes the place of a program in the container's first process.
#[derive(Clone)]
pub struct Init {
    control: Rc<UnixStream>,
    blueprint: Rc<Blueprint>,
}

struct Running {
    process: OwnedFd,
    status: UnixStream,
    killed: bool,
}

impl Init {
    /// An init that serves requests from `control`.
    pub fn new(control: Rc<UnixStream>, open: &Open) -> Self {
        Self { control, blueprint: Rc::new(Blueprint::new(open)) }
    }

    fn serve(&self) -> io::Result<()> {
        let view = self.blueprint.prepare()?;
        send(&self.control, &Opened::Ready, &[])?;
        let mut running: Vec<Running> = Vec::new();
        loop {
            let (asked, ended) = self.wait(&mut running)?;
            for index in ended.into_iter().rev() {
                let step = running.swap_remove(index);
                if let Some(outcome) = reap(&step.process)? {
                    // Whoever asked may have lost interest.
                    let _ = send(&step.status, &outcome, &[]);
                }
            }
            if asked {
                let Some((start, descriptors)) = receive::<Start>(&self.control)? else { return Ok(()) };
                let [stdin, stdout, stderr, status] = <[OwnedFd; 4]>::try_from(descriptors)
                    .map_err(|_| io::Error::other("a request without its four descriptors"))?;
                let status = UnixStream::from(status);
                match sys::fork_into(super::step::NAMESPACES) {
                    Ok(Fork::Child) => {
                        let why = become_step(&start.process, &view, [stdin, stdout, stderr]);
                        let _ = send(&status, &why, &[]);
                        sys::exit_now(why.exit_code());
                    }
                    Ok(Fork::Parent(process)) => running.push(Running { process, status, killed: false }),
                    Err(error) => {
                        let why = format!("no process can be made: {error}");
                        let _ = send(&status, &Outcome::NotStarted { why, code: 125 }, &[]);
                    }
                }
            }
        }
    }

    /// Waits until something happens: whether there is a request, and which steps have ended.
    fn wait(&self, running: &mut [Running]) -> io::Result<(bool, Vec<usize>)> {
        let mut polled = vec![PollFd::new(&*self.control, PollFlags::IN)];
        for step in running.iter() {
            polled.push(PollFd::new(&step.process, PollFlags::IN));
            // Once ended for that reason, a closed status socket has nothing more to say.
            let events = if step.killed { PollFlags::empty() } else { PollFlags::IN | PollFlags::RDHUP };
            polled.push(PollFd::from_borrowed_fd(step.status.as_fd(), events));
        }
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let happened: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(polled);
        let mut ended = Vec::new();
        for (index, step) in running.iter_mut().enumerate() {
            if happened[1 + 2 * index] {
                ended.push(index);
            } else if happened[2 + 2 * index] && !step.killed {
                step.killed = true;
                let _ = pidfd_send_signal(&step.process, Signal::KILL);
            }
        }
        Ok((happened[0], ended))
    }
}

/// How a process that has ended did so; `None` where it told that itself, for it never became the step's.
fn reap(process: &OwnedFd) -> io::Result<Option<Outcome>> {
    let Some(status) = waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED)? else {
        return Err(io::Error::other("a process that has ended has no status"));
    };
    Ok(match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(Outcome::Exited { code }),
        (None, Some(signal)) => Some(Outcome::Signaled { signal }),
        (None, None) => return Err(io::Error::other("a process ended neither by itself nor by a signal")),
    })
}

impl Executor for Init {
    fn exec(&self, _spec: &Spec) -> Result<(), ExecutorError> {
        match self.serve() {
            Ok(()) => sys::exit_now(0),
            Err(error) => {
                let _ = send(&self.control, &Opened::Failed(error.to_string()), &[]);
                sys::exit_now(1)
            }
        }
    }

    fn validate(&self, _spec: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    fn setup_envs(&self, _envs: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // Each step gets an environment of its own; init has none.
        Ok(())
    }
}
