//! Checks of mounts of the caller's SSH agent.

use std::io;
use std::path::Path;

use super::OWNER;
use crate::diagnostic::{Problem, Trail};
use crate::manifest::MountDef;
use crate::model::build::{AbsentSecret, MountKind, SSH_AUTH_SOCK, Secret};
use crate::model::check::{Check, has_nul};

/// The default target.
pub(super) const TARGET: &str = "/run/ssh-agent.sock";

impl Check<'_> {
    /// Checks that the agent answers. As a secret, it is needed only by a build that runs a step with it.
    pub(super) fn ssh(&mut self, def: &MountDef, at: &Trail<'_>) -> MountKind {
        self.only(def, at, "an SSH agent", &["source"]);
        self.options(def, at, &[], OWNER);
        let (agent, problem) = match &def.source {
            Some(source) => {
                let at = at.key("source");
                let path = self.on_host(&at, "SSH agent", source);
                let problem = if source.is_empty() { None } else { self.unanswered(&at, &path) };
                (Secret::File(path), problem)
            }
            None => {
                let at = at.key("type");
                match self.host.path_variable(SSH_AUTH_SOCK) {
                    Some(path) if path.is_absolute() => {
                        let problem = self.unanswered(&at, &path);
                        (Secret::File(path), problem)
                    }
                    found => {
                        let why = match found {
                            Some(path) => format!("is `{}`, which is no absolute path", path.display()),
                            None => "is not set".to_owned(),
                        };
                        let message = format!("there is no SSH agent: the variable `{SSH_AUTH_SOCK}` {why}");
                        let problem = Problem::new(&at, message).label("the caller's agent").help(format!(
                            "start one with `eval $(ssh-agent)`, and add a key with `ssh-add`; sudo passes it on with \
                             `sudo --preserve-env={SSH_AUTH_SOCK} runner …`"
                        ));
                        (Secret::Variable(SSH_AUTH_SOCK.to_owned()), Some(problem))
                    }
                }
            }
        };
        let absent = problem.map(|problem| AbsentSecret { secret: agent.clone(), problem });
        self.absent_secrets.extend(absent);
        MountKind::Ssh(agent)
    }

    /// Returns the problem of a socket on which no agent answers.
    fn unanswered(&self, at: &Trail<'_>, path: &Path) -> Option<Problem> {
        if has_nul(path) {
            return None;
        }
        let error = self.host.connect(path).err()?;
        let shown = path.display();
        let (message, help) = match error.kind() {
            io::ErrorKind::NotFound => (format!("the SSH agent `{shown}` does not exist"), "start one"),
            io::ErrorKind::WouldBlock => (format!("the SSH agent `{shown}` does not answer"), "start another"),
            io::ErrorKind::ConnectionRefused => (format!("no SSH agent listens on `{shown}`"), "start another"),
            _ => (format!("cannot connect to the SSH agent `{shown}`: {error}"), "start one"),
        };
        let problem = Problem::new(at, message).label("the caller's agent");
        Some(problem.help(format!("{help} with `eval $(ssh-agent)`, and add a key with `ssh-add`")))
    }
}
