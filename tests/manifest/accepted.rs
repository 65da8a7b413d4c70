//! Correct manifests, and the builds that they become.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runner::diagnostic::{Problem, Style, render};
use runner::load::{LoadError, check, load};
use runner::model::{
    Access, Action, Build, CacheMount, Capability, Compression, ContainerId, FileSource, Limits, MountKind, Network,
    Principal, Rootfs, Scratch, Seccomp, Secret, Sharing, SnapshotMode, StepId, Unmask, User,
};
use runner::seccomp::Profile;

use crate::host::FakeHost;

/// The example of the contract.
const CONTRACT: &str = r#"
version: 1
name: debian-sdk
source_date_epoch: 1700000000
vars:
  suite: bookworm
mounts:
  src: { type: bind,  source: ., target: /src, options: [ro] }
  tmp: { type: tmpfs, target: /tmp, options: [nodev, nosuid] }
  apt: { type: cache, target: /var/cache/apt }
devices:
  kvm: { path: /dev/kvm, access: rw, mode: "0660" }
containers:
  base:
    rootfs: { squashfs: images/debian.squashfs }
    network: host
    env: { DEBIAN_FRONTEND: noninteractive }
    mounts: [src, tmp, apt]
  sdk:
    rootfs: { snapshot: base-layer }
    mounts: [src, tmp]
    devices: [kvm]
steps:
  - name: packages
    container: base
    run: apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev make # ${{ suite }}
  - name: base-layer
    container: base
    snapshot: { output: out/base.squashfs }
  - name: hello
    container: sdk
    exec: [gcc, -o, /usr/local/bin/hello, /src/hello.c]
  - name: sdk-image
    container: sdk
    snapshot: { mode: full, output: out/sdk.squashfs, compression: zstd }
"#;

fn build_with(text: &str, sets: &[(&str, &str)]) -> Build {
    let sets: BTreeMap<_, _> = sets.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    check(text, Path::new("/work/build.yaml"), &sets, &FakeHost::default()).unwrap()
}

fn build(text: &str) -> Build {
    build_with(text, &[])
}

#[test]
fn the_contracts_example_becomes_the_build_that_it_describes() {
    let build = build(CONTRACT);
    assert_eq!(build.name, "debian-sdk");
    assert_eq!(build.directory, Path::new("/work"));
    assert_eq!(build.source_date_epoch, Some(1_700_000_000));
    let [base, sdk] = build.containers.as_slice() else { panic!("{:?}", build.containers) };
    assert_eq!(base.rootfs, Rootfs::Squashfs(vec!["/work/images/debian.squashfs".into()]));
    assert_eq!((base.network, base.hostname.as_str()), (Network::Host, "base"));
    assert_eq!(base.env.get("DEBIAN_FRONTEND").map(String::as_str), Some("noninteractive"));
    assert_eq!(base.mounts[0].kind, MountKind::Bind(PathBuf::from("/work")));
    assert!(base.mounts[0].is_read_only());
    assert_eq!(base.mounts[2].kind, MountKind::Cache(CacheMount::shared("/var/cache/apt")));
    assert_eq!(sdk.rootfs, Rootfs::Snapshot(StepId(1)));
    let kvm = &sdk.devices[0];
    assert_eq!(kvm.access, Access { read: true, write: true, mknod: false });
    assert_eq!((kvm.target.as_path(), kvm.mode, kvm.uid), (Path::new("/dev/kvm"), Some(0o660), None));
    let needs: Vec<_> = build.steps.iter().map(|step| step.needs.clone()).collect();
    assert_eq!(needs, [vec![], vec![StepId(0)], vec![StepId(1)], vec![StepId(2)]]);
    let Action::Run(script) = &build.steps[0].action else { panic!() };
    assert!(script.ends_with("make # bookworm") || script.ends_with("make"), "{script}");
    let Action::Snapshot(image) = &build.steps[3].action else { panic!() };
    assert_eq!((image.mode, image.compression, image.level), (SnapshotMode::Full, Compression::Zstd, None));
    assert_eq!(image.output.as_deref(), Some(Path::new("/work/out/sdk.squashfs")));
}

#[test]
fn the_epoch_can_be_that_of_the_last_commit() {
    let build = build("version: 1\nsource_date_epoch: git\ncontainers: {c: {rootfs: {scratch: true}}}\n");
    assert_eq!(build.source_date_epoch, Some(1_600_000_000));
}

