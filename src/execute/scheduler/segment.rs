//! How far a segment is: checked against the store, run, recorded.

use crate::execute::message::Stale;
use crate::model::StepId;

/// How far the cache check of a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// Nothing has asked for it.
    None,
    /// It waits for its turn.
    Due,
    Running,
    /// It waits for another runner.
    Waiting,
    Fresh,
    Stale,
}

/// How far the recording of a segment's results is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    NotYet,
    Running,
    Done,
}

/// The state of a segment.
#[derive(Debug)]
pub struct SegmentState {
    check: Check,
    /// Steps that wait for the check.
    pub blocked: Vec<StepId>,
    /// It is checked although files that it reads may still be written.
    pub ignores_barriers: bool,
    /// The number of its first steps whose results are in a checkpoint.
    resumed: usize,
    /// Its steps that have not ended well.
    pub open: usize,
    /// The image of its snapshot is in the store.
    pub has_image: bool,
    /// All layers below it are known.
    pub has_parents: bool,
    /// Its results can be recorded.
    pub is_recordable: bool,
    /// This runner has locked its key.
    pub is_locked: bool,
    pub commit: Commit,
    is_abandoned: bool,
}

impl SegmentState {
    /// Returns that of a segment with so many steps, which nothing has asked for.
    pub fn new(steps: usize) -> Self {
        Self {
            check: Check::None,
            blocked: Vec::new(),
            ignores_barriers: false,
            resumed: 0,
            open: steps,
            has_image: false,
            has_parents: false,
            is_recordable: false,
            is_locked: false,
            commit: Commit::NotYet,
            is_abandoned: false,
        }
    }

    pub fn is_unchecked(&self) -> bool {
        self.check == Check::None
    }

    pub fn is_being_checked(&self) -> bool {
        matches!(self.check, Check::Due | Check::Running | Check::Waiting)
    }

    pub fn is_fresh(&self) -> bool {
        self.check == Check::Fresh
    }

    pub fn is_stale(&self) -> bool {
        self.check == Check::Stale
    }

    pub fn check_is_due(&mut self) {
        self.check = Check::Due;
    }

    pub fn check_begins(&mut self) {
        self.check = Check::Running;
    }

    /// Returns whether it is the first to say so.
    pub fn check_waits(&mut self) -> bool {
        let is_first = self.check == Check::Running;
        if is_first {
            self.check = Check::Waiting;
        }
        is_first
    }

    pub fn check_has_waited(&self) -> bool {
        self.check == Check::Waiting
    }

    pub fn check_again(&mut self) {
        self.check = Check::None;
    }

    pub fn is_fresh_now(&mut self) {
        self.check = Check::Fresh;
    }

    pub fn is_stale_now(&mut self, stale: &Stale) {
        self.check = Check::Stale;
        self.resumed = stale.resumed;
        self.open -= stale.resumed;
        self.has_parents |= stale.has_parents;
        self.is_recordable = stale.is_recordable;
        self.is_locked = stale.is_locked;
    }

    /// Returns how many of its first steps have their results in the store, of so many.
    pub fn cached(&self, steps: usize) -> usize {
        match self.check {
            Check::Fresh => steps,
            Check::Stale => self.resumed,
            _ => 0,
        }
    }

    /// Whether the results of a step of it are in the store.
    pub fn is_cached(&self, steps: &[StepId], step: StepId) -> bool {
        self.is_fresh() || steps[..self.cached(steps.len())].contains(&step)
    }

    /// Whether other runners may wait for its results.
    pub fn is_awaited_by_others(&self) -> bool {
        self.check == Check::Stale && self.open > 0 && self.is_locked
    }

    /// Gives its results up; returns whether it is stale and had not been given up before.
    pub fn abandon(&mut self) -> bool {
        if self.check != Check::Stale || self.is_abandoned {
            return false;
        }
        (self.is_recordable, self.is_locked, self.is_abandoned) = (false, false, true);
        true
    }
}
