//! `runner test`: runs the tests of a manifest, and the steps that they need.

use super::build_options::build_with_options;
use super::command_error::CommandError;
use super::target;
use crate::cli::{ApplyArgs, Cli};
use crate::error::{Error, Exit};
use crate::model::{Build, StepId};

/// Runs all tests, or the requested ones.
pub fn test(cli: &Cli, args: &ApplyArgs) -> Result<(), CommandError> {
    build_with_options(cli, args, tests)
}

/// Returns the tests of these names; without names, all.
///
/// # Errors
/// With [`Exit::Usage`], if a step is no test, or the manifest has none.
fn tests(build: &Build, names: &[String]) -> Result<Vec<StepId>, Error> {
    let steps = match names {
        [] => build.tests().collect(),
        names => target::steps(build, names)?,
    };
    let other = steps.iter().map(|step| build.step(*step)).find(|step| !step.is_test());
    let (message, hint) = match other {
        Some(step) => {
            let name = &step.name;
            let hint = format!("`runner apply --target {name}` runs it; a test has `test: true`");
            (format!("the step `{name}` is no test"), hint)
        }
        None if steps.is_empty() => {
            ("the manifest has no test".to_owned(), "write `test: true` in a step to make it a test".to_owned())
        }
        None => return Ok(steps),
    };
    Err(Error::new(Exit::Usage, message).with_hint(Some(hint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Role;
    use crate::plan::fixture::build;

    #[test]
    fn only_tests_are_selected() {
        let mut build = build(&[("make", 0, &[]), ("unit", 1, &[0]), ("smoke", 2, &[0])]);
        let refused = |build: &Build, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            tests(build, &names).map_err(|error| error.render())
        };
        assert_eq!(
            refused(&build, &[]).unwrap_err(),
            "error: the manifest has no test\n  help: write `test: true` in a step to make it a test\n"
        );
        [1, 2].into_iter().for_each(|step: usize| build.steps[step].role = Role::Test);
        assert_eq!(refused(&build, &[]), Ok(vec![StepId(1), StepId(2)]));
        assert_eq!(refused(&build, &["smoke"]), Ok(vec![StepId(2)]));
        assert_eq!(
            refused(&build, &["unit", "make"]).unwrap_err(),
            "error: the step `make` is no test\n  help: `runner apply --target make` runs it; a test has `test: true`\n"
        );
    }
}
