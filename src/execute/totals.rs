//! Counts the steps of a run by their ends, and collects their layers.

use super::failure::{Cause, Failure};
use crate::digest::Digest;
use crate::event::{StepStatus, TestTotals};
use crate::model::StepId;

/// The numbers of steps by their ends, and their layers and exports.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) ran: usize,
    pub(super) cached: usize,
    pub(super) failed: usize,
    /// Those of the failed ones that the interruption of the build stopped.
    pub(super) stopped: usize,
    pub(super) skipped: usize,
    /// The tests among them; none if there are none.
    pub(super) tests: Option<TestTotals>,
    pub(super) step_failed: bool,
    pub(super) mismatched: bool,
    pub(super) wrong_input: bool,
    pub(super) layers: Vec<(StepId, Digest)>,
    pub(super) exports: Vec<(StepId, Digest)>,
}

impl Totals {
    /// Counts a test that has ended or does not begin.
    pub(super) fn count_test(&mut self, status: StepStatus) {
        let tests = self.tests.get_or_insert_default();
        match status {
            StepStatus::Ran => tests.passed += 1,
            StepStatus::Cached => (tests.passed, tests.cached) = (tests.passed + 1, tests.cached + 1),
            StepStatus::Failed => tests.failed += 1,
            StepStatus::Skipped => tests.skipped += 1,
        }
    }

    /// Counts a failure.
    pub(super) fn blame(&mut self, failure: &Failure) {
        self.failed += 1;
        self.stopped += usize::from(failure.cause == Cause::Interrupt);
        self.step_failed |= failure.cause == Cause::Step;
        self.mismatched |= failure.cause == Cause::Mismatch;
        self.wrong_input |= failure.cause == Cause::Input;
    }
}
