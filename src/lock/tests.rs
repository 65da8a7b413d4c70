//! Tests of lock files on a disk, and of the differences from them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::error::Exit;
use crate::packages::{Manager, Package};

fn rootfs(container: &str, digest: &str) -> LockedRootfs {
    LockedRootfs { container: container.into(), kind: "tar".into(), source: None, digests: vec![digest.into()] }
}

fn snapshot(step: &str, digest: &str) -> LockedSnapshot {
    LockedSnapshot { step: step.into(), digest: digest.into(), packages: LockedPackages::default(), inputs: None }
}

fn inputs() -> LockedInputs {
    let steps = [("make", "1"), ("test", "2")].map(|(name, digest)| (name.to_owned(), digest.to_owned()));
    LockedInputs {
        on: "the rootfs of base".into(),
        tools: "embedded, squashfs 1".into(),
        settings: "3".into(),
        steps: steps.into(),
        binds: [("/src".to_owned(), "4".to_owned()), ("/gone".to_owned(), "5".to_owned())].into(),
        named_settings: [("env/A".to_owned(), "b".to_owned())].into(),
    }
}

fn id(path: &Path, manifest: &str, set: &[(&str, &str)]) -> SectionId {
    let set = set.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    SectionId::new(path, &path.with_file_name(manifest), set)
}

fn new_lock_file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("runner.lock");
    (directory, path)
}