#[test]
fn each_test_has_a_container_of_its_own_on_the_last_state_of_its_container() {
    let build = build(
        "
version: 1
containers:
  c: {rootfs: {scratch: true}, hostname: host}
  d: {rootfs: {snapshot: s}}
steps:
  - {name: t, container: c, test: true, run: x, needs: [u]}
  - {name: a, container: c, run: x}
  - {name: s, container: c, snapshot: {}}
  - {name: u, container: d, test: true, run: x}
  - {name: b, container: d, run: x}
  - {name: v, container: d, test: true, exec: [x]}
",
    );
    let of = |step: usize| {
        let step = &build.steps[step];
        let container = build.container(step.container);
        (container.name.as_str(), container.variant_of, container.rootfs.clone(), step.needs.clone())
    };
    let ids = |steps: &[usize]| steps.iter().copied().map(StepId).collect::<Vec<_>>();
    let (c, d) = (Some(ContainerId(0)), Some(ContainerId(1)));
    // Container `c` ends with a snapshot; `d` does not, so that a snapshot is added.
    assert_eq!(of(0), ("c", c, Rootfs::Snapshot(StepId(2)), ids(&[2, 3])));
    assert_eq!(of(3), ("d", d, Rootfs::Snapshot(StepId(6)), ids(&[6])));
    assert_eq!(of(5), ("d", d, Rootfs::Snapshot(StepId(6)), ids(&[6])));
    assert_eq!((build.steps.len(), build.steps[6].name.as_str(), of(6).3), (7, "d:tested", ids(&[4])));
    assert_eq!((of(1).3, of(2).3, of(4).3), (ids(&[]), ids(&[1]), ids(&[2])));
    assert_eq!(build.container(build.steps[0].container).hostname, "host");
    assert_eq!(build.building_steps(), ids(&[1, 2, 4]));
    assert_eq!((build.containers.len(), build.own_containers().count()), (5, 2));
}

#[test]
fn a_test_starts_from_the_snapshot_before_exports_and_does_not_wait_for_these() {
    let build = build(
        "
version: 1
containers: {c: {rootfs: {scratch: true}}, d: {rootfs: {scratch: true}}}
steps:
  - {name: s, container: c, snapshot: {}}
  - {name: a, container: c, export: {format: files, path: /a, output: a}}
  - {name: b, container: c, export: {format: files, path: /b, output: b}}
  - {name: t, container: c, test: true, run: x}
  - {name: r, container: d, run: x}
  - {name: e, container: d, export: {format: files, path: /e, output: e}}
  - {name: u, container: d, test: true, run: x}
",
    );
    let of = |step: usize| {
        let step = &build.steps[step];
        (build.container(step.container).rootfs.clone(), step.needs.clone())
    };
    assert_eq!(of(3), (Rootfs::Snapshot(StepId(0)), vec![StepId(0)]));
    // Without a snapshot, one is added: after the export, because each of the two comes before or after the other.
    assert_eq!((build.steps.len(), build.steps[7].name.as_str()), (8, "d:tested"));
    assert_eq!((of(6), of(7).1), ((Rootfs::Snapshot(StepId(7)), vec![StepId(7)]), vec![StepId(5)]));
}

#[test]
fn omitted_keys_have_the_contracts_defaults() {
    let build = build("version: 1\ncontainers: {c: {rootfs: {scratch: true}}}\nsteps: [{name: s, snapshot: {}}]\n");
    assert_eq!((build.name.as_str(), build.source_date_epoch), ("work", Some(315_532_800)));
    let c = &build.containers[0];
    assert_eq!(c.rootfs, Rootfs::Scratch);
    assert_eq!((c.hostname.as_str(), c.read_only, c.network, c.no_new_privileges), ("c", false, Network::None, true));
    assert_eq!(c.user, User { user: Principal::Id(0), group: Some(Principal::Id(0)) });
    assert_eq!((c.cwd.as_path(), c.env.len(), c.mounts.len(), c.devices.len()), (Path::new("/"), 0, 0, 0));
    assert_eq!(c.limits, Limits { nofile: None, memory: None, millicpus: None, pids: None });
    assert_eq!(c.scratch, Scratch::Default);
    assert_eq!(c.seccomp, Seccomp::Default);
    assert!(c.xino && !c.init);
    let names: Vec<_> = c.capabilities.iter().map(ToString::to_string).collect();
    assert_eq!(
        names.join(" "),
        "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD SETFCAP SETGID SETPCAP SETUID SYS_CHROOT"
    );
    let step = &build.steps[0];
    assert_eq!((step.retries, step.always, step.timeout, step.container), (0, false, None, ContainerId(0)));
    assert_eq!(step.grace, Duration::from_secs(10));
    let Action::Snapshot(snapshot) = &step.action else { panic!() };
    assert_eq!((snapshot.mode, snapshot.compression), (SnapshotMode::Layer, Compression::Zstd));
    assert_eq!(snapshot.output, None);
}

