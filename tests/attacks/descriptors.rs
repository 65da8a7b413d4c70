//! Descriptors that runtimes have open, as ways to the host: working directories, mount targets and look-ups through them.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use crate::attack::{Attack, Verdict, got_out, not_tried, safe, tried};
use crate::build::Build;
use crate::lab::{Lab, Project};
use crate::patience;

pub const ATTACKS: &[Attack] = &[
    Attack {
        row: "C1",
        name: "cwd-by-own-descriptor",
        summary: "cwd is a link to /proc/self/fd/N, N to 1023",
        run: |lab| cwd_by_descriptors(lab, "/proc/self/fd", 0..1024, "0:0"),
    },
    Attack {
        row: "C1",
        name: "cwd-by-descriptor-of-init",
        summary: "cwd is a link to /proc/1/fd/N, N to 1023",
        run: |lab| cwd_by_descriptors(lab, "/proc/1/fd", 0..1024, "0:0"),
    },
    Attack {
        row: "C1",
        name: "cwd-by-link-in-bind",
        summary: "cwd is a magic link that a step left in a bind",
        run: cwd_in_bind,
    },
    Attack {
        row: "C1",
        name: "mount-target-by-descriptor",
        summary: "mount target is a link to /proc/{self,1}/fd/N",
        run: targets,
    },
    Attack { row: "C1", name: "user-by-descriptor", summary: "passwd is a link to /proc/{self,1}/fd/N", run: users },
    Attack {
        row: "C2",
        name: "host-processes-as-another-user",
        summary: "cwd by /proc/self/fd/N, then PID/root of a host process",
        run: |lab| cwd_by_descriptors(lab, "/proc/self/fd", 0..128, "12345:12345"),
    },
    Attack {
        row: "C2",
        name: "host-processes-as-root",
        summary: "looks for the host's processes in /proc",
        run: host_processes,
    },
    Attack {
        row: "contained",
        name: "descriptors-after-exec",
        summary: "lists what a step has open, of runner and its caller",
        run: after_exec,
    },
    Attack {
        row: "contained",
        name: "runtime-program",
        summary: "CVE-2019-5736: writes to the runtime by /proc/*/exe",
        run: runtime_program,
    },
];

/// Lines that only a way out of the root prints.
const OUTSIDE: [&str; 4] = ["OUTSIDE", "WRITABLE", "REACHED", "FOUND"];

/// A process of the host, of user 12345, with a file in its root that no step can reach.
struct HostProcess(Child, PathBuf);

