//! Tests the key of a build that uses every feature, to the letter, and that each field changes the key.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{FORMAT, HostInputs, KeyFields, Link, Parents, Reason, StepInputs, fields, reasons};
use crate::digest::Digest;
use crate::model::{
    Access, Action, Build, CacheMount, Capability, Compression, Container, ContainerId, Copy, CopySource, Device,
    Limits, Mount, MountKind, Network, Principal, Rootfs, Scratch, Seccomp, Secret, Sharing, Snapshot, SnapshotMode,
    StepId, Unmask, User,
};
use crate::plan::fixture::build;
use crate::plan::{Plan, Segments};
use crate::seccomp::Profile;

fn mount(kind: MountKind, target: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(ToString::to_string).collect();
    Mount { kind, target: target.into(), options, ignored: target == "/ignored" }
}

fn rich() -> Build {
    let mut build = build(&[("a", 0, &[]), ("b", 0, &[0]), ("c", 0, &[0, 1]), ("s", 0, &[2])]);
    build.source_date_epoch = Some(315_532_800);
    let container = &mut build.containers[0];
    container.hostname = "host".into();
    container.network = Network::Host;
    container.user = User { user: Principal::Id(1000), group: Some(Principal::Name("staff".into())) };
    container.cwd = "/work dir".into();
    container.env = [("A", "1"), ("EMPTY", ""), ("LINES", "one\ntwo")].map(|(k, v)| (k.into(), v.into())).into();
    container.capabilities = vec![Capability::Chown, Capability::SysPtrace];
    container.no_new_privileges = false;
    container.xino = false;
    container.mounts = vec![
        mount(MountKind::Bind("/work/src".into()), "/src", &["ro", "nodev"]),
        mount(MountKind::Bind("/work/out".into()), "/ignored", &[]),
        mount(MountKind::Tmpfs, "/tmp", &["size=1m"]),
        mount(MountKind::Cache(CacheMount::shared("apt")), "/var/cache", &[]),
        mount(MountKind::Secret(Secret::File("/work/key".into())), "/run/key", &["mode=0400"]),
        mount(MountKind::Secret(Secret::Variable("TOKEN".into())), "/run/token", &[]),
        mount(MountKind::Kernel("proc".into(), "none".into()), "/inner/proc", &["ro"]),
    ];
    container.devices = vec![Device {
        path: "/dev/kvm".into(),
        target: "/dev/kvm0".into(),
        access: Access { read: true, write: true, mknod: false },
        mode: Some(0o660),
        uid: Some(0),
        gid: Some(108),
    }];
    container.limits = Limits { nofile: Some(1024), memory: Some(1 << 30), millicpus: Some(1500), pids: Some(100) };
    build.steps[0].action = Action::Run("make \"it\"\n".into());
    build.steps[0].env = [("B".to_owned(), "=".to_owned())].into();
    build.steps[1].action = Action::Exec(vec!["a b".into(), "c".into()]);
    build.steps[1].cwd = Some("/".into());
    build.steps[1].user = Some(User { user: Principal::Name("www".into()), group: None });
    let (mode, compression) = (SnapshotMode::Layer, Compression::Zstd);
    build.steps[3].action =
        Action::Snapshot(Snapshot { mode, output: None, compression, level: Some(3), subtree: None });
    build
}

fn inputs() -> HostInputs {
    HostInputs {
        contents: [("/src".into(), Digest::of_bytes(b"source"))].into(),
        nodes: [("/dev/kvm0".into(), "c 10:232 0660 0:108".into())].into(),
        mounted: [].into(),
        copied: [].into(),
        lacks_user_attributes: false,
        of_steps: Default::default(),
        runtime: "embedded".into(),
        writer: "squashfs 1 zstd 1.5.7".into(),
        export_writers: std::collections::BTreeMap::new(),
    }
}

fn of(build: &Build, inputs: &HostInputs) -> KeyFields {
    let segments = Segments::new(build, &Plan::new(build, &[]));
    let link = |id: &str| Link { name: "x".into(), id: id.into() };
    let below: Parents = [link("squashfs sha256:00"), link("layer sha256:11")].into_iter().collect();
    fields(build, segments.get(0), inputs).with_base(&below)
}

