//! Settings that a step has for itself: mounts, devices, a network and capabilities that no other step sees.

use std::fs;

use serde_json::Value;

use crate::built::{Built, names_in, project};
use crate::project::Project;

const MANIFEST: &str = r#"
mounts:
  src: { type: bind, source: in, target: /deep/src, options: [ro] }
containers: { c: { rootfs: $TOOLS, mounts: [{ type: tmpfs, target: /tmp }] } }
steps:
  - { name: before, run: 'echo one > /tmp/one; echo root > /file; ls -d /deep /scratch /run /dev/own 2>&1 || true' }
  - name: own
    mounts: [src, { type: secret, source: token, target: /run/token }, { type: tmpfs, target: /scratch }]
    devices: [{ path: /dev/null, target: /dev/own, access: rw }]
    capabilities: { add: [SYS_PTRACE], drop: [CHOWN] }
    network: host
    run: |
      cat /deep/src/file; wc -c < /run/token; cat /tmp/one /file; echo two > /tmp/two; echo more >> /file; echo x > /scratch/x
      echo x > /dev/own; grep CapEff /proc/self/status; ls /proc/self/ns > /dev/null; stat -Lc %i /proc/self/ns/net; rm /bin/tr
  - { name: after, run: 'ls -d /deep /scratch /run /dev/own /bin/tr 2>&1 || true; cat /tmp/one /tmp/two /file; grep CapEff /proc/self/status; stat -Lc %i /proc/self/ns/net' }
  - { name: layer, snapshot: { output: layer.squashfs } }
"#;

fn with_files(manifest: &str) -> Project {
    let project = project(manifest);
    project.write("in/file", "input\n");
    project.write("token", "correct horse battery");
    project
}

#[test]
fn a_steps_own_settings_are_there_for_it_alone_and_leave_nothing() {
    let project = with_files(MANIFEST);
    let built = Built::succeed(&project);
    let gone =
        |text: &str| ["/deep", "/scratch", "/run", "/dev/own"].iter().all(|path| text.contains(&format!("'{path}'")));
    assert!(gone(&built.text("before")), "{}", built.text("before"));
    let own = built.lines("own");
    assert_eq!(own[..4], ["input", "21", "one", "root"], "{own:?}");
    let after = built.lines("after");
    assert!(gone(&built.text("after")) && built.text("after").contains("/bin/tr'"), "{after:?}");
    assert_eq!(after[5..9], ["one", "two", "root", "more"], "{after:?}");
    let capabilities = |line: &str| u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
    let (ptrace, chown) = (1 << 19, 1);
    assert_eq!(capabilities(&own[4]), capabilities(&after[9]) & !chown | ptrace, "{own:?} {after:?}");
    let network = fs::metadata("/proc/self/ns/net").map(|found| std::os::unix::fs::MetadataExt::ino(&found)).unwrap();
    assert_eq!((own[5] == network.to_string(), after[10] == network.to_string()), (true, false));
    let names = names_in(&project.path("layer.squashfs"));
    assert!(names.contains(&"/file".to_owned()), "{names:?}");
    assert!(
        !names.iter().any(|name| ["/deep", "/scratch", "/run", "/etc"].iter().any(|own| name.starts_with(own))),
        "{names:?}"
    );
    let found = project.script("grep -rl 'correct horse battery' store || true");
    assert_eq!(found, "");
    let again = Built::succeed(&project);
    assert_eq!(again.status("own"), "cached");
    // The same steps with the settings in the container give the same layer.
    let all =
        with_files(&MANIFEST.replace(
            "mounts: [{ type: tmpfs, target: /tmp }]",
            "mounts: [{ type: tmpfs, target: /tmp }], network: host",
        ));
    let all = Built::succeed(&all);
    assert_eq!(all.digest("layer"), built.digest("layer"));
}

