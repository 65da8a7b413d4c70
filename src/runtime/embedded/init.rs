//! The init of a session's container: starts a step at each request, tells how it ended, ends with the socket.
//!
//! What takes long about a step is not its program but its namespaces: to make them, to mount its `/proc`, and above
//! all to take its mounts down, for which the kernel waits until no processor can see them any more. None of that
//! happens while anyone waits: a spare process with all made ready stands by for the next request, and the mount
//! namespace of a step that has ended is kept until the next spare, before it gets ready, drops it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use libcontainer::oci_spec::runtime::{LinuxNamespaceType, Spec};
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, openat};
use rustix::process::{Signal, pidfd_send_signal};

use super::Open;
use super::step::{Blueprint, NAMESPACES, View, become_step, mount_view};
use crate::runtime::protocol::{Opened, Start, Told, receive, receive_unread, send, send_unread};
use crate::runtime::{Outcome, reap};
use crate::sys::{self, Fork};

/// The processes of a session that are no step's: init and its spare.
pub const OWN_PROCESSES: u64 = 2;

/// What takes the place of a program in the container's first process.
#[derive(Clone)]
pub struct Init {
    control: Rc<UnixStream>,
    blueprint: Rc<Blueprint>,
}

/// A process in namespaces of its own that waits to become a step.
struct Spare {
    process: OwnedFd,
    /// The request goes here.
    feed: UnixStream,
    namespace: Option<File>,
}

struct Running {
    process: OwnedFd,
    status: UnixStream,
    namespace: Option<File>,
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
        let mut ended_namespaces = Vec::new();
        let mut spare = Some(stand_by(&view, &mut ended_namespaces));
        loop {
            let (asked, ended) = self.wait(&mut running)?;
            for index in ended.into_iter().rev() {
                let step = running.swap_remove(index);
                // Whoever asked may have lost interest; and what could not become a step has told that itself.
                let _ = send(&step.status, &Told::Ended(reap(step.process.as_fd())?.into()), &[]);
                ended_namespaces.extend(step.namespace);
            }
            if asked {
                let Some((start, descriptors)) = receive_unread(&self.control)? else { return Ok(()) };
                let [stdin, stdout, stderr, status] = <[OwnedFd; 4]>::try_from(descriptors)
                    .map_err(|_| io::Error::other("a request without its four descriptors"))?;
                let ready = match spare.take() {
                    Some(Ok(spare)) => Ok(spare),
                    // What stood in the way may be gone by now.
                    _ => stand_by(&view, &mut ended_namespaces),
                };
                let told = ready.and_then(|spare| {
                    let descriptors = [&stdin, &stdout, &stderr, &status].map(|descriptor| descriptor.as_fd());
                    send_unread(&spare.feed, &start, &descriptors)?;
                    Ok(spare)
                });
                drop([stdin, stdout, stderr]);
                let status = UnixStream::from(status);
                match told {
                    Ok(Spare { process, namespace, .. }) => {
                        running.push(Running { process, status, namespace, killed: false })
                    }
                    Err(error) => {
                        let why = format!("no process can be made: {error}");
                        let _ = send(&status, &Told::Ended(Outcome::NotStarted { why, code: 125 }.into()), &[]);
                    }
                }
                // At once: the step could take its place among the processes that the container may have.
                spare = Some(stand_by(&view, &mut ended_namespaces));
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

/// A new spare, which drops the last references to the namespaces of steps that have ended.
fn stand_by(view: &View, ended_namespaces: &mut Vec<File>) -> io::Result<Spare> {
    let (feed, fed) = UnixStream::pair()?;
    match sys::fork_into(NAMESPACES, view.proc())? {
        Fork::Child => {
            drop(feed);
            ended_namespaces.clear();
            wait_for_request(view, &fed);
        }
        Fork::Parent(pid, process) => {
            ended_namespaces.clear();
            // Without it the kernel takes the mounts down while the step's end is waited for: slower, and no less right.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let namespace = openat(view.proc(), format!("{pid}/ns/mnt"), flags, Mode::empty()).ok().map(File::from);
            Ok(Spare { process, feed, namespace })
        }
    }
}

/// Gets the step's view ready and becomes the step when asked to.
fn wait_for_request(view: &View, fed: &UnixStream) -> ! {
    let mounted = mount_view(view);
    let Ok(Some((start, descriptors))) = receive::<Start>(fed) else { sys::exit_now(0) };
    let Ok([stdin, stdout, stderr, status]) = <[OwnedFd; 4]>::try_from(descriptors) else { sys::exit_now(125) };
    let status = UnixStream::from(status);
    let why = match mounted {
        Ok(()) => become_step(view, &start.process, [stdin, stdout, stderr], &status),
        Err(error) => Outcome::NotStarted { why: format!("it cannot mount its own /proc: {error}"), code: 125 },
    };
    let code = why.exit_code();
    let _ = send(&status, &Told::Ended(why.into()), &[]);
    sys::exit_now(code);
}

/// A network namespace begins with its loopback interface down. libcontainer 0.7 leaves it so; runc does not.
fn loopback(spec: &Spec) -> io::Result<()> {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let own = namespaces.into_iter().flatten().any(|namespace| namespace.typ() == LinuxNamespaceType::Network);
    if own { sys::bring_loopback_up() } else { Ok(()) }
}

impl Executor for Init {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        match loopback(spec).and_then(|()| self.serve()) {
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
