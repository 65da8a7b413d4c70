//! Step names from the command line made steps of the build.

use crate::build::{Build, StepId};
use crate::diagnostic::nearest;
use crate::error::{Error, Exit};

/// The steps of these names.
///
/// # Errors
/// With [`Exit::Usage`], naming every unknown one, and the nearest known name as the hint.
pub fn targets(build: &Build, names: &[String]) -> Result<Vec<StepId>, Error> {
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for name in names {
        match build.steps.iter().position(|step| step.name == *name) {
            Some(step) => found.push(StepId(step)),
            None => unknown.push(name),
        }
    }
    if unknown.is_empty() {
        return Ok(found);
    }
    let told: Vec<String> = unknown.iter().map(|name| format!("`{name}`")).collect();
    let message = format!("cannot find the {} {}", if told.len() == 1 { "step" } else { "steps" }, told.join(", "));
    let near = |name: &&String| nearest(name, build.steps.iter().map(|step| step.name.as_str()));
    let hints: Vec<String> = unknown.iter().filter_map(near).map(|near| format!("did you mean `{near}`?")).collect();
    let hint = if hints.is_empty() { "`runner plan` lists the steps".to_owned() } else { hints.join("\n") };
    Err(Error::new(Exit::Usage, message).with_hint(Some(hint)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture::build;

    #[test]
    fn names_become_steps_in_the_given_order() {
        let build = build(&[("packages", 0, &[]), ("image", 0, &[0])]);
        assert_eq!(targets(&build, &["image".into(), "packages".into()]).unwrap(), [StepId(1), StepId(0)]);
        assert_eq!(targets(&build, &[]).unwrap(), []);
    }

    #[test]
    fn unknown_names_are_told_with_the_nearest() {
        let build = build(&[("packages", 0, &[]), ("image", 0, &[0])]);
        let error = targets(&build, &["imgae".into(), "image".into(), "zzz".into()]).unwrap_err();
        assert_eq!(error.render(), "error: cannot find the steps `imgae`, `zzz`\n  help: did you mean `image`?\n");
        let error = targets(&build, &["zzz".into()]).unwrap_err();
        assert_eq!(error.render(), "error: cannot find the step `zzz`\n  help: `runner plan` lists the steps\n");
        assert_eq!(error.exit(), Exit::Usage);
    }
}
