//! Files beside the manifest and programs of other users: which of them runner trusts. And the files that other users of the host
//! can read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::attack::{Attack, Verdict, safe, tried};
use crate::lab::{Lab, Project};

pub const ATTACKS: &[Attack] = &[
    Attack {
        row: "H5",
        name: "runtime-by-runner-toml",
        summary: "runner.toml names a program for root to run",
        run: runner_toml,
    },
    Attack {
        row: "H5",
        name: "runner-toml-planted",
        summary: "a step plants that runner.toml in a bind",
        run: planted,
    },
    Attack {
        row: "H5",
        name: "runner-toml-of-another-user",
        summary: "a runner.toml that another user owns",
        run: of_another,
    },
    Attack {
        row: "H5",
        name: "programs-run-by-plan",
        summary: "validate, plan, graph run programs from PATH",
        run: plan,
    },
    Attack {
        row: "H5",
        name: "programs-run-by-doctor",
        summary: "doctor runs programs that another user owns",
        run: doctor,
    },
    Attack {
        row: "low",
        name: "uid-of-no-change",
        summary: "passwd and group have the number 4294967295",
        run: no_change,
    },
    Attack {
        row: "contained",
        name: "store-permissions",
        summary: "another user of the host reads and writes the store",
        run: store,
    },
    Attack {
        row: "contained",
        name: "odd-manifests",
        summary: "manifests with odd values, deep, long, of many aliases",
        run: manifests,
    },
    Attack {
        row: "contained",
        name: "special-files",
        summary: "FIFOs, devices, directories, 1 TiB where runner reads a file",
        run: special_files,
    },
];

/// A program that leaves a trace when it is run.
fn evil(project: &Project, name: &str) {
    let trace = project.path("trace");
    project.write(name, &format!("#!/bin/sh\necho \"$0 $*\" >> {}\necho runc version 1.9\n", trace.display()));
    fs::set_permissions(project.path(name), fs::Permissions::from_mode(0o755)).unwrap();
}

const ONE: &str = "
containers: { c: { rootfs: $BASE } }
steps: [{ name: s, run: echo it runs }, { name: i, snapshot: {} }]
";

fn nothing_ran(project: &Project, when: &str) -> Verdict {
    let trace = project.read("trace");
    safe(trace.is_empty(), format!("{when} ran {trace}"))
}

/// Runs runner without RUNNER_RUNTIME, which overrides any file, and with a choice of one's own.
fn run(
    project: &Project,
    arguments: &[&str],
    change: impl FnOnce(&mut Command),
) -> Result<crate::build::Build, crate::attack::Failure> {
    let mut command = project.command(arguments);
    change(&mut command);
    project.run(command)
}

const COMMANDS: [&[&str]; 8] = [
    &["apply"],
    &["plan"],
    &["graph"],
    &["validate"],
    &["lock"],
    &["doctor"],
    &["run", "c", "--", "true"],
    &["store", "ls"],
];

fn runner_toml(lab: &Lab) -> Verdict {
    for value in ["./evil", "evil", "$HERE/evil"] {
        let project = lab.project(ONE);
        evil(&project, "evil");
        let value = value.replace("$HERE", &project.path("").display().to_string());
        project.write("runner.toml", &format!("runtime = \"{value}\"\n"));
        for command in COMMANDS {
            let build = run(&project, command, |command| {
                let path = format!("{}:{}", project.path("").display(), std::env::var("PATH").unwrap());
                command.env_remove("RUNNER_RUNTIME").env("PATH", path);
            })?;
            build.did_not_hang()?;
            nothing_ran(&project, &format!("{command:?} with runtime = {value}"))?;
            // The commands that take settings refuse the key.
            let refused = build.code == 2 && build.stderr.contains("runner.toml");
            tried(refused || command[0] == "validate" || command[0] == "graph", build.to_string())?;
        }
    }
    Ok(())
}