#[test]
fn every_setting_is_in_the_build() {
    let build = build(
        r#"
version: 1
source_date_epoch: none
vars: {user: builder, n: 7, on: true}
containers:
  c:
    rootfs: {programs: [sh, /usr/bin/sh, images/debian.squashfs]}
    hostname: box.example
    read_only: true
    user: ${{ user }}:1000
    cwd: /home
    env: {A: 1, B: true, C: "1.10", D: "${{ n }} ${{on}}"}
    capabilities: {add: [CAP_NET_ADMIN, chown], drop: [KILL, CAP_MKNOD, SYS_ADMIN]}
    no_new_privileges: false
    xino: false
    init: true
    unmask: [/proc/sys, /proc/kcore, /proc/sys]
    shell: [/bin/bash, -c]
    seccomp: unconfined
    mounts:
      - {type: secret, source: token, target: /run/token, options: [mode=0400]}
      - {type: secret, env: TOKEN, target: /run/t}
      - {type: cache, id: shared, sharing: locked, target: /cache}
      - {type: proc, target: /p, options: [hidepid=2]}
      - {type: tmpfs, target: /t, options: [size=64m, mode=1777, nr_inodes=100, ro, rw]}
    devices: [/dev/loop0, {path: /dev/kvm, target: /dev/x, access: m, uid: 1, gid: 2}]
    limits: {nofile: 16, memory: 2GiB, cpus: 1.5, pids: 5}
    scratch: {disk: true}
  d:
    rootfs: {tar: base.tar.zst}
    user: 1000
    limits: {memory: 20000000, cpus: 2}
    scratch: {tmpfs: 1GiB}
steps:
  - name: a
    container: c
    exec: [sh, -c, 1, false]
    env: {X: y}
    cwd: /a
    user: "5"
    timeout: 10m
    grace: 0s
    retries: 3
    always: true
"#,
    );
    assert_eq!(build.source_date_epoch, None);
    let [c, d] = build.containers.as_slice() else { panic!() };
    let sh = PathBuf::from("/usr/bin/sh");
    assert_eq!(c.rootfs, Rootfs::Programs(vec![sh.clone(), sh, PathBuf::from("/work/images/debian.squashfs")]));
    assert_eq!((c.hostname.as_str(), c.read_only, c.no_new_privileges), ("box.example", true, false));
    assert_eq!(c.user, User { user: Principal::Name("builder".into()), group: Some(Principal::Id(1000)) });
    let env: Vec<_> = c.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(env, ["A=1", "B=true", "C=1.10", "D=7 true"]);
    assert_eq!(c.seccomp, Seccomp::Unconfined);
    assert!(!c.xino && c.init);
    assert_eq!(c.unmask, Unmask::Paths(["/proc/kcore", "/proc/sys"].map(PathBuf::from).to_vec()));
    assert_eq!(c.shell, Some(["/bin/bash", "-c"].map(String::from).to_vec()));
    assert!(c.capabilities.contains(&Capability::NetAdmin) && !c.capabilities.contains(&Capability::Kill));
    assert_eq!(c.capabilities.len(), 11);
    assert_eq!(c.mounts[0].kind, MountKind::Secret(Secret::File(PathBuf::from("/work/token"))));
    assert_eq!(c.mounts[1].kind, MountKind::Secret(Secret::Variable("TOKEN".into())));
    assert_eq!(c.mounts[2].kind, MountKind::Cache(CacheMount { id: "shared".into(), sharing: Sharing::Locked }));
    assert_eq!(c.mounts[3].kind, MountKind::Kernel("proc".into(), "proc".into()));
    assert_eq!((c.mounts[4].kind.clone(), c.mounts[4].is_read_only()), (MountKind::Tmpfs, false));
    assert_eq!(c.devices[0].access, Access { read: true, write: true, mknod: true });
    assert_eq!(
        (c.devices[1].target.as_path(), c.devices[1].uid, c.devices[1].gid),
        (Path::new("/dev/x"), Some(1), Some(2))
    );
    assert_eq!(c.limits, Limits { nofile: Some(16), memory: Some(2 << 30), millicpus: Some(1500), pids: Some(5) });
    assert_eq!((c.scratch, d.scratch), (Scratch::Disk, Scratch::Tmpfs(1 << 30)));
    assert_eq!((d.limits.memory, d.limits.millicpus), (Some(20_000_000), Some(2000)));
    assert_eq!(d.user, User { user: Principal::Id(1000), group: None });
    let a = &build.steps[0];
    assert_eq!(a.action, Action::Exec(vec!["sh".into(), "-c".into(), "1".into(), "false".into()]));
    assert_eq!((a.timeout, a.grace), (Some(Duration::from_secs(600)), Duration::ZERO));
    assert_eq!((a.retries, a.always), (3, true));
    assert_eq!(
        (a.cwd.as_deref(), a.user.as_ref().map(|u| u.user.clone())),
        (Some(Path::new("/a")), Some(Principal::Id(5)))
    );
}

