//! The reasons why a step is not taken from the store.

use super::{compare, digest, every, variant};
use crate::cache::key::Reason;

#[test]
fn every_reason_says_what_has_changed_and_how() {
    let (old, new) = (|| Some("make".to_owned()), || Some("make\n-j 4".to_owned()));
    let src = || "/src".to_owned();
    let reasons = every! {
        Reason::NeverBuilt => [Reason::NeverBuilt],
        Reason::StoreUnreadable { .. } => [
            Reason::StoreUnreadable { why: "cannot read /var/cache/runner/format: Permission denied (os error 13)".into() },
        ],
        Reason::StepChanged { .. } => [
            Reason::StepChanged { step: "compile".into(), field: "run".into(), old: old(), new: new() },
            Reason::StepChanged { step: "compile".into(), field: "env/CC".into(), old: None, new: Some("gcc".into()) },
        ],
        Reason::SettingChanged { .. } => [Reason::SettingChanged { field: "network".into(), old: Some("none".into()), new: Some("host".into()) }],
        Reason::InputChanged { .. } => [
            Reason::InputChanged { target: src(), files: vec!["main.c (content)".into()], more: 4 },
            Reason::InputChanged { target: src(), files: Vec::new(), more: 0 },
        ],
        Reason::BelowChanged { .. } => [Reason::BelowChanged { what: "base-layer".into() }],
        Reason::BelowIsBuilt { .. } => [Reason::BelowIsBuilt { step: "base-layer".into() }],
        Reason::Collected => [Reason::Collected],
        Reason::Damaged { .. } => [Reason::Damaged { digest: digest("x").to_string() }],
        Reason::ToolChanged { .. } => [Reason::ToolChanged { tool: "writer".into(), old: "squashfs 1 zstd 1.5.6".into(), new: "squashfs 1 zstd 1.5.7".into() }],
        Reason::WritableBind { .. } => [Reason::WritableBind { target: src() }],
        Reason::UnknownInput { .. } => [Reason::UnknownInput { target: src() }],
        Reason::Always { .. } => [Reason::Always { step: "fetch".into() }],
        Reason::NotKept => [Reason::NotKept],
        Reason::TmpfsNeeded { .. } => [Reason::TmpfsNeeded { targets: vec!["/tmp".into(), "/run".into()] }],
        Reason::InputUnsettled { .. } => [Reason::InputUnsettled { steps: vec!["pack".into(), "sign".into()] }],
        Reason::InputMayChange { .. } => [
            Reason::InputMayChange { steps: vec!["pack".into()], target: src() },
            Reason::InputMayChange { steps: vec!["pack".into(), "sign".into()], target: "the rootfs of base".into() },
        ],
        Reason::InputMayBeRestored { .. } => [
            Reason::InputMayBeRestored {
                steps: vec!["image".into()],
                target: "/in".into(),
                files: vec!["image.squashfs (removed)".into()],
                more: 0,
            },
            Reason::InputMayBeRestored { steps: vec!["a".into(), "b".into()], target: "/in".into(), files: vec![], more: 0 },
        ],
        Reason::BelowMayChange { .. } => [Reason::BelowMayChange { step: "base-layer".into() }],
        Reason::CopyChanged { .. } => [
            Reason::CopyChanged { step: "files".into(), source: "sdk:/usr/bin".into(), files: vec!["cc (content)".into()], more: 2 },
            Reason::CopyChanged { step: "files".into(), source: "src/conf".into(), files: Vec::new(), more: 0 },
        ],
        Reason::SourceMayChange { .. } => [Reason::SourceMayChange { step: "sdk".into() }],
        Reason::NoCache => [Reason::NoCache],
    };
    compare("reasons", reasons.iter().map(|reason| format!("{}\n{reason}\n", variant(reason))));
}