fn planted(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
mounts: { src: { type: bind, source: ., target: /src, cache: ignore } }
containers: { c: { rootfs: $BASE, mounts: [src] } }
steps:
  - name: s
    always: true
    run: cp /src/evil /src/planted; echo 'runtime = \"./planted\"' > /src/runner.toml; echo TRYING
",
    );
    evil(&project, "evil");
    // A bind that contains the store is refused with an external runtime.
    let elsewhere = lab.project("");
    project.apply(&["--store", &elsewhere.path("store").display().to_string()])?.tried("s", "TRYING")?;
    tried(project.read("runner.toml").contains("planted"), "the step could not plant it")?;
    for command in COMMANDS {
        run(&project, command, |command| {
            command.env_remove("RUNNER_RUNTIME");
        })?
        .did_not_hang()?;
        nothing_ran(&project, &format!("{command:?}"))?;
    }
    Ok(())
}

fn of_another(lab: &Lab) -> Verdict {
    let project = lab.project(ONE);
    project.write("runner.toml", "store = \"theirs\"\n");
    chown(project.path("runner.toml"), Some(12345), Some(12345)).unwrap();
    let build = run(&project, &["apply", "--progress", "plain"], |command| {
        command.env_remove("RUNNER_STORE").env("XDG_CACHE_HOME", project.path("cache")).args(["--store", "mine"]);
    })?;
    let said = format!("{}{}", build.stdout, build.stderr).contains("runner.toml is not read");
    safe(build.code != 0 || said, format!("settings of another user count: {build}"))?;
    tried(said, build.to_string())?;
    safe(!project.path("theirs").exists(), "the store that another user named was made")
}

fn plan(lab: &Lab) -> Verdict {
    let project = lab.project(ONE);
    for name in ["runc", "crun", "mksquashfs", "unsquashfs", "sh", "git"] {
        evil(&project, &format!("bin/{name}"));
    }
    let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
    for command in [&["validate"][..], &["plan"], &["plan", "--json"], &["graph"]] {
        for runtime in ["bin/runc", "crun", "runc", "embedded"] {
            let build = run(&project, command, |command| {
                command.env("PATH", &path).env("RUNNER_RUNTIME", runtime).env("RUNNER_MKSQUASHFS", "1");
            })?;
            nothing_ran(&project, &format!("{command:?} with {runtime}"))?;
            tried(build.code == 0, build.to_string())?;
        }
    }
    Ok(())
}

fn doctor(lab: &Lab) -> Verdict {
    // At times doctor mounts a /tmp of its own, without any user's programs.
    for above in [std::env::temp_dir(), "/var/tmp".into()] {
        let project = lab.project_in(&above, ONE);
        for name in ["runc", "crun", "mksquashfs"] {
            evil(&project, &format!("bin/{name}"));
            chown(project.path("bin").join(name), Some(12345), None).unwrap();
        }
        let path = format!("{}:{}", project.path("bin").display(), std::env::var("PATH").unwrap());
        let build = run(&project, &["doctor"], |command| {
            command.env("PATH", &path).env("RUNNER_RUNTIME", "embedded").env("RUNNER_MKSQUASHFS", "1");
        })?;
        build.did_not_hang()?;
        tried(build.stdout.contains("runc"), build.to_string())?;
        nothing_ran(&project, "doctor")?;
    }
    Ok(())
}

fn no_change(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
containers:
  made: { rootfs: $BASE }
  c: { rootfs: { snapshot: layer } }
steps:
  - name: hostile
    container: made
    run: |
      echo 'eve:x:4294967295:0::/:' > /etc/passwd; echo 'ann:x:1000:4294967295::/:' >> /etc/passwd
      echo 'bob:x:1001:1001::/:' >> /etc/passwd; echo 'big:x:4294967296:4294967296::/:' >> /etc/passwd
      echo 'all:x:4294967295:bob' > /etc/group
  - { name: layer, container: made, snapshot: {} }
  - { name: eve, container: c, user: eve, needs: [layer], exec: [/probe, who] }
  - { name: ann, container: c, user: ann, needs: [layer], exec: [/probe, who] }
  - { name: bob, container: c, user: bob, needs: [layer], exec: [/probe, who] }
  - { name: big, container: c, user: big, needs: [layer], exec: [/probe, who] }
  - { name: of-all, container: c, user: '1000:all', needs: [layer], exec: [/probe, who] }
",
    );
    let build = project.apply(&[])?;
    tried(build.status("layer") == "ran", build.to_string())?;
    for step in ["eve", "ann", "bob", "big", "of-all"] {
        build.without(step, &["euid"])?;
        tried(build.status(step) == "failed", build.to_string())?;
    }
    Ok(())
}