#[test]
fn a_change_of_a_steps_own_settings_or_of_their_content_runs_it_for_that_reason() {
    let project = with_files(MANIFEST);
    Built::succeed(&project);
    let reasons = |project: &Project| {
        let plan: Value = serde_json::from_str(&project.runner(&["plan", "--json"]).stdout).unwrap();
        let reasons = plan["steps"][1]["reasons"].as_array().unwrap().clone();
        reasons.iter().map(Value::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(reasons(&project), "");
    project.write("token", "another");
    assert_eq!(reasons(&project), "");
    project.write("in/file", "other\n");
    let found = reasons(&project);
    assert!(
        found.contains(r#""kind":"input_changed""#) && found.contains("/deep/src") && found.contains("file"),
        "{found}"
    );
    project.write("in/file", "input\n");
    let text = fs::read_to_string(project.path("build.yaml")).unwrap();
    for (old, new, field) in [
        ("network: host", "network: none", "network"),
        ("add: [SYS_PTRACE], ", "", "capabilities"),
        ("access: rw", "access: r", "device//dev/own"),
        ("target: /scratch }", "target: /scratch, options: [size=1m] }", "mount//scratch"),
    ] {
        assert!(text.contains(old), "{old}");
        project.write("build.yaml", &text.replace(old, new));
        let found = reasons(&project);
        assert!(found.contains(&format!("\"{field}\"")) && found.contains("\"own\""), "{field}: {found}");
    }
    project.write("build.yaml", &text.replace("options: [ro] }", "options: [] }"));
    assert!(reasons(&project).contains("writable_bind"), "{}", reasons(&project));
}

#[test]
fn steps_with_own_settings_take_turns_with_parallel_ones_and_are_tried_again_with_them() {
    let project = with_files(
        r#"
containers: { c: { rootfs: $TOOLS }, d: { rootfs: $TOOLS } }
steps:
  - { name: a, container: c, needs: [], run: 'ls /own || true; echo a > /a' }
  - { name: b, container: c, needs: [], mounts: [{ type: bind, source: in, target: /own }], retries: 1,
      run: '[ -e /own/tried ] || { touch /own/tried /half; exit 1; }; [ ! -e /half ]; echo b > /b' }
  - { name: d, container: c, needs: [], mounts: [{ type: tmpfs, target: /own }], run: 'echo d > /own/d; echo d > /d' }
  - { name: bad, container: d, needs: [], mounts: [{ type: tmpfs, target: /own }], run: 'echo x > /own/x; exit 3' }
  - { name: end, container: c, needs: [a, b, d], run: 'cat /a /b /d; ls -d /own || true' }
  - { name: free, container: d, needs: [], run: 'sleep 0.1; ls -d /own || true' }
"#,
    );
    let built = Built::of(&project, &["-j", "6", "--keep-going"]);
    assert_eq!(
        (built.run.code, built.status("bad"), built.ending("bad")["exit_code"].as_i64()),
        (1, "failed", Some(3))
    );
    assert_eq!(built.lines("end")[..3], ["a", "b", "d"], "{}", built.run);
    assert!(built.text("end").contains("'/own'") && built.text("a").contains("'/own'"), "{}", built.run);
    assert!(built.text("free").contains("'/own'"), "{}", built.text("free"));
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn a_missing_secret_of_one_step_is_refused_before_anything_runs() {
    let project = with_files(MANIFEST);
    fs::remove_file(project.path("token")).unwrap();
    let run = project.runner(&["apply"]);
    assert_eq!(run.code, 2, "{run}");
    assert!(run.stderr.contains("token` does not exist") && !run.stdout.contains("started"), "{run}");
    let run = project.runner(&["apply", "--target", "before"]);
    assert_eq!(run.code, 0, "{run}");
}

also_with_runc! {
    a_steps_own_settings_are_there_for_it_alone_and_leave_nothing,
    steps_with_own_settings_take_turns_with_parallel_ones_and_are_tried_again_with_them,
}
