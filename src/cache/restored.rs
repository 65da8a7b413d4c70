//! A stale segment that may be fresh after all: its inputs differ only in files that earlier steps of the build may write
//! as they were.

use std::path::Path;

use super::{CacheCheckError, CacheChecker};
use crate::cache::key::Reason;
use crate::model::{MountKind, StepId};
use crate::plan::{WrittenInput, written_by};
use crate::store::{CacheRecord, LayerState};

/// Returns the last result of a segment that is stale for `reasons`, and the reasons for which it may be fresh, if earlier
/// steps may restore all its inputs. `inputs` are those that earlier steps may write; `writes`: whether a step of these
/// writes in this build.
pub(super) fn restored(
    checker: &CacheChecker<'_>,
    index: usize,
    reasons: &[Reason],
    inputs: &[WrittenInput],
    writes: impl Fn(StepId) -> bool,
) -> Result<Option<(CacheRecord, Vec<Reason>)>, CacheCheckError> {
    let may_be_restored = |reason: &Reason| {
        let Reason::InputChanged { target, files, more } = reason else { return None };
        let input = inputs.iter().find(|input| input.name == *target)?;
        let source = source_of(checker, index, target)?;
        let restores = |step: StepId, file: &str| {
            writes(step) && written_by(checker.build, step).any(|path| contains(path, source, file))
        };
        if !files.iter().all(|file| input.steps.iter().any(|step| restores(*step, file))) {
            return None;
        }
        let is_named = |step: &&StepId| match files.as_slice() {
            // Which files differ is not known.
            [] => writes(**step),
            files => files.iter().any(|file| restores(**step, file)),
        };
        let steps = input.steps.iter().filter(is_named).map(|step| checker.build.step(*step).name.clone());
        let steps: Vec<String> = steps.collect();
        let reason = Reason::InputMayBeRestored { steps, target: target.clone(), files: files.clone(), more: *more };
        (!matches!(&reason, Reason::InputMayBeRestored { steps, .. } if steps.is_empty())).then_some(reason)
    };
    let Some(open) = reasons.iter().map(may_be_restored).collect::<Option<Vec<_>>>() else { return Ok(None) };
    Ok(checker.last_result(index)?.map(|result| (result, open)))
}

impl CacheChecker<'_> {
    /// Returns the result of the last build of a segment, if the store still has it.
    fn last_result(&self, index: usize) -> Result<Option<CacheRecord>, CacheCheckError> {
        let last = self.segments.get(index).steps.last();
        let (Some(store), Some(last)) = (self.store, last) else { return Ok(None) };
        let old = store.last_key(&self.build.name, &self.build.project, &self.build.step(*last).name);
        let Some(result) = old.and_then(|old| store.recorded(&old.key())) else { return Ok(None) };
        if self.missing_export(store, self.segments.get(index), &result)?.is_some() {
            return Ok(None);
        }
        let is_whole = match &result.layer {
            Some(layer) => matches!(store.look_at_layer(&layer.digest, layer.size)?, LayerState::Whole(_)),
            None => true,
        };
        Ok(is_whole.then_some(result))
    }
}

/// Returns the source of the read-only bind with that target.
fn source_of<'b>(checker: &CacheChecker<'b>, index: usize, target: &str) -> Option<&'b Path> {
    let mounts = &checker.build.container(checker.segments.get(index).container).mounts;
    mounts.iter().find_map(|mount| match &mount.kind {
        MountKind::Bind(source) if mount.target.display().to_string() == *target => Some(source.as_path()),
        _ => None,
    })
}

/// Returns whether a step that writes `path` may restore a file of the bind source: the file is that path, in it, or a
/// directory that contains it. `file` is the file as a reason names it: a path below the source, and how it differs.
fn contains(path: &Path, source: &Path, file: &str) -> bool {
    let name = file.rsplit_once(" (").map_or(file, |(name, _)| name);
    let file = if name == "." { source.to_owned() } else { source.join(name) };
    file.starts_with(path) || path.starts_with(&file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_path_contains_itself_the_files_in_it_and_the_directories_above_it() {
        let of = |path: &str, file: &str| contains(Path::new(path), Path::new("/w/out"), file);
        assert!(of("/w/out/a", "a (removed)") && of("/w/out/a", "a/b (1) (content)") && of("/w", "a (mode)"));
        assert!(of("/w/out/d/a", "d (removed)") && of("/w/out/d/a", ". (mode)"));
        assert!(!of("/w/out/a", "b (removed)") && !of("/w/out/a", "a (1) (added)") && !of("/w/other", "a (removed)"));
    }
}
