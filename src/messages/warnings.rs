//! Warnings.

use std::time::Duration;

use super::{compare, every, variant};
use crate::cache::OwnFile;
use crate::warning::{InputFix, MissingOrder, NoCheckpoint, NotKept, Warning};
use crate::written_through::WrittenThrough;

#[test]
fn every_warning_says_what_it_is_about_and_what_to_do() {
    let why = every! {
        NoCheckpoint::TmpfsLeft { .. } => [NoCheckpoint::TmpfsLeft { targets: vec!["/tmp".into(), "/run".into()] }],
        NoCheckpoint::InputsChanged => [NoCheckpoint::InputsChanged],
        NoCheckpoint::Network => [NoCheckpoint::Network],
        NoCheckpoint::Dear => [NoCheckpoint::Dear],
        NoCheckpoint::Failed { .. } => [NoCheckpoint::Failed { why: "cannot write the image: cannot write to its file: No space left on device (os error 28)".into() }],
    };
    let no_checkpoint = why.into_iter().map(|why| Warning::NoCheckpoint { why });
    let order = || MissingOrder {
        reader: "app".into(),
        writer: "tools".into(),
        needs: vec!["make".into(), "sign".into()],
        step: "compile".into(),
    };
    let file = || vec!["the content of /src changed: main.c (content)".to_owned()];
    let why = every! {
        NotKept::Changed { .. } => [
            NotKept::Changed { reasons: vec!["writer changed: squashfs 1 zstd 1.5.6 → squashfs 1 zstd 1.5.7".into()] },
        ],
        NotKept::ChangedBack { .. } => [NotKept::ChangedBack { inputs: vec!["/src".into(), "the rootfs of base".into()] }],
        NotKept::WillChange => [NotKept::WillChange],
        NotKept::Failed { .. } => [NotKept::Failed { why: "cannot write /srv/store/keys/aa: Input/output error".into() }],
    };
    let not_kept = |why, fix| Warning::NotKept { step: "base-layer".into(), why, fix };
    let own = |paths: &[&str]| {
        let rules = || "/work/.runnerignore".into();
        InputFix::Own(paths.iter().map(|path| OwnFile { path: path.into(), rules: rules() }).collect())
    };
    let outputs = ["/work/out/base.squashfs", "/work/out/sdk.squashfs"];
    let changed = || NotKept::Changed { reasons: file() };
    let with_fix = [
        not_kept(changed(), InputFix::Ignore),
        not_kept(changed(), InputFix::Order(Box::new(order()))),
        not_kept(changed(), own(&outputs[..1])),
        not_kept(NotKept::ChangedBack { inputs: vec!["/src".into()] }, own(&outputs)),
        not_kept(NotKept::WillChange, own(&["/work/report.html"])),
    ];
    let not_kept: Vec<Warning> = why.into_iter().map(|why| not_kept(why, InputFix::None)).chain(with_fix).collect();
    let why = || "cannot remove /srv/store/tmp/x: Device or resource busy (os error 16)".to_owned();
    let others = every! {
        Warning::Retry { .. } => [
            Warning::Retry { reason: "exit code 100".into(), attempt: 2, of: 3, stays: Vec::new(), new_network: false },
            Warning::Retry { reason: "exit code 1".into(), attempt: 2, of: 2, stays: Vec::new(), new_network: true },
            Warning::Retry {
                reason: "timed out after 2s".into(),
                attempt: 2,
                of: 2,
                stays: vec![
                    WrittenThrough { target: "/src".into(), what: "/work/src".into() },
                    WrittenThrough { target: "/var/cache/apt".into(), what: "the cache apt".into() },
                ],
                new_network: false,
            },
        ],
        Warning::StillRuns { .. } => [
            Warning::StillRuns { left: Duration::from_millis(8_999), is_interrupted: true },
            Warning::StillRuns { left: Duration::from_secs(89), is_interrupted: false },
        ],
        Warning::AclLost { .. } => [
            Warning::AclLost { files: 1, first: vec!["/etc/a".into()] },
            Warning::AclLost { files: 30, first: vec!["/etc/a".into(), "/etc/b".into()] },
        ],
        Warning::NodesLeftOut { .. } => [Warning::NodesLeftOut { files: 1, first: vec!["/dev/console".into()] }],
        Warning::SocketsLeftOut { .. } => [Warning::SocketsLeftOut { sockets: 1 }, Warning::SocketsLeftOut { sockets: 2 }],
        Warning::AttributesLost { .. } => [
            Warning::AttributesLost { files: 1, first: vec!["/usr/bin/ping".into()] },
            Warning::AttributesLost { files: 9, first: vec!["/usr/bin/ping".into(), "/x".into()] },
        ],
        Warning::RightsRemoved { .. } => [
            Warning::RightsRemoved { files: 1, first: vec!["/usr/bin/su".into()] },
            Warning::RightsRemoved { files: 9, first: vec!["/usr/bin/su".into(), "/usr/bin/mount".into()] },
        ],
        Warning::Damaged { .. } => [Warning::Damaged { digest: super::digest("x").to_string() }],
        Warning::BuiltElsewhere => [Warning::BuiltElsewhere],
        Warning::CacheInUse { .. } => [Warning::CacheInUse { id: "/var/cache/apt".into() }],
        Warning::NotChecked { .. } => [Warning::NotChecked { why: why() }],
        Warning::NotLearnt { .. } => [Warning::NotLearnt { why: why() }],
        Warning::FailedStays { .. } => [Warning::FailedStays { why: why() }],
        Warning::FailedNotKept { .. } => [Warning::FailedNotKept { why: "cannot write the image: No space left on device".into() }],
        Warning::Session { .. } => [Warning::Session { container: "base".into(), why: "cannot end the session: its root is still in use".into() }],
        Warning::LeftOver { .. } => [Warning::LeftOver { why: why() }],
        Warning::SettingsIgnored { .. } => [Warning::SettingsIgnored { path: "/work/runner.toml".into(), owner: 1001 }],
        Warning::LeftCgroup { .. } => [Warning::LeftCgroup { build: "20260102T030405-Ab12".into() }],
        Warning::LittleMemory { .. } => [Warning::LittleMemory { bytes: 16 << 20 }],
        Warning::LongRead { .. } => [Warning::LongRead { path: "/work/base.squashfs".into(), bytes: 1 << 40 }],
        Warning::AbsentSecret { .. } => [
            Warning::AbsentSecret { path: "/work/token".into(), containers: vec!["base".into(), "sdk".into()] },
        ],
        Warning::UnsetSecret { .. } => [
            Warning::UnsetSecret { variable: "TOKEN".into(), containers: vec!["base".into(), "sdk".into()] },
        ],
        Warning::NoSshAgent { .. } => [Warning::NoSshAgent { containers: vec!["base".into(), "sdk".into()] }],
        Warning::NoResolvConf { .. } => [Warning::NoResolvConf { containers: vec!["base".into(), "sdk".into()] }],
        Warning::StoreInBind { .. } => [
            Warning::StoreInBind { source: "/work".into(), store: "/work/.cache/runner".into() },
        ],
        Warning::NoOrder { .. } => [Warning::NoOrder { source: "/work/stage".into(), order: order() }],
        Warning::MirrorSkipped { .. } => [
            Warning::MirrorSkipped {
                mirror: "mirror.example.org/hub".into(),
                registry: "docker.io".into(),
                why: "cannot get https://mirror.example.org/v2/hub/library/debian/manifests/12: the connection to mirror.example.org failed: Connection reset by peer (os error 104)".into(),
            },
        ],
        Warning::BuildRefused { .. } => [
            Warning::BuildRefused { why: "cannot bind /work: it contains the store /work/.cache/runner, and …".into() },
        ],
        Warning::NoCheckpoint { .. } => [Warning::NoCheckpoint { why: NoCheckpoint::InputsChanged }],
        Warning::NotKept { .. } => [Warning::NotKept { step: "base-layer".into(), why: NotKept::Failed { why: why() }, fix: InputFix::None }],
    };
    let all = others.into_iter().chain(no_checkpoint).chain(not_kept);
    compare("warnings", all.map(|warning| format!("{}\nwarning: {warning}\n", variant(&warning))));
}