#[test]
fn a_variable_of_the_caller_overrides_the_manifests() {
    let text =
        "version: 1\nvars: {word: x}\ncontainers: {c: {rootfs: {scratch: true}, env: {A: '${{word}}-${{ word }}'}}}\n";
    assert_eq!(build(text).containers[0].env["A"], "x-x");
    assert_eq!(build_with(text, &[("word", "${{ word }}")]).containers[0].env["A"], "${{ word }}-${{ word }}");
    let sets = BTreeMap::from([("wort".to_owned(), "y".to_owned())]);
    let problems = check(text, Path::new("/work/b"), &sets, &FakeHost::default()).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].message, "cannot set `wort`: no such variable in `vars`");
    assert_eq!(problems[0].help.as_deref(), Some("did you mean `--set word=y`?"));
}

#[test]
fn variables_are_not_looked_for_in_variables() {
    let text = "version: 1\nvars: {a: '${{ b }}'}\ncontainers: {c: {rootfs: {scratch: true}}}\n";
    build(text);
}

#[test]
fn aliases_are_replaced_by_their_anchors() {
    let text = "version: 1\ncontainers:\n  a: &a {rootfs: {scratch: true}, env: &e {K: v}}\n  b: *a\n  c: {rootfs: {dir: root}, env: *e}\n";
    let build = build(text);
    assert_eq!(build.containers[1].rootfs, Rootfs::Scratch);
    assert_eq!(build.containers[2].env["K"], "v");
}

#[test]
fn only_the_steps_that_could_be_first_wait_for_the_snapshot_below() {
    let build = build(
        "version: 1
containers: {a: {rootfs: {scratch: true}}, b: {rootfs: {snapshot: s}}}
steps:
  - {name: s, container: a, snapshot: {}}
  - {name: one, container: b, run: x}
  - {name: two, container: b, run: x}
  - {name: free, container: b, run: x, needs: []}
  - {name: other, container: a, run: x}
  - {name: mixed, container: b, run: x, needs: [other]}
  - {name: after, container: b, run: x, needs: [two, two, free]}
",
    );
    let needs: Vec<Vec<usize>> =
        build.steps.iter().map(|step| step.needs.iter().map(|need| need.0).collect()).collect();
    assert_eq!(needs, [vec![], vec![0], vec![1], vec![0], vec![0], vec![0, 4], vec![2, 3]]);
}

#[test]
fn unused_mounts_devices_and_variables_are_fine() {
    build(
        "version: 1\nvars: {v: x}\nmounts: {m: {type: tmpfs, target: /m}}\ndevices: {d: {path: /dev/kvm}}\n\
         containers: {c: {rootfs: {scratch: true}}}\n",
    );
}

#[test]
fn a_manifest_is_loaded_from_its_file_and_its_directory_gives_the_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("build.yaml");
    let text = "\u{feff}version: 1\ncontainers: {c: {rootfs: {dir: .}}}\n";
    std::fs::write(&path, text).unwrap();
    let build = load(&path, &BTreeMap::new(), &runner::host::ThisHost).unwrap().build;
    assert_eq!(Some(build.name.as_str()), directory.path().file_name().and_then(|name| name.to_str()));
    assert_eq!(build.containers[0].rootfs, Rootfs::Dir(directory.path().to_owned()));

    std::fs::write(&path, "\u{feff}versoin: 1\n").unwrap();
    let error = load(&path, &BTreeMap::new(), &runner::host::ThisHost).unwrap_err();
    assert!(error.render(Default::default()).contains(":1:1]\n 1 │ versoin: 1"), "{error:?}");
}

#[test]
fn an_unreadable_manifest_is_reported_with_the_fix() {
    let host = FakeHost::default();
    let missing = load(Path::new("/no/such/build.yaml"), &BTreeMap::new(), &host).unwrap_err();
    assert!(matches!(missing, LoadError::Read { .. }));
    assert_eq!(
        missing.render(Default::default()),
        "error: cannot read the manifest /no/such/build.yaml: No such file or directory (os error 2)\n  \
         help: name the manifest, as in `runner apply path/to/build.yaml`\n"
    );
    assert!(matches!(load(Path::new("/"), &BTreeMap::new(), &host), Err(LoadError::Read { .. })));
}

