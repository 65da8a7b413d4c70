//! Whether the outputs on the host are those of the store. By this check a build leaves an output as it is, and a plan says that
//! the build would write one.

use rustix::fs::fstat;

use super::CacheChecker;
use crate::fs::caller::{Owner, caller};
use crate::fs::output::OutputPlace;
use crate::model::{Action, StepId};
use crate::store::{CacheRecord, ExportForm, OutputAttributes, RecordedExport};

/// The state of the output of a step whose result is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputState {
    /// The output is that of the store, or the step has none.
    #[default]
    Same,
    /// Nothing is there: the build writes it.
    Missing,
    /// Something else is there: the build replaces it.
    Changed,
}

impl CacheChecker<'_> {
    /// Whether an output is that of an export, with its permissions and its owner.
    pub fn has_export(&self, output: &OutputPlace, exported: &RecordedExport) -> bool {
        match exported.form {
            ExportForm::File { mode, time } => {
                has_attributes(output, OutputAttributes { mode, owner: caller(), time })
                    && self.is_file_of(output, &exported.digest, exported.size)
            }
            ExportForm::Directory => {
                self.store.is_some_and(|store| store.has_exported(output, &exported.digest, caller()))
            }
        }
    }

    /// Returns the state of the output of a step, given the record of its segment. Makes nothing; an output that a build would
    /// refuse counts as the same, because the build does not write it.
    pub fn output_state(&self, step: StepId, segment: usize, recorded: &CacheRecord) -> OutputState {
        let action = &self.build.step(step).action;
        let Some(path) = action.output() else { return OutputState::Same };
        let is_tree = matches!(action, Action::Export(export) if export.may_be_directory());
        let output = match OutputPlace::find(path, is_tree) {
            Ok(Some(output)) => output,
            Ok(None) => return OutputState::Missing,
            Err(_) => return OutputState::Same,
        };
        if is_tree && self.store.is_some_and(|store| matches!(store.foreign_file(&output), Ok(Some(_)))) {
            return OutputState::Same;
        }
        let is_same = match action {
            Action::Snapshot(_) => {
                recorded.layer.as_ref().is_none_or(|layer| self.is_file_of(&output, &layer.digest, layer.size))
            }
            _ => {
                let mut exports = self.segments.get(segment).exports(self.build).zip(&recorded.exports);
                exports.find(|(id, _)| *id == step).is_none_or(|(_, exported)| self.has_export(&output, exported))
            }
        };
        if is_same { OutputState::Same } else { OutputState::Changed }
    }
}

/// Whether an output has these permissions and this owner, and no second name.
fn has_attributes(output: &OutputPlace, attributes: OutputAttributes) -> bool {
    let Ok(stat) = output.file().and_then(|file| Ok(fstat(file)?)) else { return false };
    let own = || Owner { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() };
    let Owner { user, group } = attributes.owner.unwrap_or_else(own);
    (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid, stat.st_nlink) == (attributes.mode, user, group, 1)
}
