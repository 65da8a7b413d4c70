//! Records the results of a segment, unless the inputs of its key have changed meanwhile.

use std::path::Path;

use super::context::Context;
use super::failure::Failure;
use super::segment_table::{ToCommit, ToRecord};
use super::session_pool::SessionPool;
use crate::cache::key::{KeyFields, Reason};
use crate::cache::{CacheCheckError, CacheChecker, Since};
use crate::content::ContentError;
use crate::event::Events;
use crate::model::{Build, Checkpointing};
use crate::named_paths::unordered_binds;
use crate::plan::{Plan, Unordered};
use crate::store::{BuildLock, Store, StoreError};
use crate::warning::{InputFix, MissingOrder, NotKept, Warning};

/// Locks the keys of the segments above that run already, then records the segment. Returns the locks.
pub(super) fn commit(
    checker: &CacheChecker<'_>,
    context: Context<'_>,
    sessions: &SessionPool<'_>,
    events: &Events,
    to_commit: ToCommit,
) -> Vec<(usize, BuildLock)> {
    let ToCommit { above, parents, record } = to_commit;
    let mut locks = Vec::new();
    for (segment, draft) in above {
        match context.store.try_lock_key(&draft.with_base(&parents).key()) {
            Ok(lock) => locks.extend(lock.map(|lock| (segment, lock))),
            Err(error) => {
                events.warn(None, &Warning::NotChecked { why: Failure::from(CacheCheckError::from(error)).reason });
            }
        }
    }
    if let Some(record) = record
        && let Err(warning) = record_segment(checker, context, sessions, record)
    {
        events.warn(None, &warning);
    }
    locks
}

/// Returns the order that would have prevented a step of another container from writing one of these inputs of a segment.
fn missing_order(
    checker: &CacheChecker<'_>,
    build: &Build,
    segment: usize,
    inputs: &[&str],
) -> Option<Box<MissingOrder>> {
    let reader = checker.segments().get(segment).container;
    let is_it = |unordered: &&Unordered| {
        unordered.reader == reader && inputs.iter().any(|input| unordered.target == Path::new(input))
    };
    let all = unordered_binds(build, &Plan::new(build, &[]));
    all.iter().find(is_it).map(|unordered| Box::new(MissingOrder::of(build, unordered)))
}

/// Records the result of a segment, unless the inputs of its key have changed meanwhile.
fn record_segment(
    checker: &CacheChecker<'_>,
    context: Context<'_>,
    sessions: &SessionPool<'_>,
    record: ToRecord,
) -> Result<(), Warning> {
    let Context { build, store, .. } = context;
    let ToRecord { segment, draft, below, recorded, building } = record;
    let step = recorded.steps.last().cloned().unwrap_or_default();
    let not_recorded = |why, fix| Warning::NotKept { step: step.clone(), why, fix };
    let failed = |failure: Failure, fix| not_recorded(NotKept::Failed { why: failure.reason }, fix);
    let fix_of = |targets: &[&str], otherwise| match missing_order(checker, build, segment, targets) {
        Some(order) => InputFix::Order(order),
        None => Some(checker.own_inputs(segment)).filter(|own| !own.is_empty()).map_or(otherwise, InputFix::Own),
    };
    let changed = checker.changed_since(segment, &draft, &below);
    let changed = changed.map_err(|error| {
        let is_changing = matches!(&error, CacheCheckError::Content(ContentError::Changing { .. }));
        failed(error.into(), if is_changing { fix_of(&[], InputFix::None) } else { InputFix::None })
    })?;
    match changed {
        Some(Since::Changed(reasons)) => {
            let inputs = reasons.iter().filter_map(|reason| match reason {
                Reason::InputChanged { target, .. } => Some(target.as_str()),
                _ => None,
            });
            let inputs: Vec<&str> = inputs.collect();
            let is_copied = reasons.iter().any(|reason| matches!(reason, Reason::CopyChanged { .. }));
            let fix = match inputs.is_empty() {
                false => fix_of(&inputs, InputFix::Ignore),
                // An output of this build may be among the copied files.
                true if is_copied => fix_of(&[], InputFix::None),
                true => InputFix::None,
            };
            let reasons = reasons.iter().map(Reason::to_string).collect();
            return Err(not_recorded(NotKept::Changed { reasons }, fix));
        }
        Some(Since::ChangedBack(inputs)) => {
            let targets: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let fix = fix_of(&targets, InputFix::None);
            return Err(not_recorded(NotKept::ChangedBack { inputs }, fix));
        }
        None => {}
    }
    let reports = checker.own_reports(segment);
    if !reports.is_empty() {
        return Err(not_recorded(NotKept::WillChange, InputFix::Own(reports)));
    }
    store.record(&recorded, &below, checker.project()).map_err(|error| failed(error.into(), InputFix::None))?;
    // Only after the record is written: a runner that waits for the lock looks for the record.
    drop(building);
    if checker.segments().get(segment).snapshot.is_some() {
        sessions.checkpoints.end(segment);
        // A collection removes the images that cannot be removed now.
        let _ = remove_checkpoints(checker, build, store, segment, &draft.with_base(&below));
    }
    Ok(())
}

/// Removes the checkpoints of a segment whose snapshot is in the store: nothing continues from them any more.
fn remove_checkpoints(
    checker: &CacheChecker<'_>,
    build: &Build,
    store: &Store,
    segment: usize,
    fields: &KeyFields,
) -> Result<(), StoreError> {
    let segment = checker.segments().get(segment);
    if build.container(segment.container).checkpoint == Checkpointing::Off {
        return Ok(());
    }
    for (n, step) in segment.steps.iter().enumerate() {
        if store.has_checkpoint(&build.name, &build.step(*step).name) {
            store.remove_checkpoint(&fields.of_checkpoint(n + 1).key())?;
        }
    }
    Ok(())
}
