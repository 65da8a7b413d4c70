//! The places of tests: a test takes one only if enough remain for all other steps that can run at the same time.
//!
//! The other steps are divided into lines, in each of which a step waits for the one before it. So no more of them run at the
//! same time than there are lines with open steps.

use crate::model::StepId;
use crate::plan::Plan;

#[derive(Debug)]
pub struct TestPlaces {
    is_test: Vec<bool>,
    /// By step: the line of one that is no test.
    line_of: Vec<Option<usize>>,
    /// By line: its steps that still need a place.
    open: Vec<usize>,
    open_lines: usize,
    /// Tests that run.
    running: usize,
}

impl TestPlaces {
    pub fn new(plan: &Plan, is_test: Vec<bool>) -> Self {
        let mut line_of = vec![None; is_test.len()];
        let (mut open, mut ends): (Vec<usize>, Vec<StepId>) = (Vec::new(), Vec::new());
        for step in plan.order().iter().copied().filter(|step| !is_test[step.0]) {
            let mut lines = plan.needs(step).into_iter().filter_map(|need| Some((need, line_of[need.0]?)));
            let line = lines.find(|(need, line)| ends[*line] == *need).map(|(_, line)| line);
            let line = line.unwrap_or_else(|| {
                open.push(0);
                ends.push(step);
                open.len() - 1
            });
            (ends[line], line_of[step.0]) = (step, Some(line));
            open[line] += 1;
        }
        Self { is_test, line_of, open_lines: open.len(), open, running: 0 }
    }

    pub fn is_test(&self, step: StepId) -> bool {
        self.is_test[step.0]
    }

    /// Notes that a step runs.
    pub fn begins(&mut self, step: StepId) {
        self.running += usize::from(self.is_test(step));
    }

    /// Notes that a running step has ended.
    pub fn ends(&mut self, step: StepId) {
        self.running -= usize::from(self.is_test(step));
    }

    /// Notes that a step needs no place any more: it is over, or frozen.
    pub fn is_done(&mut self, step: StepId) {
        if let Some(line) = self.line_of[step.0] {
            self.open[line] -= 1;
            self.open_lines -= usize::from(self.open[line] == 0);
        }
    }

    /// Whether a test can take one of `jobs` places and hold no other step up.
    pub fn has_place(&self, jobs: usize) -> bool {
        self.running + self.open_lines < jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Role;
    use crate::plan::fixture::build;

    #[test]
    fn a_test_leaves_a_place_for_each_line_of_other_steps() {
        // The lines are a, b, d and c; `t` is a test.
        let steps: [(&str, usize, &[usize]); 5] =
            [("a", 0, &[]), ("b", 0, &[0]), ("c", 1, &[0]), ("d", 0, &[1]), ("t", 2, &[])];
        let mut build = build(&steps);
        build.steps[4].role = Role::Test;
        let is_test = build.steps.iter().map(|step| step.is_test()).collect();
        let mut places = TestPlaces::new(&Plan::new(&build, &[]), is_test);
        let jobs = |places: &TestPlaces| (0..5).find(|jobs| places.has_place(*jobs)).unwrap();
        assert_eq!(jobs(&places), 3);
        for step in [0, 1] {
            places.is_done(StepId(step));
        }
        assert_eq!(jobs(&places), 3);
        places.is_done(StepId(3));
        assert_eq!(jobs(&places), 2);
        places.begins(StepId(4));
        assert_eq!(jobs(&places), 3);
        places.ends(StepId(4));
        for step in [2, 4] {
            places.is_done(StepId(step));
        }
        assert_eq!(jobs(&places), 1);
    }
}
