//! Checks of the user, the environment and the arguments of a process.

use std::collections::BTreeMap;

use super::build::{Principal, User};
use super::check::Check;
use crate::diagnostic::{Place, Problem, Trail};
use crate::manifest::{Named, Text};

/// The longest string that execve(2) accepts, in bytes, with the NUL at its end: `MAX_ARG_STRLEN`.
pub(super) const MAX_ARGUMENT: usize = 128 << 10;

/// `(uid_t) -1` means "no change" to chown(2) and setresuid(2), so no user can have it.
pub(super) const NO_CHANGE_ID: u32 = u32::MAX;

impl Check<'_> {
    pub(super) fn user(&mut self, at: &Trail<'_>, text: &str) -> User {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        User { user: self.principal(at, "user", user), group: group.map(|group| self.principal(at, "group", group)) }
    }

    fn principal(&mut self, at: &Trail<'_>, what: &str, name: &str) -> Principal {
        let problem = if name.is_empty() {
            Problem::new(at, format!("the {what} is empty")).label("UID[:GID] or USER[:GROUP]")
        } else if name.bytes().all(|b| b.is_ascii_digit()) {
            match name.parse() {
                Ok(id) if id != NO_CHANGE_ID => return Principal::Id(id),
                _ => Problem::new(Place::word(at.path(), name), format!("the {what} {name} is too large"))
                    .label("at most 4294967294"),
            }
        } else if let Some(bad) =
            name.chars().find(|c| c.is_whitespace() || c.is_control() || matches!(c, ':' | '/' | ','))
        {
            Problem::new(at, format!("the {what} {name:?} has {bad:?} in it")).label("UID[:GID] or USER[:GROUP]")
        } else if name.starts_with(['-', '+']) {
            Problem::new(at, format!("the {what} `{name}` is neither a number nor a name"))
                .label("UID[:GID] or USER[:GROUP]")
        } else {
            return Principal::Name(name.to_owned());
        };
        self.add(problem.help("write numbers, such as 1000:1000, or names, such as builder:builder"));
        Principal::Id(0)
    }

    pub(super) fn env(&mut self, at: &Trail<'_>, env: Option<&Named<Text>>) -> BTreeMap<String, String> {
        let mut checked = BTreeMap::new();
        for (name, value) in env.into_iter().flat_map(Named::iter) {
            let at = at.key(name);
            self.variable_name(|| Place::key(at.path()), name);
            self.argument(&at, "variable", value, name.len() + 1);
            checked.insert(name.to_owned(), value.to_string());
        }
        checked
    }

    /// Checks the name of an environment variable.
    pub(super) fn variable_name(&mut self, place: impl Fn() -> Place, name: &str) {
        let problem = if name.is_empty() {
            Problem::new(place(), "the name of a variable is empty").label("a name is missing")
        } else if name.contains('=') {
            Problem::new(place(), format!("there is a `=` in the variable's name `{name}`"))
                .label("a name ends where the `=` is")
        } else if name.contains('\0') {
            Problem::new(place(), "there is a NUL character in a variable's name").label("here")
        } else {
            return;
        };
        self.add(problem.help("a variable's name is made of letters, digits and `_`"));
    }

    /// Checks a string that execve(2) gets with `more` further bytes.
    pub(super) fn argument(&mut self, at: &Trail<'_>, what: &str, text: &str, more: usize) {
        self.no_nul(at, text);
        if text.len() + more < MAX_ARGUMENT {
            return;
        }
        let message = format!("the {what} is {} bytes long, longer than an argument can be", text.len());
        let problem = Problem::new(at, message).label(format!("the kernel accepts {} bytes", MAX_ARGUMENT - 1 - more));
        self.add(problem.help("put it into a file, and mount that"));
    }
}