fn store(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
mounts:
  cache: { type: cache, target: /var/cache/tool }
containers: { c: { rootfs: $BASE, mounts: [cache] } }
steps:
  - { name: s, run: 'echo private > /var/cache/tool/private; echo private > /etc/private; chmod 644 /etc/private' }
  - { name: layer, snapshot: {} }
",
    );
    fs::set_permissions(project.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    let build = project.run(project.command_in_bash("umask 0; exec \"$@\"", &["apply"]))?;
    tried(build.code == 0, build.to_string())?;
    let script = "echo TRYING; for name in layers keys cache cache/* logs tmp scratch; do ls $1/$name 2> /dev/null && echo READ $name; done; \
                  for name in . layers keys cache leases; do touch $1/$name/planted 2> /dev/null && echo WROTE $name; done; exit 0";
    let found = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(project.path("store"))
        .uid(12345)
        .gid(12345)
        .output()
        .unwrap();
    let found = String::from_utf8_lossy(&found.stdout).into_owned();
    tried(found.contains("TRYING"), &found)?;
    safe(!found.contains("WROTE") && !found.contains("READ cache"), format!("another user: {found}"))
}

fn manifests(lab: &Lab) -> Verdict {
    let deep = format!("version: 1\nvars: {}1{}\n", "[".repeat(20_000), "]".repeat(20_000));
    let aliases: String = (1..40).map(|at| format!("  a{at}: &a{at} [*a{0}, *a{0}, *a{0}, *a{0}]\n", at - 1)).collect();
    let odd = [
        deep,
        format!("version: 1\nvars:\n  a0: &a0 [x]\n{aliases}"),
        "\u{0}".to_owned(),
        "version: 1\ncontainers: &a { c: *a }\n".to_owned(),
        format!("version: 1\nname: {}\n", "x".repeat(5 << 20)),
        "version: 1\ncontainers: { ../../x: { rootfs: { scratch: true } } }\nsteps: [{ name: ../../../tmp/x, run: 'true' }]\n".to_owned(),
        "version: 1\nmounts: { m: { type: bind, source: ., target: /../../etc } }\n".to_owned(),
        "version: 1\nmounts: { m: { type: tmpfs, target: /t, options: ['size=1m,suid,exec'] } }\n".to_owned(),
        "version: 1\nmounts: { m: { type: overlay, target: /t, options: ['lowerdir=/'] } }\ncontainers: { c: { rootfs: { scratch: true }, mounts: [m] } }\nsteps: [{ name: s, run: 'true' }]\n".to_owned(),
        "version: 1\ncontainers: { c: { rootfs: { scratch: true }, limits: { memory: -1, pids: 99999999999999999999 } } }\n".to_owned(),
        "version: 1\ncontainers: { c: { rootfs: { scratch: true }, hostname: \"a\\0b\", env: { \"A=B\\0\": \"\\0\" } } }\nsteps: [{ name: s, exec: [\"/bin/\\0sh\"] }]\n".to_owned(),
        "version: 1\ndevices: { d: { path: /dev/../etc/shadow } }\n".to_owned(),
        "--- !!python/object/apply:os.system ['touch planted']\n".to_owned(),
        "version: 1\ncontainers: { c: { rootfs: { squashfs: /dev/zero } } }\nsteps: [{ name: s, run: 'true' }]\n".to_owned(),
    ];
    let project = lab.project("");
    for (at, text) in odd.iter().enumerate() {
        project.write("build.yaml", text);
        for command in [&["validate"][..], &["plan"], &["apply"]] {
            let build = project.runner(command)?;
            build.did_not_hang()?;
            safe(
                (0..=3).contains(&build.code) && !build.stderr.contains("panicked"),
                format!("manifest {at}, {command:?}: {build}"),
            )?;
        }
    }
    safe(!project.path("planted").exists(), "a manifest ran a program")
}

