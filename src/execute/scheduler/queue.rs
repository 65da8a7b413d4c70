//! The steps that may begin, in their order: tests after all others.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::model::StepId;

/// Steps that may begin.
#[derive(Debug, Default)]
pub struct Queues {
    /// Of the steps that build, and of tests.
    queues: [Queue; 2],
}

#[derive(Debug, Default)]
struct Queue {
    /// Steps that were blocked, the first one first.
    unblocked: VecDeque<StepId>,
    /// Other steps, by their positions in the plan.
    ready: BinaryHeap<Reverse<(usize, StepId)>>,
}

impl Queues {
    /// Adds a step whose last need is over, at this position in the plan.
    pub fn add(&mut self, step: StepId, position: usize, is_test: bool) {
        self.queues[usize::from(is_test)].ready.push(Reverse((position, step)));
    }

    /// Adds a step that was blocked.
    pub fn add_unblocked(&mut self, step: StepId, is_test: bool) {
        self.queues[usize::from(is_test)].unblocked.push_back(step);
    }

    /// Removes the first step that is no test, or else the first test where `may_test`.
    pub fn pop(&mut self, may_test: bool) -> Option<StepId> {
        let [steps, tests] = &mut self.queues;
        steps.pop().or_else(|| if may_test { tests.pop() } else { None })
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Queue {
    fn pop(&mut self) -> Option<StepId> {
        let unblocked = self.unblocked.pop_front();
        unblocked.or_else(|| self.ready.pop().map(|Reverse((_, step))| step))
    }
}