const FIELDS: &str = r#"below = "sha256:4e3e3bee5ba46070cbc94781b0621dcb3c1f000857ff83652347f75d84330f17"
capabilities = "CHOWN SYS_PTRACE"
content//src = "sha256:41cf6794ba4200b839c53531555f0f3998df4cbb01a4d5cb0b94e3ca5e23947d"
cwd = "/work dir"
device//dev/kvm0 = "/dev/kvm rw uid=0 gid=108 mode=0660"
env/A = "1"
env/EMPTY = ""
env/LINES = "one\ntwo"
format = "6"
hostname = "host"
limits/memory = "1073741824"
limits/millicpus = "1500"
limits/nofile = "1024"
limits/pids = "100"
mount//ignored = "bind ignored "
mount//inner/proc = "proc \"none\" \"ro\""
mount//run/key = "secret \"mode=0400\""
mount//run/token = "secret \"TOKEN\" "
mount//src = "bind \"ro\" \"nodev\""
mount//tmp = "tmpfs \"size=1m\""
mount//var/cache = "cache \"apt\" "
network = "host"
no_new_privileges = "false"
node//dev/kvm0 = "c 10:232 0660 0:108"
read_only = "false"
runtime = "embedded"
seccomp = "default sha256:bfdab6255e16c9444368185ea28c0a6fedbf06f1c63e8fb381c7249d25d7e69b"
snapshot = "layer zstd 3"
source_date_epoch = "315532800"
step/00000/env/B = "="
step/00000/run = "make \"it\"\n"
step/00001/cwd = "/"
step/00001/exec = "\"a b\" \"c\""
step/00001/user = "www"
step/00002/after = "0 1"
step/00002/run = "true"
user = "1000:staff"
writer = "squashfs 1 zstd 1.5.7"
xino = "false"
"#;

const KEY: &str = "sha256:4903a018615375303491c2bc78938ab6159d9849d2b78fb0b29d5c46a3997936";

#[test]
fn the_fields_and_the_key_of_a_build_are_unchanged() {
    let fields = of(&rich(), &inputs());
    let text: String = fields.iter().map(|(name, value)| format!("{name} = {value:?}\n")).collect();
    let wrong = "the key has changed: if that is meant, raise FORMAT and adapt this test, else fix the key";
    assert_eq!(text, FIELDS, "{wrong}");
    assert_eq!(fields.key().to_string(), KEY, "{wrong}");
    assert_eq!(FORMAT, "6", "{wrong}");
}

