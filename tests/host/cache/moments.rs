//! Inputs that change while a build runs: whatever that build stores, the next build gives the same result as one with an empty
//! store.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{digests, warnings};
use crate::built::{Running, project};
use crate::project::Project;
use crate::root::unpack;

/// The segment of the container `c` reads each of its inputs. The step `ahead` runs before that segment is checked.
const MANIFEST: &str = r#"
mounts:
  way: { type: bind, source: way, target: /way, cache: ignore }
containers:
  first: { rootfs: $TOOLS, mounts: [way] }
  c:
    rootfs: { $BASE }
    mounts: [way, { type: bind, source: in, target: /in, options: [ro] }]
    devices: [{ path: $DEVICE, target: /dev/own }]
steps:
  - { name: ahead, container: first, run: sh /way/meet ahead }
  - { name: read, container: c, needs: [ahead], run: "cat $MARKER /in/file > /out; stat -c %a /dev/own >> /out; sh /way/meet running" }
  - { name: layer, container: c, snapshot: { output: out/layer.squashfs } }
  - { name: more, container: c, run: "cat $MARKER >> /more" }
  - { name: above, container: c, snapshot: { mode: full, output: out/above.squashfs } }
"#;

/// The kinds of base, and the inputs that are no base.
const BASES: [&str; 4] = ["squashfs", "tar", "programs", "dir"];
const INPUTS: [&str; 4] = ["base", "bind", "device", "mksquashfs"];

/// Before the segment is checked, while its step runs, while its image is written, and while the next one is.
const MOMENTS: [&str; 4] = ["ahead", "running", "image1", "image2"];

/// Two roots, each as an image, an archive and a directory.
fn roots() -> Project {
    let made = project(
        "
containers: { c: { rootfs: $TOOLS } }
steps:
  - { name: mark, container: c, run: echo one > /marker }
  - { name: one, container: c, snapshot: { mode: full, output: one.squashfs } }
  - { name: again, container: c, run: echo two > /marker }
  - { name: two, container: c, snapshot: { mode: full, output: two.squashfs } }
",
    );
    made.apply();
    for root in ["one", "two"] {
        let [image, archive, tree] = ["squashfs", "tar", "dir"].map(|kind| made.path(&format!("{root}.{kind}")));
        unpack(&image, &tree);
        run(Command::new("tar").arg("-C").arg(&tree).arg("-cf").args([&archive, Path::new(".")]));
    }
    made
}

