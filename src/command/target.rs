//! The names on a command line, resolved: to steps of the build, or to the container or step that a session is opened for.

use crate::diagnostic::nearest;
use crate::error::{Error, Exit};
use crate::execute::SessionTarget;
use crate::model::{Build, ContainerId, StepId};

/// Returns the steps of these names, in the same order.
///
/// # Errors
/// With [`Exit::Usage`], if a name is unknown: the message lists every unknown name, the hint the nearest known ones.
pub fn steps(build: &Build, names: &[String]) -> Result<Vec<StepId>, Error> {
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for name in names {
        match step_id(build, name) {
            Some(step) => found.push(step),
            None => unknown.push(name),
        }
    }
    if unknown.is_empty() {
        return Ok(found);
    }
    let quoted: Vec<String> = unknown.iter().map(|name| format!("`{name}`")).collect();
    let noun = if quoted.len() == 1 { "step" } else { "steps" };
    let near = |name: &&String| nearest(name, build.steps.iter().map(|step| step.name.as_str()));
    let hints: Vec<String> = unknown.iter().filter_map(near).map(|near| format!("did you mean `{near}`?")).collect();
    let hint = if hints.is_empty() { "`runner plan` lists the steps".to_owned() } else { hints.join("\n") };
    Err(Error::new(Exit::Usage, format!("cannot find the {noun} {}", quoted.join(", "))).with_hint(Some(hint)))
}

/// Returns the container of this name as the target of a session.
///
/// # Errors
/// With [`Exit::Usage`], if no container has the name.
pub fn container(build: &Build, name: &str) -> Result<SessionTarget, Error> {
    let names = || build.own_containers().map(|(_, container)| container.name.as_str());
    if let Some(container) = container_id(build, name) {
        return Ok(SessionTarget { container, step: None, as_root: false });
    }
    let step = build.steps.iter().find(|step| step.name == name);
    let hint = match (step, nearest(name, names())) {
        (Some(step), _) => {
            format!("a step has that name, in the container `{}`", build.container(step.container).name)
        }
        (None, Some(near)) => format!("did you mean `{near}`?"),
        (None, None) => format!("the manifest has: {}", names().collect::<Vec<_>>().join(", ")),
    };
    Err(Error::new(Exit::Usage, format!("cannot find the container `{name}`")).with_hint(Some(hint)))
}

/// Returns the container or the step of this name as the target of a session. The prefix `container:` or `step:` says which
/// of the two the name means.
///
/// # Errors
/// With [`Exit::Usage`], if neither has the name, or both have it and there is no prefix.
pub fn container_or_step(build: &Build, name: &str) -> Result<SessionTarget, Error> {
    if let Some(name) = name.strip_prefix("container:") {
        return container(build, name);
    }
    let (bare, only_step) = match name.strip_prefix("step:") {
        Some(bare) => (bare, true),
        None => (name, false),
    };
    let of_step = |step| SessionTarget { container: build.step(step).container, step: Some(step), as_root: false };
    match (container_id(build, bare).filter(|_| !only_step), step_id(build, bare)) {
        (Some(container), None) => Ok(SessionTarget { container, step: None, as_root: false }),
        (None, Some(step)) => Ok(of_step(step)),
        (Some(_), Some(_)) => {
            let hint = format!("write `container:{bare}` or `step:{bare}`");
            Err(Error::new(Exit::Usage, format!("a container and a step have the name `{bare}`")).with_hint(Some(hint)))
        }
        (None, None) => {
            let steps = build.steps.iter().map(|step| step.name.as_str());
            let containers = build.own_containers().map(|(_, container)| container.name.as_str());
            let near = nearest(bare, steps.chain(containers.filter(|_| !only_step)));
            let hint = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`runner plan` lists the steps and their containers".to_owned(),
            };
            let noun = if only_step { "step" } else { "container or step" };
            Err(Error::new(Exit::Usage, format!("cannot find the {noun} `{bare}`")).with_hint(Some(hint)))
        }
    }
}

fn container_id(build: &Build, name: &str) -> Option<ContainerId> {
    build.containers.iter().position(|container| container.name == name).map(ContainerId)
}

fn step_id(build: &Build, name: &str) -> Option<StepId> {
    build.steps.iter().position(|step| step.name == name).map(StepId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture::build;

    #[test]
    fn step_names_are_resolved_in_the_given_order() {
        let build = build(&[("packages", 0, &[]), ("image", 0, &[0])]);
        assert_eq!(steps(&build, &["image".into(), "packages".into()]).unwrap(), [StepId(1), StepId(0)]);
        assert_eq!(steps(&build, &[]).unwrap(), []);
    }

    #[test]
    fn unknown_steps_are_refused_with_the_nearest_names() {
        let build = build(&[("packages", 0, &[]), ("image", 0, &[0])]);
        let error = steps(&build, &["imgae".into(), "image".into(), "zzz".into()]).unwrap_err();
        assert_eq!(error.render(), "error: cannot find the steps `imgae`, `zzz`\n  help: did you mean `image`?\n");
        let error = steps(&build, &["zzz".into()]).unwrap_err();
        assert_eq!(error.render(), "error: cannot find the step `zzz`\n  help: `runner plan` lists the steps\n");
        assert_eq!(error.exit(), Exit::Usage);
    }

    /// Returns a build with the containers `base` and `test`, and the steps `make` in the first and `test` in the second.
    fn with_a_name_twice() -> Build {
        let mut build = build(&[("make", 0, &[]), ("test", 1, &[])]);
        build.containers[0].name = "base".into();
        build.containers[1].name = "test".into();
        build
    }

    #[test]
    fn a_session_target_is_found_by_its_name_or_by_a_prefix_and_its_name() {
        let build = with_a_name_twice();
        for (name, found) in
            [("base", (0, None)), ("make", (0, Some(0))), ("step:test", (1, Some(1))), ("container:test", (1, None))]
        {
            let target = container_or_step(&build, name).unwrap();
            assert_eq!((target.container.0, target.step.map(|step| step.0)), found, "{name}");
        }
    }

    #[test]
    fn an_ambiguous_or_unknown_session_target_is_refused_with_a_hint() {
        let build = with_a_name_twice();
        for (name, message) in [
            (
                "test",
                "error: a container and a step have the name `test`\n  help: write `container:test` or `step:test`\n",
            ),
            ("mkae", "error: cannot find the container or step `mkae`\n  help: did you mean `make`?\n"),
            (
                "step:base",
                "error: cannot find the step `base`\n  help: `runner plan` lists the steps and their containers\n",
            ),
            (
                "container:make",
                "error: cannot find the container `make`\n  help: a step has that name, in the container `base`\n",
            ),
        ] {
            assert_eq!(container_or_step(&build, name).unwrap_err().render(), message);
        }
    }
}