#[test]
fn a_written_section_is_read_back_sorted() {
    let (directory, path) = new_lock_file();
    let id = id(&path, "build.yaml", &[("suite", "trixie")]);
    let packages = LockedPackages::of(&[Package {
        manager: Manager::Dpkg,
        name: "apt".into(),
        version: "2.6.1".into(),
        architecture: "amd64".into(),
        size: None,
    }]);
    let with_inputs = LockedSnapshot { packages, inputs: Some(inputs()), ..snapshot("s", "3") };
    let section =
        Section::new(id.clone(), vec![rootfs("b", "2"), rootfs("a", "1")], vec![snapshot("t", "4"), with_inputs]);
    write(&find(&path).unwrap(), &section).unwrap();
    assert_eq!(read(&path, &id).unwrap(), section);
    let text = fs::read_to_string(&path).unwrap();
    let expected = format!(
        r#"version = 2

[[manifest]]
path = "build.yaml"
runner = "{}"

[manifest.set]
suite = "trixie"

[[manifest.rootfs]]
container = "a"
kind = "tar"
digests = ["1"]

[[manifest.rootfs]]
container = "b"
kind = "tar"
digests = ["2"]

[[manifest.snapshot]]
step = "s"
digest = "3"

[manifest.snapshot.packages]
"apt:amd64" = "2.6.1"

[manifest.snapshot.inputs]
on = "the rootfs of base"
tools = "embedded, squashfs 1"
settings = "3"

[manifest.snapshot.inputs.steps]
make = "1"
test = "2"

[manifest.snapshot.inputs.binds]
"/gone" = "5"
"/src" = "4"

[manifest.snapshot.inputs.named_settings]
"env/A" = "b"

[[manifest.snapshot]]
step = "t"
digest = "4"
"#,
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(text, format!("{HEAD}{expected}"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn writing_a_section_does_not_change_the_sections_of_other_manifests() {
    let (_directory, path) = new_lock_file();
    let ids = [
        id(&path, "build.yaml", &[]),
        id(&path, "build.yaml", &[("suite", "trixie")]),
        id(&path, "sdk.yaml", &[]),
        id(&path, "build.yaml", &[("suite", "bookworm"), ("jobs", "2")]),
    ];
    let section = |n: usize, digest: &str| Section::new(ids[n].clone(), Vec::new(), vec![snapshot("s", digest)]);
    for n in 0..ids.len() {
        write(&find(&path).unwrap(), &section(n, &n.to_string())).unwrap();
    }
    write(&find(&path).unwrap(), &section(1, "new")).unwrap();
    let digests = ids.each_ref().map(|id| read(&path, id).unwrap().snapshot[0].digest.clone());
    assert_eq!(digests, ["0", "new", "2", "3"]);
    // The order of the file does not depend on the order of writing.
    let text = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    for n in [3, 2, 0] {
        write(&find(&path).unwrap(), &section(n, &n.to_string())).unwrap();
    }
    write(&find(&path).unwrap(), &section(1, "new")).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    let error = read(&path, &id(&path, "sdk.yaml", &[("a", "b c")])).unwrap_err();
    let messages = "has no section of sdk.yaml --set 'a=b c', only of build.yaml, build.yaml --set jobs=2 --set suite=bookworm, \
                build.yaml --set suite=trixie, sdk.yaml";
    assert!(error.to_string().ends_with(messages), "{error}");
    assert!(error.hint().unwrap().starts_with("`runner lock sdk.yaml --set 'a=b c'` adds it"), "{error}");
}

#[test]
fn concurrent_writers_lose_no_section() {
    let (_directory, path) = new_lock_file();
    std::thread::scope(|scope| {
        for n in 0..16 {
            let path = &path;
            scope.spawn(move || {
                let section = Section::new(id(path, &format!("{n}.yaml"), &[]), Vec::new(), Vec::new());
                write(&find(path).unwrap(), &section).unwrap();
            });
        }
    });
    for n in 0..16 {
        read(&path, &id(&path, &format!("{n}.yaml"), &[])).unwrap();
    }
}

#[test]
fn a_manifest_is_named_from_the_directory_of_the_lock_file_with_links_followed() {
    let top = tempfile::tempdir().unwrap();
    for directory in ["locks", "a/b"] {
        fs::create_dir_all(top.path().join(directory)).unwrap();
    }
    std::os::unix::fs::symlink("a/b", top.path().join("link")).unwrap();
    let named = |lock: &str, manifest: &str| {
        SectionId::new(&top.path().join(lock), &top.path().join(manifest), BTreeMap::new()).to_string()
    };
    assert_eq!(named("locks/x.lock", "a/b/build.yaml"), "../a/b/build.yaml");
    assert_eq!(named("locks/x.lock", "link/build.yaml"), "../a/b/build.yaml");
    assert_eq!(named("link/../../locks/x.lock", "a/./b/build.yaml"), "../a/b/build.yaml");
    assert_eq!(named("a/x.lock", "a/b/build.yaml"), "b/build.yaml");
    assert_eq!(named("a/x.lock", "a/build.yaml"), "build.yaml");
}

#[test]
fn a_file_that_is_no_lock_is_reported_and_never_overwritten() {
    let (_directory, path) = new_lock_file();
    let id = id(&path, "build.yaml", &[]);
    assert!(matches!(read(&path, &id).unwrap_err(), LockError::Missing { .. }));
    let section = Section::new(id.clone(), Vec::new(), Vec::new());
    let missing = find(&path).unwrap();
    for (bytes, problem) in [
        (&b"version = 3\n"[..], "its version is 3, and this runner knows 2"),
        (b"version = 2\nsnapshots = []\n", "unknown field `snapshots`"),
        (b"version = 2\n[[manifest]]\npath = 'a'\nrunner = '1'\nsnapshots = []\n", "unknown field `snapshots`"),
        (b"version = 2\n[[manifest]]\npath = 1\n", "line 3, column 8"),
        (b"<<<<<<< HEAD\nversion = 2\n", "line 1"),
        (b"", "missing field `version`"),
        (b"version = 2\n\xb7", "it is not UTF-8"),
    ] {
        fs::write(&path, bytes).unwrap();
        for error in [read(&path, &id).unwrap_err(), find(&path).unwrap_err(), write(&missing, &section).unwrap_err()] {
            assert!(error.to_string().contains(problem), "{error}");
            assert!(error.hint().is_some(), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn a_file_of_the_former_format_is_refused_until_it_is_rewritten() {
    let (_directory, path) = new_lock_file();
    let id = id(&path, "build.yaml", &[]);
    fs::write(&path, "version = 1\n\n[[snapshot]]\nstep = \"s\"\ndigest = \"3\"\n").unwrap();
    let error = read(&path, &id).unwrap_err();
    assert!(matches!(error, LockError::WithoutSections { .. }), "{error}");
    assert!(error.hint().unwrap().contains("`runner lock`"));
    let section = Section::new(id.clone(), Vec::new(), vec![snapshot("s", "3")]);
    write(&find(&path).unwrap(), &section).unwrap();
    assert_eq!(read(&path, &id).unwrap(), section);
}

#[test]
fn each_kind_of_difference_is_described() {
    let (_directory, path) = new_lock_file();
    let (rootfs, snapshots) =
        (vec![rootfs("a", "1"), rootfs("gone", "9")], vec![snapshot("s", "3"), snapshot("t", "4")]);
    let lock = Section::new(id(&path, "build.yaml", &[]), rootfs, snapshots);
    let messages = |differences: Vec<Difference>| differences.iter().map(ToString::to_string).collect::<Vec<_>>();
    let found = |container: &str, digests: &[&str]| LockedRootfs {
        container: container.into(),
        kind: "tar".into(),
        source: None,
        digests: digests.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(lock.rootfs_differences(&[found("a", &["1"])]), []);
    assert_eq!(
        messages(lock.rootfs_differences(&[found("a", &["2", "3"]), found("new", &["5"])])),
        ["the rootfs of container a: locked tar 1, found tar 2 + 3", "the rootfs of container new: is not in the lock"]
    );
    let none = |_: &LockedSnapshot| Vec::new();
    assert_eq!(lock.snapshot_difference("s", "3", |_| panic!("nothing differs")), None);
    let difference = lock.snapshot_difference("t", "x", |_| vec!["step make changed".into()]).unwrap();
    assert_eq!(difference.to_string(), "snapshot t: locked 4, found x; cause: step make changed");
    let difference = lock.snapshot_difference("t", "x", none).unwrap().to_string();
    assert!(difference.contains("cause: unknown") && difference.contains("`runner verify`"));
    assert_eq!(lock.snapshot_difference("u", "x", none).unwrap().to_string(), "snapshot u: is not in the lock");
    assert_eq!(
        messages(lock.left_over(|name| name == "a", |name| name == "s")),
        [
            "the rootfs of container gone: is locked, but not in the manifest",
            "snapshot t: is locked, but not in the manifest"
        ]
    );
}

/// Otherwise a terminal or a CI system would interpret text that a repository has in its lock.
#[test]
fn all_text_from_a_lock_is_escaped_in_messages() {
    let hostile = "a\n::error::b\u{1b}[2J\u{202e}";
    let (_directory, path) = new_lock_file();
    let lock = Section::new(
        id(&path, hostile, &[(hostile, hostile)]),
        vec![rootfs(hostile, hostile)],
        vec![snapshot(hostile, hostile), snapshot("s", hostile)],
    );
    write(&find(&path).unwrap(), &lock).unwrap();
    let error = read(&path, &id(&path, "build.yaml", &[])).unwrap_err();
    let mut messages = vec![error.to_string()];
    let error = read(&path, &id(&path, "b\n::error::c", &[])).unwrap_err();
    messages.extend([error.to_string(), error.hint().unwrap()]);
    fs::write(&path, r#""a\n::error::b\u001b[2J\u202e" = 1"#.to_owned() + "\nversion = 2\n").unwrap();
    messages.push(read_all(&path).unwrap_err().to_string());
    let found = LockedRootfs { kind: "dir".into(), ..rootfs(hostile, "1") };
    let causes = |_: &LockedSnapshot| vec![hostile.to_owned()];
    let differences = lock.rootfs_differences(&[found]).into_iter().chain(lock.snapshot_difference("s", "1", causes));
    let differences: Vec<Difference> = differences.chain(lock.left_over(|_| false, |name| name == "s")).collect();
    assert_eq!(differences.len(), 4);
    messages.extend(differences.iter().map(ToString::to_string));
    for messages in messages {
        assert!(!messages.contains(crate::escape::is_hidden) && messages.contains("error::"), "{messages:?}");
    }
}

#[test]
fn each_changed_input_is_named() {
    let was = inputs();
    assert_eq!(was.changes(&was.clone()), Vec::<String>::new());
    assert_eq!(was.changed_binds(&was).count(), 0);
    let mut now = was.clone();
    now.binds = [("/src".to_owned(), "6".to_owned()), ("/new".to_owned(), "7".to_owned())].into();
    assert_eq!(was.changes(&now), Vec::<String>::new());
    assert_eq!(was.changed_binds(&now).collect::<Vec<_>>(), [("/src", "4", "6")]);
    now.on = "snapshot sdk".into();
    now.tools = "runc 1, squashfs 1".into();
    now.settings = "4".into();
    now.steps = [("make".to_owned(), "9".to_owned()), ("lint".to_owned(), "2".to_owned())].into();
    assert_eq!(
        was.changes(&now),
        [
            "it is built on snapshot sdk, and was built on the rootfs of base",
            "the tools changed: embedded, squashfs 1 → runc 1, squashfs 1",
            "step lint was added",
            "step make changed",
            "step test was removed",
            "settings of its container, of the snapshot or of the build changed",
        ]
    );
    now.named_settings = [("env/A".to_owned(), "c".to_owned()), ("cwd".to_owned(), "/".to_owned())].into();
    assert_eq!(was.changes(&now)[5..], ["cwd changed: nothing → /", "env/A changed: b → c"]);
}

#[test]
fn an_unreadable_lock_is_not_reported_as_a_mismatch() {
    let (directory, path) = new_lock_file();
    let exit = |path: &Path| read_all(path).unwrap_err().exit();
    assert_eq!(exit(&path), Exit::Mismatch);
    fs::write(&path, "version = 9").unwrap();
    assert_eq!(exit(&path), Exit::Mismatch);
    // The path is wrong.
    for (target, name) in [("runner.lock", "link.lock"), ("loop", "loop")] {
        std::os::unix::fs::symlink(target, directory.path().join(name)).unwrap();
    }
    rustix::fs::mknodat(rustix::fs::CWD, directory.path().join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    fs::File::create(directory.path().join("huge")).unwrap().set_len(1 << 40).unwrap();
    for name in ["link.lock", "loop/a.lock", "runner.lock/a.lock", "fifo", "huge", &"x".repeat(256), ""] {
        assert_eq!(exit(&directory.path().join(name)), Exit::Usage, "{name}");
    }
    // The host cannot read it: an address of no process.
    assert_eq!(exit(Path::new("/proc/self/mem")), Exit::Host);
}