fn profile(default: &str) -> Seccomp {
    let text = format!(r#"{{"defaultAction": "{default}"}}"#);
    Seccomp::Profile(Arc::new(Profile::parse(text.as_bytes()).unwrap()), "profile.json".into())
}

type Change = fn(&mut Build, &mut HostInputs);

/// The changes of a build that change its key, one difference each.
fn changes() -> Vec<(&'static str, Change)> {
    vec![
        ("epoch", |b, _| b.source_date_epoch = None),
        ("hostname", |b, _| b.containers[0].hostname.push('x')),
        ("network", |b, _| b.containers[0].network = Network::None),
        ("user", |b, _| b.containers[0].user.user = Principal::Id(0)),
        ("group", |b, _| b.containers[0].user.group = None),
        ("cwd", |b, _| b.containers[0].cwd = "/".into()),
        ("env", |b, _| drop(b.containers[0].env.insert("A".into(), "2".into()))),
        ("env name", |b, _| drop(b.containers[0].env.insert("A2".into(), "1".into()))),
        ("no env", |b, _| drop(b.containers[0].env.remove("EMPTY"))),
        ("capabilities", |b, _| b.containers[0].capabilities.truncate(1)),
        ("privileges", |b, _| b.containers[0].no_new_privileges = true),
        ("user attributes", |b, i| (b.containers[0].scratch, i.lacks_user_attributes) = (Scratch::Default, true)),
        ("unmask all", |b, _| b.containers[0].unmask = Unmask::All),
        ("unmask", |b, _| b.containers[0].unmask = Unmask::Paths(vec!["/proc/kcore".into()])),
        ("shell", |b, _| b.containers[0].shell = Some(vec!["/bin/bash".into(), "-c".into()])),
        ("shell of a step", |b, _| b.steps[0].shell = Some(vec!["/bin/bash".into()])),
        ("file numbers", |b, _| b.containers[0].xino = true),
        ("first process", |b, _| b.containers[0].init = true),
        ("seccomp", |b, _| b.containers[0].seccomp = Seccomp::Unconfined),
        ("profile", |b, _| b.containers[0].seccomp = profile("SCMP_ACT_ALLOW")),
        ("another profile", |b, _| b.containers[0].seccomp = profile("SCMP_ACT_LOG")),
        ("read-only", |b, _| b.containers[0].read_only = true),
        ("nofile", |b, _| b.containers[0].limits.nofile = Some(1025)),
        ("memory", |b, _| b.containers[0].limits.memory = None),
        ("cpus", |b, _| b.containers[0].limits.millicpus = Some(1501)),
        ("pids", |b, _| b.containers[0].limits.pids = Some(101)),
        ("mount target", |b, _| b.containers[0].mounts[2].target = "/tmp2".into()),
        ("mount options", |b, _| b.containers[0].mounts[2].options.push("nodev".into())),
        ("one option", |b, _| b.containers[0].mounts[0].options = vec!["ro nodev".into()]),
        ("mount type", |b, _| b.containers[0].mounts[3].kind = MountKind::Tmpfs),
        ("cache id", |b, _| b.containers[0].mounts[3].kind = MountKind::Cache(CacheMount::shared("apt2"))),
        ("secret", |b, _| b.containers[0].mounts[5].kind = MountKind::Secret(Secret::Variable("T".into()))),
        ("snapshot", |b, _| {
            b.containers[0].mounts[6].kind = MountKind::Snapshot { step: StepId(0), path: "/usr".into() };
        }),
        ("content of a snapshot", |_, i| drop(i.mounted.insert("/src".into(), "layers sha256:00".into()))),
        ("kernel", |b, _| b.containers[0].mounts[6].kind = MountKind::Kernel("sysfs".into(), "none".into())),
        ("ignored", |b, _| b.containers[0].mounts[0].ignored = true),
        ("no mount", |b, _| drop(b.containers[0].mounts.pop())),
        ("device", |b, _| b.containers[0].devices[0].path = "/dev/null".into()),
        ("device target", |b, _| b.containers[0].devices[0].target = "/dev/kvm1".into()),
        ("device access", |b, _| b.containers[0].devices[0].access.mknod = true),
        ("device mode", |b, _| b.containers[0].devices[0].mode = Some(0o600)),
        ("device owner", |b, _| b.containers[0].devices[0].uid = None),
        ("script", |b, _| b.steps[0].action = Action::Run("make".into())),
        ("argv", |b, _| b.steps[1].action = Action::Exec(vec!["a".into(), "b".into(), "c".into()])),
        ("action", |b, _| b.steps[1].action = Action::Run("\"a b\" \"c\"".into())),
        ("step env", |b, _| b.steps[0].env.clear()),
        ("step cwd", |b, _| b.steps[1].cwd = None),
        ("step user", |b, _| b.steps[1].user = None),
        ("needs", |b, _| b.steps[2].needs = vec![StepId(1)]),
        ("order", |b, _| {
            let action = b.steps[2].action.clone();
            b.steps[2].action = std::mem::replace(&mut b.steps[1].action, action);
        }),
        ("mode", |b, _| set(b, |snapshot| snapshot.mode = SnapshotMode::Full)),
        ("compression", |b, _| set(b, |snapshot| snapshot.compression = Compression::Gzip)),
        ("level", |b, _| set(b, |snapshot| snapshot.level = None)),
        ("content", |_, i| i.contents = [("/src".into(), Digest::of_bytes(b"other"))].into()),
        ("node", |_, i| drop(i.nodes.insert("/dev/kvm0".into(), "c 10:233 0660 0:108".into()))),
        ("runtime", |_, i| i.runtime = "runc 1.1.5".into()),
        ("writer", |_, i| i.writer = "squashfs 1 zstd 1.5.6".into()),
    ]
}

/// The changes that do not.
fn no_changes() -> Vec<Change> {
    vec![
        |b, _| b.name.push('x'),
        |b, _| (b.manifest, b.directory) = ("/else/b.yaml".into(), "/else".into()),
        |b, _| b.containers[0].name.push('x'),
        |b, _| b.containers[0].scratch = Scratch::Tmpfs(1),
        |b, _| b.containers[0].rootfs = Rootfs::Squashfs(vec!["/else".into()]),
        |b, _| b.containers[0].mounts[0].kind = MountKind::Bind("/else".into()),
        |b, _| b.containers[0].mounts[4].kind = MountKind::Secret(Secret::File("/else".into())),
        |b, _| {
            if let MountKind::Cache(cache) = &mut b.containers[0].mounts[3].kind {
                cache.sharing = Sharing::Locked;
            }
        },
        |b, _| b.steps[0].name.push('x'),
        |b, _| b.steps[0].timeout = Some(Duration::from_secs(1)),
        |b, _| b.steps[0].grace = Duration::from_secs(1),
        |b, _| b.steps[0].retries = 3,
        |b, _| (b.steps[0].always, b.steps[0].cache) = (true, true),
        |b, _| set(b, |snapshot| snapshot.output = Some("/else".into())),
        // The last one, because the others use the positions of the mounts.
        |b, _| b.containers[0].mounts.reverse(),
    ]
}

fn set(build: &mut Build, change: impl FnOnce(&mut Snapshot)) {
    if let Action::Snapshot(snapshot) = &mut build.steps[3].action {
        change(snapshot);
    }
}

#[test]
fn each_change_alone_changes_the_key_and_gives_a_reason() {
    let (old, mut keys) = (of(&rich(), &inputs()), std::collections::HashMap::new());
    keys.insert(old.key(), "none");
    for (name, change) in changes() {
        let (mut build, mut inputs) = (rich(), inputs());
        change(&mut build, &mut inputs);
        let new = of(&build, &inputs);
        assert_eq!(keys.insert(new.key(), name), None, "{name}");
        assert!(!reasons(&old, &new, None, &["a", "b", "c", "s"]).is_empty(), "{name}");
    }
}

#[test]
fn the_settings_that_a_step_has_for_itself_are_fields_of_that_step_alone() {
    let (plain, mut build) = (rich(), rich());
    let mut own = Container { variant_of: Some(ContainerId(0)), ..build.containers[0].clone() };
    own.network = Network::None;
    own.capabilities = vec![Capability::Chown];
    own.mounts.push(mount(MountKind::Bind("/work/own".into()), "/own", &["ro"]));
    // Whichever agent it is.
    own.mounts.push(mount(MountKind::Ssh(Secret::File("/run/agent".into())), "/run/ssh-agent.sock", &[]));
    own.devices.push(Device { target: "/dev/own".into(), ..own.devices[0].clone() });
    build.containers.push(own);
    build.steps[1].settings = Some(ContainerId(1));
    let of_step = StepInputs {
        contents: [("/own".into(), Digest::of_bytes(b"own"))].into(),
        mounted: [].into(),
        nodes: [("/dev/own".into(), "c 10:232".into())].into(),
    };
    let with = of(&build, &HostInputs { of_steps: [(StepId(1), of_step)].into(), ..inputs() });
    let plain = of(&plain, &inputs());
    let added: Vec<String> = with
        .iter()
        .filter(|(name, value)| plain.get(name) != Some(*value))
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    let own = Digest::of_bytes(b"own");
    assert_eq!(
        added,
        [
            "step/00001/capabilities = CHOWN".to_owned(),
            format!("step/00001/content//own = {own}"),
            "step/00001/device//dev/own = /dev/kvm rw uid=0 gid=108 mode=0660".to_owned(),
            "step/00001/mount//own = bind \"ro\"".to_owned(),
            "step/00001/mount//run/ssh-agent.sock = ssh ".to_owned(),
            "step/00001/network = none".to_owned(),
            "step/00001/node//dev/own = c 10:232".to_owned(),
        ]
    );
    assert_eq!(plain.iter().count() + added.len(), with.iter().count());
}

proptest! {
    #[test]
    fn changes_outside_of_the_key_do_not_change_it(
        counts in prop::collection::btree_set(0..changes().len(), 0..6),
        nothing in prop::collection::btree_set(0..no_changes().len(), 0..6),
    ) {
        let fields_of = |other: bool| {
            let (mut build, mut inputs) = (rich(), inputs());
            for n in &counts {
                changes()[*n].1(&mut build, &mut inputs);
            }
            for n in nothing.iter().filter(|_| other) {
                // Another change may have removed a mount.
                if build.containers[0].mounts.len() == 7 {
                    no_changes()[*n](&mut build, &mut inputs);
                }
            }
            of(&build, &inputs)
        };
        prop_assert_eq!(fields_of(false).key(), fields_of(true).key());
    }

    #[test]
    fn different_fields_have_different_keys_wherever_names_end(
        one in prop::collection::btree_map("[ab=/]{0,3}", "[ab=/]{0,3}", 0..4),
        two in prop::collection::btree_map("[ab=/]{0,3}", "[ab=/]{0,3}", 0..4),
    ) {
        let fields = |map| serde_json::from_value::<KeyFields>(serde_json::json!(map)).unwrap();
        prop_assert_eq!(fields(&one).key() == fields(&two).key(), one == two);
    }
}

#[test]
fn a_copy_is_in_the_key_with_its_sources_and_without_the_names_of_steps_and_host_directories() {
    let copy = |from, sources: &[&str], into| Copy {
        from,
        sources: sources.iter().map(Into::into).collect(),
        target: "/opt".into(),
        into,
        owner: Some(User { user: Principal::Name("www".into()), group: None }),
        mode: Some(0o644),
    };
    let mut build = build(&[("a", 0, &[]), ("b", 0, &[0]), ("c", 0, &[1])]);
    build.steps[1].action = Action::Copy(copy(CopySource::Snapshot(StepId(0)), &["/usr/bin/a b", "/usr/lib"], true));
    build.steps[2].action = Action::Copy(copy(CopySource::Host, &["/work/conf"], false));
    let with = |build: &Build, content: &str| {
        let content = |n: usize| ((1, n), format!("{content} {n}"));
        of(build, &HostInputs { copied: [content(0), content(1)].into(), ..inputs() })
    };
    let fields = with(&build, "sha256:00");
    let own = |fields: &KeyFields| {
        let own = fields.iter().filter(|(name, _)| name.starts_with("step/00001/") || name.starts_with("step/00002/"));
        own.map(|(name, value)| format!("{name} = {value}\n")).collect::<String>()
    };
    assert_eq!(
        own(&fields),
        "step/00001/content/00000 = sha256:00 0\n\
         step/00001/content/00001 = sha256:00 1\n\
         step/00001/copy = snapshot \"/usr/bin/a b\" \"/usr/lib\" into \"/opt\" owner=www mode=0644\n\
         step/00002/copy = host \"\" to \"/opt\" owner=www mode=0644\n"
    );
    let text = |old, new| reasons(old, new, None, &["a", "b", "c"]).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        text(&fields, &with(&build, "sha256:11"))[..1],
        ["the content of 00000, which b copies, changed"],
        "the caller replaces the number"
    );
    let without = fields.without_sources(&[]);
    assert_eq!(own(&without).lines().count(), 2);
    if let Action::Copy(copy) = &mut build.steps[1].action {
        copy.sources.pop();
    }
    let one_less = of(&build, &HostInputs { copied: [((1, 0), "sha256:00 0".into())].into(), ..inputs() });
    assert!(
        matches!(&reasons(&fields, &one_less, None, &["a", "b", "c"])[..], [Reason::StepChanged { field, .. }] if field == "copy")
    );
}