/// Returns a project with that kind of base, and a mksquashfs of its own.
fn setting(roots: &Project, base: &str) -> Project {
    let project = project(MANIFEST);
    let device = project.path("device");
    // A script, at the path where the root has it.
    let own = project.path("base.programs").display().to_string();
    let (base_text, marker) = match base {
        "programs" => {
            (format!("programs: [/bin/sh, /bin/cat, /bin/sleep, /bin/touch, /usr/bin/stat, {own}]"), own.as_str())
        }
        base => (format!("{base}: base.{base}"), "/marker"),
    };
    let manifest = fs::read_to_string(project.path("build.yaml")).unwrap();
    let manifest = manifest.replace("$BASE", &base_text).replace("$MARKER", marker);
    project.write("build.yaml", &manifest.replace("$DEVICE", device.to_str().unwrap()));
    match base {
        "programs" => {
            project.write("base.programs", "#!/bin/sh\necho one\n");
            fs::set_permissions(&own, PermissionsExt::from_mode(0o755)).unwrap();
        }
        base => {
            run(Command::new("cp")
                .arg("-a")
                .args([roots.path(&format!("one.{base}")), project.path(&format!("base.{base}"))]));
        }
    }
    project.write("in/file", "one\n");
    node(&device, "600");
    let meet = "[ -e /way/all ] && exit; touch /way/$1.here; until [ -e /way/$1.open ]; do sleep 0.02; done\n";
    project.write("way/meet", meet);
    write_mksquashfs(&project, "one");
    project
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn node(path: &Path, mode: &str) {
    run(Command::new("mknod").arg("-m").arg(mode).arg(path).args(["c", "1", "3"]));
}

/// Puts a mksquashfs there, which waits as a step does before it writes the first image, and the second.
fn write_mksquashfs(project: &Project, version: &str) {
    let way = project.path("way").display().to_string();
    let script = format!(
        "#!/bin/sh
# {version}
if ! [ -e {way}/all ]; then
  n=1; [ -e {way}/image1.here ] && n=2
  touch {way}/image$n.here
  until [ -e {way}/image$n.open ]; do sleep 0.02; done
fi
PATH=${{PATH#*:}} exec mksquashfs \"$@\"
"
    );
    project.write("text", &script);
    // By a process of its own: while this one has a file open for writing, a process that another test is starting may
    // inherit it, and no file is executed (ETXTBSY) that any process has open for writing.
    project.script("mkdir -p bin; cp text bin/new; chmod 755 bin/new; mv bin/new bin/mksquashfs");
}

/// Changes an input as another program on the host would.
fn change(project: &Project, roots: &Project, base: &str, input: &str) {
    let other = roots.path(&format!("two.{base}"));
    match (input, base) {
        ("base", "dir") => project.write("base.dir/marker", "two\n"),
        ("base", "programs") => project.write("base.programs", "#!/bin/sh\necho two\n"),
        // Replaces the file itself: the mounted one is unchanged.
        ("base", "squashfs") => {
            fs::copy(other, project.path("new")).unwrap();
            fs::rename(project.path("new"), project.path("base.squashfs")).unwrap();
        }
        ("base", base) => {
            fs::copy(other, project.path(&format!("base.{base}"))).unwrap();
        }
        ("bind", _) => project.write("in/file", "two\n"),
        ("device", _) => {
            fs::remove_file(project.path("device")).unwrap();
            node(&project.path("device"), "640");
        }
        _ => write_mksquashfs(project, "two"),
    }
}

/// Changes an input before the step ahead has ended, and back while the step that reads it runs.
fn check_back(roots: &Project, base: &str, input: &str) {
    let project = setting(roots, base);
    let (file, text) = match (input, base) {
        ("bind", _) => ("in/file", "one\n"),
        _ => ("base.dir/marker", "one\n"),
    };
    let mut running = start(&project, &[]);
    for each in MOMENTS {
        running.wait_for(each, || project.path(&format!("way/{each}.here")).exists().then_some(()));
        // The first image is written before the segment is checked.
        if each == "running" {
            project.write(file, "another\n");
            project.write(file, text);
        }
        project.write(&format!("way/{each}.open"), "");
    }
    let first = running.succeed();
    let messages = warnings(&first);
    let is_reported = messages.iter().any(|warning| warning.contains("all are the same again by now"));
    assert!(is_reported, "{base}, {input}: {}", first.run);
    project.write("way/all", "");
    let next = start(&project, &[]).succeed();
    assert_eq!(next.status("read"), "ran", "{base}, {input}: {}", next.run);
    let third = start(&project, &[]).succeed();
    assert_eq!(third.status("read"), "cached", "{base}, {input}: {}", third.run);
}

fn start(project: &Project, arguments: &[&str]) -> Running {
    start_with("1", project, arguments)
}

fn start_with(mksquashfs: &str, project: &Project, arguments: &[&str]) -> Running {
    let mut command = project.command(&[&["apply", "--progress", "json"], arguments].concat());
    let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
    Running::spawn({
        // A shell of its own, so that it can be made to wait.
        command.env("PATH", path).env("RUNNER_MKSQUASHFS", mksquashfs);
        command
    })
}

/// Builds while an input changes at a moment, once more, and with an empty store.
fn check(roots: &Project, base: &str, input: &str, moment: &str) {
    let project = setting(roots, base);
    let mut running = start(&project, &[]);
    for each in MOMENTS {
        running.wait_for(each, || project.path(&format!("way/{each}.here")).exists().then_some(()));
        if each == moment {
            change(&project, roots, base, input);
        }
        project.write(&format!("way/{each}.open"), "");
    }
    let first = running.succeed();
    // It was opened when the build began: the build has the old one to its end, and stores the results as the old one's.
    let is_opened = input == "device";
    let is_reported = warnings(&first).iter().any(|warning| warning.contains("not stored for the next build"));
    // The session has a copy of the archive or the programs; runner looks only for the first result of that.
    let is_copied = ["tar", "programs"].contains(&base) && (input, moment) == ("base", "image2");
    let is_right = is_copied || is_reported == (moment != "ahead" && !is_opened);
    assert!(is_right, "{base}, {input} at {moment}: {}", first.run);
    project.write("way/all", "");
    let next = start(&project, &[]).succeed();
    let expected = start(&project, &["--no-cache"]).succeed();
    assert_eq!(digests(&next), digests(&expected), "{base}, {input} at {moment}: {}\n{}", first.run, next.run);
    assert_eq!(expected.all("snapshot_written").len(), 2);
}

#[test]
fn an_input_that_changes_and_changes_back_while_a_step_runs_is_in_no_later_result() {
    let roots = roots();
    check_back(&roots, "dir", "bind");
    check_back(&roots, "dir", "base");
}

/// How often the race for the record is tried; `RUNNER_TEST_RACES` sets it.
fn races() -> usize {
    std::env::var("RUNNER_TEST_RACES").map_or(6, |races| races.parse().unwrap())
}

#[test]
fn an_input_that_changes_as_soon_as_an_output_is_there_is_in_no_later_result() {
    let roots = roots();
    let mut stored = 0;
    for (race, base) in (0..races()).zip(BASES.into_iter().cycle()) {
        let project = setting(&roots, base);
        project.write("way/all", "");
        // By runner itself, and by mksquashfs.
        let start = |arguments: &[&str]| start_with(["", "1"][race / 2 % 2], &project, arguments);
        let running = start(&[]);
        // No pause between two looks: the record is stored right after the output is written.
        let output = project.path(["out/layer.squashfs", "out/above.squashfs"][race % 2]);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !output.exists() {
            assert!(Instant::now() < deadline, "{base}: no output");
        }
        change(&project, &roots, base, "base");
        let first = running.succeed();
        let next = start(&[]).succeed();
        let expected = start(&["--no-cache"]).succeed();
        assert_eq!(digests(&next), digests(&expected), "{base}, race {race}: {}\n{}", first.run, next.run);
        stored += usize::from(warnings(&first).is_empty());
    }
    println!("{stored} of {} builds had recorded all that they stored before the change", races());
}

#[test]
fn an_input_that_changes_at_any_moment_of_a_build_is_in_no_later_result() {
    let roots = roots();
    for input in INPUTS {
        let bases = if input == "base" { &BASES[..] } else { &BASES[3..] };
        for base in bases {
            for moment in MOMENTS {
                check(&roots, base, input, moment);
            }
        }
    }
}

#[test]
fn waiting_for_a_build_that_ends_before_fails_with_all_that_it_has_printed() {
    let project =
        project("containers: { c: { rootfs: $TOOLS } }\nsteps: [{ name: s, container: c, run: echo last; exit 3 }]\n");
    let mut running = Running::start(&project, &[]);
    let waiting = AssertUnwindSafe(|| running.wait_for("image2", || None::<()>));
    let message = *catch_unwind(waiting).unwrap_err().downcast::<String>().unwrap();
    assert!(message.starts_with("the build ended before image2: stdout:\n"), "{message}");
    assert!(message.contains(r#""line":"last""#) && message.contains("build_finished"), "{message}");
}
