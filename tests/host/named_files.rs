//! Files that the command line names under attack: a link of an earlier step leads to a file of the host.

use std::fs;
use std::os::unix::fs::symlink;

use crate::built::project;

const MANIFEST: &str = "
mounts:
  work: { type: bind, source: work, target: /work }
containers:
  c: { rootfs: $TOOLS, mounts: [work] }
  built: { rootfs: { scratch: true } }
steps:
  - name: plant
    container: c
    run: |
      for name in log.json report.html bundles store summary.md; do
        [ -e /work/$name ] || ln -s ../victim/$name /work/$name
      done
  - { name: image, container: built, snapshot: {} }
";

#[test]
fn no_file_of_the_command_line_follows_a_link_of_an_earlier_step() {
    let project = project(MANIFEST);
    for name in ["log.json", "report.html", "summary.md"] {
        project.write(&format!("victim/{name}"), "host");
    }
    for directory in ["victim/bundles", "victim/store", "work"] {
        fs::create_dir(project.path(directory)).unwrap();
    }
    project.apply();
    let at = |name: &str| format!("work/{name}");
    for (arguments, words) in [
        (
            ["--log-file", &at("log.json")],
            "cannot write the log file work/log.json: it is a symbolic link to ../victim",
        ),
        (["--report", &at("report.html")], "cannot write the report work/report.html: it is a symbolic link to"),
        (["--bundle-dir", &at("bundles")], "cannot store the OCI bundles in work/bundles: it is a symbolic link"),
        (["--store", &at("store")], "/work/store: it is a symbolic link to ../victim/store"),
    ] {
        let run = project.runner(&[&["apply"], &arguments[..]].concat());
        assert!(matches!(run.code, 2 | 3) && run.stderr.contains(words), "{arguments:?}: {run}");
        assert_eq!(project.leftovers(run.pid), Vec::<String>::new(), "{arguments:?}");
    }
    let script = "GITHUB_ACTIONS=true GITHUB_STEP_SUMMARY=work/summary.md; export GITHUB_ACTIONS GITHUB_STEP_SUMMARY; \
                  exec \"$@\"";
    let run = project.runner_in_shell(script, &["apply"]);
    assert!(
        run.code == 2 && run.stderr.contains("cannot write the summary work/summary.md: it is a symbolic"),
        "{run}"
    );
    for name in ["log.json", "report.html", "summary.md"] {
        assert_eq!(fs::read_to_string(project.path("victim").join(name)).unwrap(), "host", "{name}");
    }
    for name in ["bundles", "store"] {
        assert_eq!(fs::read_dir(project.path("victim").join(name)).unwrap().count(), 0, "{name}");
    }
}

#[test]
fn a_log_to_standard_output_and_a_report_to_a_fifo_are_written_and_a_device_node_is_refused() {
    let project = project(
        "
mounts:
  work: { type: bind, source: work, target: /work }
containers:
  c: { rootfs: $TOOLS, mounts: [work] }
steps:
  - { name: plant, run: '[ -e /work/log.json ] || { mknod /work/log.json c 1 3; mkfifo /work/report.json; }' }
",
    );
    fs::create_dir(project.path("work")).unwrap();
    // Appended to the file that standard output already is.
    let script = "echo first > out; exec \"$@\" >> out 2> err";
    let run = project.runner_in_shell(script, &["apply", "--progress", "quiet", "--log-file", "/dev/stdout"]);
    assert_eq!(run.code, 0, "{run}");
    let text = fs::read_to_string(project.path("out")).unwrap();
    assert!(text.starts_with("first\n{\"time\":") && text.trim_end().ends_with('}'), "{text}");
    let run = project.runner(&["apply", "--progress", "quiet", "--log-file", "/dev/stderr"]);
    assert!(run.code == 0 && run.stderr.contains("\"event\":\"build_finished\""), "{run}");

    let script = "cat work/report.json > read & \"$@\"; code=$?; wait; exit $code";
    let run = project.runner_in_shell(script, &["apply", "--report", "work/report.json"]);
    assert_eq!(run.code, 0, "{run}");
    let report = fs::read_to_string(project.path("read")).unwrap();
    assert!(report.starts_with('{') && report.contains("plant"), "{report}");

    let run = project.runner(&["apply", "--log-file", "work/log.json"]);
    let error = "cannot write the log file work/log.json: it is a device node outside /dev";
    assert!(run.code == 2 && run.stderr.contains(error), "{run}");
}

