//! Builds under callers that ignore signals, bound resources or lack capabilities: each works, or says which one it is.

use rustix::process::Signal;

use crate::built::{Gate, Running, project};
use crate::project::Project;

/// What a step has of its caller's signals.
const SIGNALS: &str = r#"
mounts: { $GATE }
containers: { c: { rootfs: $TOOLS, mounts: [gate] } }
steps: [{ name: s, run: "grep -E '^Sig(Blk|Ign)' /proc/self/status; sh /gate/meet now" }]
"#;

/// Starts a build from a shell, in which `"$@"` is runner and its arguments.
fn start(project: &Project, shell: &str) -> Running {
    Running::spawn(project.shell(shell, &["apply", "--progress", "json"]))
}

#[test]
fn signals_that_the_caller_ignores_stay_ignored_and_steps_begin_with_default_ones() {
    for (ignored, heeded) in [(Signal::INT, Signal::HUP), (Signal::HUP, Signal::TERM), (Signal::TERM, Signal::INT)] {
        let project = project(SIGNALS);
        let gate = Gate::new(&project);
        let ignore = format!("trap '' {} PIPE USR1 TSTP TTOU; exec \"$@\"", ignored.as_raw());
        let build = start(&project, &ignore);
        gate.await_step("now");
        build.signal(ignored);
        build.signal(ignored);
        gate.open("now");
        let built = build.end();
        assert_eq!(built.run.code, 0, "{ignored:?}: {}", built.run);
        assert_eq!(built.lines("s"), ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000000000"]);
        assert_eq!(project.left_over(built.run.pid), Vec::<String>::new());
        std::fs::remove_dir_all(project.path("gate")).unwrap();
        let gate = Gate::new(&project);
        let build = start(&project, &ignore);
        gate.await_step("now");
        build.signal(heeded);
        assert_eq!(build.end().run.code, 130, "{heeded:?}");
    }
}