/// A step that may write to the directory of the manifest puts a special or too large file in the place of each file that runner
/// reads there. Runner refuses it in words, at once.
fn special_files(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
mounts: { work: { type: bind, source: work, target: /work } }
containers: { c: { rootfs: $BASE, mounts: [work] } }
steps:
  - name: plant
    run: |
      for name in manifest settings/runner.toml lock/runner.lock ignored/.runnerignore secret root.tar root.squashfs profile; do
        name=/work/$name
        case $(cat /work/kind) in
          FIFO) mknod $name p;;
          device) mknod $name c 1 5;;
          directory) mkdir $name;;
          huge) dd if=/dev/zero of=$name bs=1 count=0 seek=1099511627776 2> /dev/null;;
        esac
      done
      echo TRYING
",
    );
    let rest = "containers: { c: { rootfs: $BASE, mounts: [m], seccomp: default } }\nsteps: [{ name: s, run: id }, { name: t, snapshot: {} }]\n";
    let with = |path: &str, mount: &str, from: &str, to: &str| {
        let base = lab.project(&format!("mounts: {{ m: {mount} }}\n{}", rest.replace(from, to)));
        fs::copy(base.path("build.yaml"), project.path(path)).unwrap();
    };
    for kind in ["FIFO", "device", "directory", "huge"] {
        let _ = fs::remove_dir_all(project.path("work"));
        for directory in ["settings", "lock", "ignored"] {
            project.write(&format!("work/{directory}/.there"), "");
        }
        project.write("work/kind", kind);
        let tmpfs = "{ type: tmpfs, target: /m }";
        with("work/settings/build.yaml", tmpfs, "", "");
        with("work/lock/build.yaml", tmpfs, "", "");
        with("work/ignored.yaml", "{ type: bind, source: ignored, target: /m, options: [ro] }", "", "");
        with("work/secret.yaml", "{ type: secret, source: secret, target: /m }", "", "");
        with("work/tar.yaml", tmpfs, "$BASE", "{ tar: root.tar }");
        with("work/squashfs.yaml", tmpfs, "$BASE", "{ squashfs: root.squashfs }");
        with("work/profile.yaml", tmpfs, "default", "./profile");
        project.apply(&[])?.succeeded()?.tried("plant", "TRYING")?;
        for arguments in [
            &["validate", "work/manifest"][..],
            &["plan", "work/settings/build.yaml"],
            &["lock", "work/lock/build.yaml", "--check"],
            &["apply", "work/ignored.yaml"],
            &["apply", "work/secret.yaml"],
            &["apply", "work/tar.yaml"],
            &["apply", "work/squashfs.yaml"],
            &["apply", "work/profile.yaml"],
        ] {
            // A special file is no list of names to ignore. An image of 1 TiB is read to its end.
            let ignores = kind != "huge" && arguments[1].contains("ignored");
            if kind == "huge" && (arguments[1].contains("tar") || arguments[1].contains("squashfs")) {
                continue;
            }
            let build = project.runner(arguments)?;
            build.did_not_hang()?;
            let words = format!("{}{}", build.stdout, build.stderr);
            let says = ["a FIFO", "a fifo", "device", "director", "is over ", "is larger than "];
            let refused = build.code != 0 && says.iter().any(|word| words.contains(word));
            tried(refused || ignores && build.code == 0, format!("{kind}: {arguments:?}: {build}"))?;
        }
    }
    Ok(())
}