#[test]
fn files_of_the_command_line_are_written_into_the_directories_opened_at_the_start() {
    let project = project(
        "
mounts:
  work: { type: bind, source: work, target: /work }
containers:
  c: { rootfs: $TOOLS, mounts: [work] }
steps:
  - { name: swap, run: '/work/rename /work/out /work/old; ln -s ../victim /work/out' }
  - { name: after, run: echo after }
",
    );
    for directory in ["victim", "work/out"] {
        fs::create_dir_all(project.path(directory)).unwrap();
    }
    let rename = "#include <stdio.h>\nint main(int c, char **v) { return c != 3 || rename(v[1], v[2]) != 0; }\n";
    crate::built::compile(&project, "work/rename", rename, &["-static"]);
    let arguments =
        ["--log-file", "work/out/log", "--report", "work/out/report.json", "--bundle-dir", "work/out/bundles"];
    let run = project.runner(&[&["apply"], &arguments[..]].concat());
    assert_eq!(run.code, 0, "{run}");
    assert!(project.path("work/out").is_symlink());
    assert_eq!(fs::read_dir(project.path("victim")).unwrap().count(), 0);
    let old = project.path("work/old");
    assert!(fs::read_to_string(old.join("log")).unwrap().contains("build_finished"));
    assert!(fs::read_to_string(old.join("report.json")).unwrap().contains("after"));
    assert!(fs::read_to_string(old.join("bundles/c/config.json")).unwrap().contains("echo after"));
}

#[test]
fn a_lock_file_that_is_a_link_is_neither_read_nor_written() {
    let project = project(
        "
containers:
  c: { rootfs: { scratch: true } }
steps: [{ name: image, snapshot: {} }]
",
    );
    project.write("victim", "host");
    symlink("victim", project.path("runner.lock")).unwrap();
    for arguments in [&["lock"][..], &["lock", "--check"], &["apply", "--locked"], &["verify"]] {
        let run = project.runner(arguments);
        assert!(run.code == 2 && run.stderr.contains("it is a symbolic link to victim"), "{arguments:?}: {run}");
    }
    assert_eq!(fs::read_to_string(project.path("victim")).unwrap(), "host");
}

/// The files that a step can write to stay, and the next build looks for its own paths there.
#[test]
fn a_link_of_an_earlier_step_leads_no_path_of_the_next_build_out_of_its_bind() {
    let plant = "
mounts:
  work: { type: bind, source: work, target: /work }
containers:
  c: { rootfs: $TOOLS, mounts: [work] }
steps:
  - { name: plant, run: 'cd /work; rm -rf data inside; ln -s ../victim data; mkdir real; ln -s real inside' }
";
    let project = project(plant);
    fs::create_dir_all(project.path("work/data")).unwrap();
    project.write("victim/secret", "of the host");
    project.apply();
    let next = |container: &str, snapshot: &str| {
        let manifest = format!(
            "version: 1\nmounts: {{ work: {{ type: bind, source: work, target: /work }} }}\n\
             containers: {{ c: {container} }}\n\
             steps: [{{ name: s, run: 'echo taken > /data/new' }}, {{ name: layer, snapshot: {snapshot} }}]\n"
        );
        project.write("build.yaml", &manifest);
    };
    let programs = "rootfs: { programs: [/bin/sh] }";
    let mount = |mount: &str| format!("{{ {programs}, mounts: [work, {mount}] }}");
    let bind = mount("{ type: bind, source: work/data, target: /data }");
    let secret = mount("{ type: secret, source: work/data/secret, target: /data }");
    let plain = format!("{{ {programs}, mounts: [work] }}");
    for (container, snapshot, arguments) in [
        (bind.as_str(), "{}", &[][..]),
        (&secret, "{}", &[]),
        ("{ rootfs: { dir: work/data }, mounts: [work] }", "{}", &[]),
        (&plain, "{ output: work/data/new.squashfs }", &[]),
        (&plain, "{ output: work/data/below/new.squashfs }", &[]),
        (&plain, "{}", &["--log-file", "work/data/log"]),
        (&plain, "{}", &["--report", "work/data/report.json"]),
        (&plain, "{}", &["--lock-file", "work/data/runner.lock"]),
        (&plain, "{}", &["--locked", "--lock-file", "work/data/runner.lock"]),
        (&plain, "{}", &["lock", "--lock-file", "work/data/runner.lock"]),
        (&plain, "{}", &["lock", "--check", "--lock-file", "work/data/runner.lock"]),
        (&plain, "{}", &["verify", "--lock-file", "work/data/runner.lock"]),
        (&plain, "{}", &["--bundle-dir", "work/data/bundles"]),
        (&plain, "{}", &["run", "--bundle-dir", "work/data/bundles", "c", "--", "true"]),
    ] {
        next(container, snapshot);
        let command = if arguments.first().is_some_and(|first| !first.starts_with('-')) { &[][..] } else { &["apply"] };
        let run = project.runner(&[command, arguments].concat());
        let link = format!("the symbolic link {} leads to", project.path("work/data").display());
        assert!(run.code == 2 && run.stderr.contains(&link), "{container} {snapshot} {arguments:?}: {run}");
        assert!(run.stderr.contains(&format!("name {}", project.path("victim").display())), "{run}");
        assert_eq!(fs::read_dir(project.path("victim")).unwrap().count(), 1, "{container} {snapshot} {arguments:?}");
        assert_eq!(project.leftovers(run.pid), Vec::<String>::new());
    }
    // A link that stays in the bind leads only to files that its steps could reach anyway.
    next(&mount("{ type: bind, source: work/inside, target: /data }"), "{ output: work/inside/new.squashfs }");
    project.apply();
    assert_eq!(fs::read_to_string(project.path("work/real/new")).unwrap(), "taken\n");
    assert!(project.path("work/real/new.squashfs").exists());
}