impl HostProcess {
    fn start(project: &Project) -> Self {
        fs::set_permissions(project.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        project.write("victim/marker", "of the host\n");
        for name in ["victim", "victim/marker"] {
            chown(project.path(name), Some(12345), Some(12345)).unwrap();
        }
        let sleep = Command::new("sleep").arg("86397").uid(12345).gid(12345).spawn().unwrap();
        Self(sleep, project.path("victim/marker"))
    }

    /// Returns the marker's path from directories of a procfs, and from the host's root.
    fn markers(&self) -> String {
        let (pid, marker) = (self.0.id(), self.1.display());
        format!("{pid}/root{marker}, root{marker}, 1/root{marker}, .{marker}, marker, victim/marker")
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The caller of runner has directories of the host open, too, under numbers that the attack tries.
const LEAKING: &str = r#"exec 100<"$PWD/victim" 101</ 102</proc 103<"$PWD/passwd"; exec "$@""#;

fn apply_leaking(project: &Project, limit: Option<u32>) -> Result<Build, crate::attack::Failure> {
    // Hundreds of steps fail, and no shell opens their sessions.
    let arguments = ["apply", "--progress", "json", "--keep-going", "--no-keep-failed", "-j", "3"];
    let limit = limit.map(|limit| format!("ulimit -n {limit}; ")).unwrap_or_default();
    project.run_within(Duration::from_secs(400), project.command_in_bash(&format!("{limit}{LEAKING}"), &arguments))
}

/// Each step either was refused for its working directory, or ran in a directory of the root.
fn judge_cwd<'a>(build: &Build, steps: impl Iterator<Item = (String, &'a str)>) -> Verdict {
    build.did_not_hang()?;
    for (step, cwd) in steps {
        build.without(&step, &OUTSIDE)?;
        let refused = build.status(&step) == "failed" && build.reason(&step).contains(cwd);
        // An external runtime prints the reason on the standard error of the step.
        let says_so = |line: &&str| ["cwd", "working directory", cwd].iter().any(|word| line.contains(word));
        let refused = refused || build.lines(&step).iter().any(says_so);
        tried(
            refused || build.printed(&step, "TRYING"),
            format!("{build} {step}: {} {:?}", build.reason(&step), build.status(&step)),
        )?;
    }
    Ok(())
}

fn cwd_by_descriptors(lab: &Lab, directory: &str, numbers: std::ops::Range<u32>, user: &str) -> Verdict {
    // With an external runtime each try is a container, and on a slow machine each takes long: there no process may open more
    // descriptors than are tried. Fewer than 256 would be too few for runner with an external runtime.
    let most = match lab.runtime.as_str() {
        "embedded" => patience::is_slow().then_some(128),
        _ => Some(256),
    };
    let numbers = numbers.start..most.map_or(numbers.end, |most| numbers.end.min(most));
    let mut manifest = format!(
        "
containers: {{ c: {{ rootfs: $BASE, limits: {{ nofile: {} }} }} }}
steps:
  - {{ name: links, run: 'mkdir /l; cd /l; i=0; while [ $i -lt {} ]; do ln -s {directory}/$i l$i; i=$((i+1)); done' }}
",
        most.unwrap_or(256),
        numbers.end
    );
    let blank = lab.project("");
    let process = HostProcess::start(&blank);
    for number in numbers.clone() {
        let _ = writeln!(
            manifest,
            "  - {{ name: s{number}, needs: [links], user: '{user}', cwd: /l/l{number}, exec: [/probe, cwd, {}] }}",
            process.markers()
        );
    }
    let project = lab.project(&manifest);
    project.write("victim/marker", "of the host\n");
    project.write("passwd", "mallory:x:4242:4242::/:/bin/sh\n");
    let build = apply_leaking(&project, most)?;
    tried(build.status("links") == "ran", build.to_string())?;
    judge_cwd(&build, numbers.map(|number| (format!("s{number}"), "/l/l")))
}

/// Links whose targets are files that the kernel has open for a process, not paths.
const MAGIC: [&str; 8] = [
    "/proc/self/root",
    "/proc/self/cwd",
    "/proc/1/root",
    "/proc/1/cwd",
    "/proc/thread-self/root",
    "/proc/thread-self/fd/3",
    "/proc/self/task/1/root",
    "/proc/self/map_files",
];

fn cwd_in_bind(lab: &Lab) -> Verdict {
    let descriptors = (0..32).flat_map(|number| [format!("/proc/self/fd/{number}"), format!("/proc/1/fd/{number}")]);
    let links: Vec<String> = MAGIC.into_iter().map(str::to_owned).chain(descriptors).collect();
    let mut manifest = "
mounts: { shared: { type: bind, source: shared, target: /shared } }
containers: { hostile: { rootfs: $BASE, mounts: [shared] }, c: { rootfs: $BASE, mounts: [shared] } }
steps:
  - name: links
    container: hostile
    run: |
"
    .to_owned();
    for (at, link) in links.iter().enumerate() {
        let _ = writeln!(manifest, "      ln -s {link} /shared/l{at}");
    }
    let blank = lab.project("");
    let process = HostProcess::start(&blank);
    for at in 0..links.len() {
        let markers = process.markers();
        let step = format!("exec: [/probe, cwd, {markers}]");
        let _ = writeln!(manifest, "  - {{ name: s{at}, container: c, needs: [links], cwd: /shared/l{at}, {step} }}");
    }
    let project = lab.project(&manifest);
    project.write("victim/marker", "of the host\n");
    project.write("passwd", "mallory:x:4242:4242::/:/bin/sh\n");
    fs::create_dir(project.path("shared")).unwrap();
    let build = apply_leaking(&project, None)?;
    tried(build.status("links") == "ran", build.to_string())?;
    judge_cwd(&build, (0..links.len()).map(|at| (format!("s{at}"), "/shared/l")))
}

/// Returns numbers of descriptors of init, of the helper and of the caller, in both notations.
fn descriptor_links() -> Vec<String> {
    let numbers = (0..32).chain(100..104);
    numbers.flat_map(|number| [format!("/proc/self/fd/{number}"), format!("/proc/1/fd/{number}")]).collect()
}

fn targets(lab: &Lab) -> Verdict {
    let links = descriptor_links();
    let mut manifest = "\ncontainers:\n  made: { rootfs: $BASE }\n".to_owned();
    for at in 0..links.len() {
        let mount = format!("{{ type: tmpfs, target: /l/l{at}, options: [size=1212k] }}");
        let _ = writeln!(manifest, "  c{at}: {{ rootfs: {{ snapshot: layer }}, mounts: [{mount}] }}");
    }
    manifest.push_str("steps:\n  - name: links\n    container: made\n    run: |\n      mkdir /l\n");
    for (at, link) in links.iter().enumerate() {
        let _ = writeln!(manifest, "      ln -s {link} /l/l{at}");
    }
    manifest.push_str("  - { name: layer, container: made, snapshot: {} }\n");
    for at in 0..links.len() {
        let _ = writeln!(manifest, "  - {{ name: s{at}, container: c{at}, exec: [cat, /proc/self/mountinfo] }}");
    }
    let project = lab.project(&manifest);
    project.write("victim/marker", "of the host\n");
    project.write("passwd", "mallory:x:4242:4242::/:/bin/sh\n");
    let build = apply_leaking(&project, None)?;
    build.did_not_hang()?;
    tried(build.status("layer") == "ran", build.to_string())?;
    for (at, link) in links.iter().enumerate() {
        let step = format!("s{at}");
        let refused = build.status(&step) == "failed" && build.reason(&step).contains("/l/l");
        let mounted = build.lines(&step).into_iter().filter(|line| line.contains("size=1212k"));
        let places: Vec<_> = mounted.filter_map(|line| line.split(' ').nth(4)).collect();
        let outside = ["/proc", "/sys", "/dev"];
        let led = places.iter().any(|place| outside.iter().any(|root| place.starts_with(root)));
        safe(!led, format!("{link} led a mount to {places:?}"))?;
        tried(refused || !places.is_empty(), format!("{link}: {build}"))?;
    }
    let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
    safe(!host.contains("size=1212k"), "the mount is on the host")
}

fn users(lab: &Lab) -> Verdict {
    let links = descriptor_links();
    let mut manifest = "\ncontainers:\n".to_owned();
    for at in 0..links.len() {
        let _ = writeln!(manifest, "  c{at}: {{ rootfs: {{ dir: roots/{at} }}, user: mallory }}");
    }
    manifest.push_str("steps:\n");
    for at in 0..links.len() {
        let _ = writeln!(manifest, "  - {{ name: s{at}, container: c{at}, exec: [/probe, who] }}");
    }
    let project = lab.project(&manifest);
    for (at, link) in links.iter().enumerate() {
        let root = project.path("roots").join(at.to_string());
        fs::create_dir_all(root.join("etc")).unwrap();
        symlink(link, root.join("etc/passwd")).unwrap();
        // By another process: a child of another attack could have a copy of a descriptor of this one's, and a file that is open
        // for writing cannot be executed.
        assert!(Command::new("cp").arg(&lab.probe).arg(root.join("probe")).status().unwrap().success());
    }
    project.write("victim/marker", "of the host\n");
    project.write("passwd", "mallory:x:4242:4242::/:/bin/sh\n");
    let build = apply_leaking(&project, None)?;
    build.did_not_hang()?;
    for (at, link) in links.iter().enumerate() {
        let step = format!("s{at}");
        safe(build.lines(&step).is_empty(), format!("{link} was read as passwd: {:?}", build.lines(&step)))?;
        tried(build.reason(&step).contains("user"), format!("{link}: {build}"))?;
    }
    Ok(())
}

fn host_processes(lab: &Lab) -> Verdict {
    let project = lab.project(
        r"
containers: { c: { rootfs: $BASE } }
steps:
  - { name: s, run: 'echo TRYING; for p in /proc/[0-9]*; do echo $(tr \\0 + < $p/cmdline); done; ls /proc/1/root/ /proc/1/task' }
",
    );
    let process = HostProcess::start(&project);
    let build = project.apply(&[])?;
    build.tried("s", "TRYING")?;
    let pid = process.0.id();
    let seen = build.lines("s").into_iter().find(|line| line.contains("sleep+86397") || line.contains("runner"));
    safe(seen.is_none(), format!("a step sees {seen:?}, as the host's {pid} is"))
}

fn after_exec(lab: &Lab) -> Verdict {
    let project = lab.project(
        "
containers: { c: { rootfs: $BASE } }
steps:
  - { name: one, exec: [/probe, descriptors] }
  - { name: two, exec: [/probe, descriptors] }
",
    );
    project.write("victim/marker", "of the host\n");
    project.write("passwd", "mallory:x:4242:4242::/:/bin/sh\n");
    let build = apply_leaking(&project, None)?;
    for step in ["one", "two"] {
        build.tried(step, "TRYING")?;
        build.without(step, &["LEAKED"])?;
    }
    let run = project.run(project.command_in_bash(LEAKING, &["run", "c", "--", "/probe", "descriptors"]))?;
    tried(run.stdout.contains("TRYING"), run.to_string())?;
    safe(!run.stdout.contains("LEAKED"), run.stdout)
}

/// Returns the files that run containers, with everything that would change if one were written to.
fn programs(lab: &Lab) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = vec![PathBuf::from(env!("CARGO_BIN_EXE_runner"))];
    let path = std::env::var_os("PATH").unwrap_or_default();
    found.extend(std::env::split_paths(&path).map(|directory| directory.join(&lab.runtime)).find(|path| path.exists()));
    found.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn runtime_program(lab: &Lab) -> Verdict {
    let before = programs(lab);
    let project = lab.project(
        r#"
mounts: { gift: { type: bind, source: gift, target: /gift } }
containers: { c: { rootfs: $BASE, mounts: [gift], capabilities: { add: [SYS_PTRACE] } } }
steps:
  - name: watch
    needs: []
    run: |
      echo TRYING
      i=0; while [ $i -lt 400 ]; do
        for exe in /proc/[0-9]*/exe /proc/1/exe; do (echo evil > $exe) 2> /dev/null && echo "WROTE $exe"; done; i=$((i+1))
      done; echo over
  - { name: itself, needs: [], exec: [/proc/self/exe] }
  - { name: link, needs: [], exec: [/gift/link] }
  - { name: script, needs: [], exec: [/gift/script] }
  - { name: thread, needs: [], exec: [/proc/thread-self/exe, init] }
"#,
    );
    project.write("gift/script", "#!/proc/self/exe\n");
    fs::set_permissions(project.path("gift/script"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/proc/self/exe", project.path("gift/link")).unwrap();
    let build = project.apply(&["-j", "4"])?;
    build.tried("watch", "over")?;
    for step in ["itself", "link", "script", "thread"] {
        if build.status(step).is_empty() {
            return Err(not_tried(format!("{step}: {build}")));
        }
    }
    for (path, bytes) in before {
        if fs::read(&path).unwrap() != bytes {
            return Err(got_out(format!("{} was written to", path.display())));
        }
    }
    // It wrote to its own shell, in the container's root.
    Ok(())
}