#[test]
fn a_seccomp_profile_is_read_when_the_manifest_is_checked() {
    let build = build(
        "version: 1
containers:
  a: {rootfs: {scratch: true}, seccomp: default}
  b: {rootfs: {scratch: true}, seccomp: seccomp.json}
  c: {rootfs: {scratch: true}, seccomp: ./seccomp.json}
steps: []
",
    );
    let [a, b, c] = &build.containers[..] else { panic!() };
    assert_eq!(a.seccomp, Seccomp::Default);
    let Seccomp::Profile(profile, _) = &b.seccomp else { panic!("{:?}", b.seccomp) };
    assert_eq!(**profile, Profile::parse(br#"{"defaultAction": "SCMP_ACT_ALLOW"}"#).unwrap());
    assert_eq!(b.seccomp, c.seccomp);
}

#[test]
fn missing_secrets_are_no_mistakes_of_the_manifest_and_have_places() {
    let text = "version: 1
mounts:
  near: {type: secret, target: /a, source: tokn}
  set: {type: secret, target: /b, env: TOKEN}
containers:
  c:
    rootfs: {scratch: true}
    mounts: [near, set, {type: secret, target: /c, env: TOKN}, {type: secret, target: /d, source: /secret/key}]
steps: []
";
    let build = build_with(text, &[]);
    let problems: Vec<Problem> = build.absent_secrets.iter().map(|absent| absent.problem.clone()).collect();
    let shown = render(&problems, "build.yaml", text, Style::default());
    for words in [
        "× the secret file `/work/tokn` does not exist\n   ╭─[build.yaml:3:44]",
        "help: did you mean `/work/token`?",
        "× the variable `TOKN` of the secret is not set\n   ╭─[build.yaml:8:57]",
        "help: did you mean `TOKEN`, which is set? Otherwise run `export TOKN=…` first; sudo passes",
        "cannot look at the secret file `/secret/key`: permission denied",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert_eq!(problems.len(), 3, "{shown}");
}

#[test]
fn a_list_of_layers_keeps_its_order_and_a_list_of_one_is_the_same_as_a_path() {
    let rootfs = |written: &str| {
        let text = format!("version: 1\ncontainers: {{c: {{rootfs: {{squashfs: {written}}}}}}}\n");
        build(&text).containers[0].rootfs.clone()
    };
    let layers = Rootfs::Squashfs(vec!["/work/images/debian.squashfs".into(), "/work/base.squashfs".into()]);
    assert_eq!(rootfs("[images/debian.squashfs, base.squashfs]"), layers);
    assert_eq!(rootfs("[base.squashfs]"), rootfs("base.squashfs"));
    let digest = format!("sha256:{}", "1".repeat(64));
    let Rootfs::Squashfs(files) = rootfs(&format!("[base.squashfs], digest: \"{digest}\"")) else { panic!() };
    assert_eq!(files, [FileSource { path: "/work/base.squashfs".into(), digest: Some(digest.parse().unwrap()) }]);
}

#[test]
fn a_debian_root_becomes_a_container_and_two_steps_and_the_only_container_needs_no_name() {
    let text = "version: 1
containers: { c: { rootfs: { debian: { suite: bookworm, include: [hello, vim], mirror: 'http://mirror.example/debian' } } } }
steps: [{ name: s, run: ':' }]
";
    let host = FakeHost::with_debian();
    let build = check(text, Path::new("/work/build.yaml"), &BTreeMap::new(), &host).unwrap();
    let names: Vec<&str> = build.containers.iter().map(|container| container.name.as_str()).collect();
    assert_eq!(names, ["c", "c.debian"]);
    let steps: Vec<(&str, usize, &[StepId])> =
        build.steps.iter().map(|step| (step.name.as_str(), step.container.0, step.needs.as_slice())).collect();
    assert_eq!(steps, [("s", 0, &[StepId(2)][..]), ("c.debian", 1, &[]), ("c.root", 1, &[StepId(1)])]);
    let Action::Exec(command) = &build.steps[1].action else { panic!("{:?}", build.steps[1].action) };
    assert_eq!(command[0], "/mmdebstrap");
    for word in ["--variant=minbase", "--include=hello,vim", "--keyring=/keyring.gpg"] {
        assert!(command.iter().any(|argument| argument == word), "{command:?}");
    }
    assert_eq!(command[command.len() - 3..], ["bookworm", "/debian", "http://mirror.example/debian"]);
    // Its steps write nowhere on the host.
    assert!(!build.containers[1].may_write_to_host());
}
