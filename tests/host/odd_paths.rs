//! Stores, projects and temporary directories whose names have a meaning for mount options, mountinfo, JSON or a shell.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::Command;

use crate::built::project;
use crate::project::{Project, Run};

const ODD: [&[u8]; 9] =
    [b"a\\b", b"a\\040b", b"a\\,b:c", b"a,b:c=d", b"lowerdir=x,y", b"a\"b'c", b"a\nb c", b"%s$(x)#", b"-a"];

const NOT_UTF8: &[u8] = b"a\xffb";

/// Layers above each other in memory and on disk, with each kind of mount and an output.
const BUILD: &str = "
mounts:
  src: { type: bind, source: src, target: /src, options: [ro] }
  to: { type: bind, source: to, target: /to }
  tmp: { type: tmpfs, target: /tmp }
  cache: { type: cache, target: /cache }
containers:
  c: { rootfs: $TOOLS, mounts: [src, to, tmp, cache] }
  d: { rootfs: { snapshot: l }, mounts: [src], scratch: { disk: true } }
steps:
  - { name: s, container: c, run: cat /src/f > /f; cp /f /to/f; cp /f /cache/f; cp /f /tmp/f }
  - { name: l, container: c, snapshot: { output: out/l.squashfs } }
  - { name: t, container: d, run: cat /f /src/f > /g }
  - { name: m, container: d, snapshot: { mode: full, output: out/m.squashfs } }
";

/// A project that is itself in a directory of an odd name, with its store and temporary directory.
struct Odd {
    project: Project,
    manifest: String,
}

impl Odd {
    fn new() -> Self {
        let project = project(BUILD);
        let manifest = fs::read_to_string(project.path("build.yaml")).unwrap();
        Self { project, manifest }
    }

    /// Builds in `work`, made here, with that store and that temporary directory; all below the project.
    fn apply(&self, work: &OsStr, store: &OsStr, temporary: &OsStr) -> Run {
        let below = |name: &OsStr| self.project.path("").join(name);
        let work = below(work);
        for directory in [work.join("src"), work.join("to"), below(temporary)] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(work.join("src/f"), "hello\n").unwrap();
        fs::write(work.join("build.yaml"), &self.manifest).unwrap();
        let reports = ["--report", "r.json", "--report", "r.html", "--report", "r.xml"];
        let mut command: Command = self.project.command(&[&["apply"], &reports[..]].concat());
        let not_utf8: [(&str, &[u8]); 2] = [("--report", b"\xffr.xml"), ("--log-file", b"\xffl")];
        for (option, name) in not_utf8 {
            command.arg(option).arg(OsStr::from_bytes(name));
        }
        command.current_dir(&work).env("RUNNER_STORE", below(store)).env("TMPDIR", below(temporary));
        let run = Run::new(0, &command.output().unwrap());
        if run.code == 0 {
            assert_eq!(fs::read_to_string(work.join("to/f")).unwrap(), "hello\n");
            assert!(work.join("out/m.squashfs").exists());
            assert!(not_utf8.iter().all(|(_, name)| work.join(OsStr::from_bytes(name)).exists()));
            serde_json::from_slice::<serde_json::Value>(&fs::read(work.join("r.json")).unwrap()).unwrap();
        }
        run
    }
}

#[test]
fn a_store_a_project_and_a_temporary_directory_of_any_name_work() {
    for name in ODD {
        let odd = Odd::new();
        let name = OsString::from_vec(name.to_vec());
        let below = |directory: &str| PathBuf::from(directory).join(&name).into_os_string();
        let run = odd.apply(&below("project"), &below("stores"), &below("temporary"));
        assert_eq!(run.code, 0, "{name:?}: {run}");
        let left: Vec<_> = fs::read_dir(odd.project.path("stores").join(&name).join("leases")).unwrap().collect();
        assert!(left.is_empty(), "{name:?}: {left:?}");
    }
}

#[test]
fn names_that_are_not_utf8_work_except_that_of_a_store_which_is_refused() {
    let odd = Odd::new();
    let name = OsStr::from_bytes(NOT_UTF8);
    let run = odd.apply(name, OsStr::new("store"), OsStr::from_bytes(b"temporary\xfe"));
    assert_eq!(run.code, 0, "{run}");
    let work = odd.project.path("").join(name);
    let kept =
        odd.project.command(&["apply", "--no-cache", "--bundle-dir", "bundles"]).current_dir(&work).output().unwrap();
    let kept = Run::new(0, &kept);
    let words = kept.stdout.replace("\n  │ ", " ");
    assert!(kept.code == 3 && words.contains("a host path in its config.json is not UTF-8"), "{kept}");
    let stores = odd.project.path("stores");
    fs::create_dir(&stores).unwrap();
    let link = odd.project.path("link");
    std::os::unix::fs::symlink(stores.join(name), &link).unwrap();
    for (store, there) in
        [(stores.join(name), false), (stores.join(name).join("deep/store"), false), (link.join("store"), true)]
    {
        if there {
            fs::create_dir(stores.join(name)).unwrap();
        }
        let run = odd.apply(OsStr::new("work"), store.as_os_str(), OsStr::new("temporary"));
        assert_eq!(run.code, 3, "{store:?}: {run}");
        assert!(run.stderr.contains("its path is not UTF-8"), "{store:?}: {run}");
        assert_eq!(stores.join(name).exists(), there, "{store:?}");
        assert!(!stores.join(name).join("store").exists(), "{store:?}");
    }
}

#[test]
fn a_store_on_an_overlay_keeps_scratch_in_memory_and_refuses_it_on_disk_in_words() {
    let odd = Odd::new();
    let directory = odd.project.path("");
    for name in ["lower", "upper", "work", "merged", "src", "to"] {
        fs::create_dir(directory.join(name)).unwrap();
    }
    fs::write(directory.join("src/f"), "hello\n").unwrap();
    // In a mount namespace that ends with the build.
    let shell = "exec unshare -m sh -c 'mount -t overlay o -o lowerdir=lower,upperdir=upper,workdir=work merged && \
                 RUNNER_STORE=$PWD/merged/store exec \"$@\" --keep-going' sh \"$@\"";
    let run = odd.project.runner_in_shell(shell, &["apply", "--target", "l"]);
    assert_eq!(run.code, 0, "{run}");
    let run = odd.project.runner_in_shell(shell, &["apply", "--progress", "plain"]);
    assert_eq!(run.code, 3, "{run}");
    let words = run.stdout.replace("\n  │ ", " ");
    assert!(words.contains("is itself on an overlay") && words.contains("scratch: {tmpfs: SIZE}"), "{run}");
    assert_eq!(odd.project.leftovers(run.pid), Vec::<String>::new());
}

also_with_runc! {
    a_store_a_project_and_a_temporary_directory_of_any_name_work,
    names_that_are_not_utf8_work_except_that_of_a_store_which_is_refused,
}
