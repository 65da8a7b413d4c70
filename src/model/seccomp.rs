//! Checks of a container's seccomp profile, and its only reader.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build::{Capability, Seccomp};
use super::check::Check;
use super::host::FileKind;
use crate::diagnostic::{Problem, Trail, nearest};
use crate::seccomp::{Architecture, Profile, compile, starts_steps};

/// The words that are not paths.
const WORDS: [(&str, Seccomp); 2] = [("default", Seccomp::Default), ("unconfined", Seccomp::Unconfined)];

/// The largest profile; Docker's own has some 20,000 bytes.
const MAX_BYTES: u64 = 1 << 20;

impl Check<'_> {
    /// Returns the profile of a container whose steps have these capabilities.
    pub(super) fn seccomp(&mut self, word: Option<&str>, at: &Trail<'_>, capabilities: &[Capability]) -> Seccomp {
        let Some(word) = word else { return Seccomp::Default };
        if let Some((_, seccomp)) = WORDS.into_iter().find(|(name, _)| *name == word) {
            return seccomp;
        }
        let path = self.on_host(at, "seccomp profile", word);
        if word.is_empty() {
            return Seccomp::Default;
        }
        let profile = match self.profiles.get(&path) {
            Some(known) => Arc::clone(known),
            None => {
                let Some(profile) = self.profile(at, word, &path) else { return Seccomp::Default };
                self.profiles.insert(path.clone(), Arc::clone(&profile));
                profile
            }
        };
        self.filter(at, path.clone(), &profile, capabilities);
        Seccomp::Profile(profile, path)
    }

    /// Refuses a profile whose filter the kernel would refuse, or under which no step could start.
    fn filter(&mut self, at: &Trail<'_>, path: PathBuf, profile: &Profile, capabilities: &[Capability]) {
        // On an unknown machine or kernel, the session reports that.
        let (Some(machine), Some(kernel)) = (Architecture::native(), self.host.kernel()) else { return };
        let shown = path.display().to_string();
        if !self.filters.insert((path, capabilities.to_vec())) {
            return;
        }
        let compiled = profile.resolve(capabilities, machine, kernel).map(|rules| compile(&rules));
        let (why, help) = match compiled {
            Ok(Ok(program)) => match starts_steps(&program, machine) {
                Ok(()) => return,
                Err(error) => (error.to_string(), Some(error.hint())),
            },
            Ok(Err(error)) => (error.to_string(), error.hint()),
            Err(error) => (error.to_string(), None),
        };
        let problem = Problem::new(at, format!("the seccomp profile `{shown}` cannot be used: {why}"));
        let problem = problem.label("in this file");
        self.add(match help {
            Some(help) => problem.help(help),
            None => problem,
        });
    }

    fn profile(&mut self, at: &Trail<'_>, word: &str, path: &Path) -> Option<Arc<Profile>> {
        let shown = path.display();
        if let Some(near) = nearest(word, WORDS.iter().map(|(name, _)| *name)).filter(|_| self.host.kind(path).is_err())
        {
            let problem =
                Problem::new(at, format!("unknown seccomp profile `{word}`")).label("neither a word nor a file");
            self.add(problem.help(format!("did you mean `{near}`?")));
            return None;
        }
        if !self.exists(at, "seccomp profile", path, &[FileKind::File]) {
            return None;
        }
        let problem = match self.host.read(path, MAX_BYTES) {
            Ok(text) => match Profile::parse(&text) {
                Ok(profile) => return Some(Arc::new(profile)),
                Err(error) => Problem::new(at, format!("the seccomp profile `{shown}` cannot be used: {error}"))
                    .label("in this file")
                    .help("a profile is JSON as Docker reads it, with `defaultAction` and `syscalls`"),
            },
            Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => {
                Problem::new(at, format!("the seccomp profile `{shown}` is larger than {MAX_BYTES} bytes"))
                    .label("in this file")
            }
            Err(error) => Problem::new(at, format!("cannot read the seccomp profile `{shown}`: {error}")).label("here"),
        };
        self.add(problem);
        None
    }
}
