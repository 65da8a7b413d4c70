//! Docker's JSON: the accepted documents, the refused ones with their places, and that the parser never panics.

use oci_spec::runtime::Capability;
use proptest::prelude::*;

use super::KERNEL;
use crate::seccomp::{Action, Architecture, Profile, compile, number, status};

const WHOLE: &str = r#"{
  "defaultAction": "SCMP_ACT_ERRNO",
  "defaultErrnoRet": 1,
  "archMap": [
    { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] },
    { "architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null }
  ],
  "syscalls": [
    { "names": ["read", "openat2", "call_of_the_future"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}, "excludes": {} },
    { "name": "write", "action": "SCMP_ACT_LOG", "args": null },
    { "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 },
    { "names": ["socket"], "action": "SCMP_ACT_ALLOW",
      "args": [{ "index": 0, "value": 40, "valueTwo": 0, "op": "SCMP_CMP_NE" }, { "index": 1, "value": 15, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ" }] },
    { "names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_BPF"], "arches": ["amd64"], "minKernel": "5.8" } },
    { "names": ["kcmp"], "action": "SCMP_ACT_ALLOW", "excludes": { "caps": ["CAP_BPF"] } }
  ]
}"#;

fn answer(profile: &Profile, capabilities: &[Capability], name: &str, arguments: [u64; 2]) -> Action {
    let filter = profile.resolve(capabilities, Architecture::X86_64, KERNEL).unwrap();
    let number = number(Architecture::X86_64, name).unwrap();
    let arguments = [arguments[0], arguments[1], 0, 0, 0, 0];
    status(&compile(&filter).unwrap(), Architecture::X86_64, number, &arguments)
}

#[test]
fn a_profile_has_the_rules_of_its_json() {
    let profile = Profile::parse(WHOLE.as_bytes()).unwrap();
    assert_eq!(Profile::parse(format!("\u{feff}{WHOLE}").as_bytes()).unwrap(), profile, "as some editors begin a file");
    let plain = |name| answer(&profile, &[], name, [0, 0]);
    assert_eq!((plain("read"), plain("write"), plain("mkdir")), (Action::Allow, Action::Log, Action::Errno(13)));
    assert_eq!((plain("close"), plain("bpf"), plain("kcmp")), (Action::Errno(1), Action::Errno(1), Action::Allow));
    let socket = |arguments| answer(&profile, &[], "socket", arguments);
    assert_eq!(socket([1, 1]), Action::Allow);
    assert_eq!((socket([40, 1]), socket([1, 2])), (Action::Errno(1), Action::Errno(1)));
    let with = |name| answer(&profile, &[Capability::Bpf], name, [0, 0]);
    assert_eq!((with("bpf"), with("kcmp")), (Action::Allow, Action::Errno(1)));
}

#[test]
fn the_digest_is_that_of_a_profiles_rules_and_not_of_its_text() {
    let digest = |text: &str| Profile::parse(text.as_bytes()).unwrap().digest();
    let without_spaces: serde_json::Value = serde_json::from_str(WHOLE).unwrap();
    assert_eq!(digest(WHOLE), digest(&without_spaces.to_string()));
    assert_eq!(digest(WHOLE), digest(&WHOLE.replace("\"comment\": \"\"", "\"comment\": \"of mine\"")));
    for (from, to) in [
        ("SCMP_ACT_LOG", "SCMP_ACT_TRAP"),
        ("\"value\": 40", "\"value\": 41"),
        ("errnoRet\": 13", "errnoRet\": 14"),
        ("5.8", "5.9"),
        ("SCMP_CMP_NE", "SCMP_CMP_EQ"),
        ("\"read\", ", "\"close\", "),
        (", \"SCMP_ARCH_X32\"", ""),
    ] {
        assert_ne!(digest(WHOLE), digest(&WHOLE.replace(from, to)), "{from}");
    }
}

#[test]
fn listed_architectures_are_added_to_the_machines_own() {
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X32", "SCMP_ARCH_S390"]}"#;
    let filter = Profile::parse(text.as_bytes()).unwrap().resolve(&[], Architecture::X86_64, KERNEL).unwrap();
    let json = serde_json::to_value(&filter).unwrap();
    assert_eq!(json["architectures"], serde_json::json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X32", "SCMP_ARCH_S390"]));
    let program = compile(&filter).unwrap();
    assert_eq!(status(&program, Architecture::X86, 1, &[0; 6]), Action::KillProcess);
}

#[test]
fn podmans_fields_have_podmans_meaning() {
    let text = r#"{
      "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "defaultErrno": "ENOSYS", "flags": [], "listenerPath": "",
      "architectures": ["SCMP_ARCH_NATIVE", "SCMP_ARCH_X86"],
      "syscalls": [
        { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "comment": "", "includes": {}, "excludes": {}, "errno": "" },
        { "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "errno": "EPERM" },
        { "names": ["rmdir"], "action": "SCMP_ACT_ERRNO", "errno": "EACCES" }
      ]
    }"#;
    let profile = Profile::parse(text.as_bytes()).unwrap();
    let answers = ["read", "mkdir", "rmdir", "write"].map(|name| answer(&profile, &[], name, [0, 0]));
    assert_eq!(answers, [Action::Allow, Action::Errno(1), Action::Errno(13), Action::Errno(38)]);
    let filter = profile.resolve(&[], Architecture::X86_64, KERNEL).unwrap();
    let json = serde_json::to_value(&filter).unwrap();
    assert_eq!(json["architectures"], serde_json::json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]));
}

#[test]
fn mistakes_are_refused_with_their_place() {
    let calls = |calls: &str| format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{calls}]}}"#);
    let with = |rest: &str| calls(&format!(r#"{{"names": ["read"], "action": "SCMP_ACT_ERRNO", {rest}}}"#));
    let refused = [
        ("".to_owned(), "EOF while parsing a value at line 1 column 0"),
        ("hello".to_owned(), "expected value at line 1 column 1"),
        ("{".to_owned(), "EOF while parsing an object at line 1 column 1"),
        ("{x".to_owned(), "key must be a string at line 1 column 2"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], x"#.to_owned(),
            "syscalls[0]: key must be a string at line 1 column 70",
        ),
        (calls("{,"), "syscalls[0]: key must be a string at line 1 column 51"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW", "#.to_owned(), "EOF while parsing a value at line 1 column 36"),
        ("[]".to_owned(), "invalid type: sequence, expected a map at line 1 column 0"),
        ("{}".to_owned(), "missing field `defaultAction` at line 1 column 2"),
        (r#"{"defaultAction": "SCMP_ACT_ALLOW"} {}"#.to_owned(), "trailing characters at line 1 column 37"),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "other": []}"#.to_owned(),
            "other: unknown field `other`, expected one of `defaultAction`, `defaultErrnoRet`, `defaultErrno`, `archMap`, \
             `architectures`, `syscalls`, `flags`, `listenerPath`, `listenerMetadata` at line 1 column 43",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]}"#.to_owned(),
            "flags[1]: runner loads filters without SECCOMP_FILTER_FLAG_LOG; leave it out",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["LOG"]}"#.to_owned(),
            "flags[0]: `LOG` is not a flag of seccomp(2)",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent"}"#.to_owned(),
            "listenerPath: it is for SCMP_ACT_NOTIFY, which runner has no program for; leave it out",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrno": "ENOSUCH"}"#.to_owned(),
            "defaultErrno: `ENOSUCH` is not the name of an error; see errno(3)",
        ),
        (
            with(r#""errno": "EPERM", "errnoRet": 38"#),
            "syscalls[0].errno: `EPERM` is 1, and errnoRet is 38; keep one of them",
        ),
        (
            calls(r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "errno": "EPERM"}"#),
            "syscalls[0].errnoRet: only SCMP_ACT_ERRNO and SCMP_ACT_TRACE have one; leave it out",
        ),
        (
            calls(r#"{"names": ["read"], "action": "SCMP_ACT_ALOW"}"#),
            "syscalls[0].action: unknown variant `SCMP_ACT_ALOW`, expected one of `SCMP_ACT_KILL`, \
             `SCMP_ACT_KILL_THREAD`, `SCMP_ACT_KILL_PROCESS`, `SCMP_ACT_TRAP`, `SCMP_ACT_ERRNO`, `SCMP_ACT_NOTIFY`, \
             `SCMP_ACT_TRACE`, `SCMP_ACT_LOG`, `SCMP_ACT_ALLOW` at line 1 column 94",
        ),
        (
            calls(r#"{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}"#),
            "syscalls[0].action: SCMP_ACT_NOTIFY needs a program that answers, and runner has none",
        ),
        (
            calls(r#"[["read"], null, "SCMP_ACT_ALLOW", null, null, null, null, null]"#),
            "syscalls[0]: invalid type: sequence, expected a map at line 1 column 49",
        ),
        (calls(r#"{"action": "SCMP_ACT_ALLOW"}"#), "syscalls[0].names: the name of a system call is missing"),
        (
            calls(r#"{"names": ["read"], "name": "write", "action": "SCMP_ACT_ALLOW"}"#),
            "syscalls[0]: it has both name and names; keep one of them",
        ),
        (
            calls(r#"{"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1}"#),
            "syscalls[0].errnoRet: only SCMP_ACT_ERRNO and SCMP_ACT_TRACE have one; leave it out",
        ),
        (
            with(r#""errnoRet": 4096"#),
            "syscalls[0].errnoRet: 4096 is not the number of an error; at most 4095 is",
        ),
        (
            with(r#""args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]"#),
            "syscalls[0].args[0].index: a system call has 6 arguments, counted from 0; write 0 to 5",
        ),
        (
            with(r#""args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]"#),
            "syscalls[0].args[0].valueTwo: it has bits that value, the mask, has not: no argument is equal to it",
        ),
        (with(r#""includes": {"caps": ["BPF"]}"#), "syscalls[0].includes.caps[0]: `BPF` is no capability"),
        (
            with(r#""excludes": {"minKernel": "4"}"#),
            "syscalls[0].excludes.minKernel: `4` is no version of a kernel; write one such as 4.8",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_ARM"}]}"#
                .to_owned(),
            "architectures: it stands beside archMap; keep one of them",
        ),
    ];
    for (text, expected) in refused {
        let error = Profile::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text}");
    }
    let error = Profile::parse(with(r#""includes": {"arches": ["pdp11"]}"#).as_bytes()).unwrap_err().to_string();
    assert!(
        error.starts_with("syscalls[0].includes.arches[0]: `pdp11` is no architecture; write one of 386"),
        "{error}"
    );
}

/// Generates JSON that is nearly a profile.
fn any_json() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "\"SCMP_ACT_ALLOW\"",
        "\"SCMP_ACT_NOTIFY\"",
        "\"SCMP_CMP_MASKED_EQ\"",
        "\"SCMP_ARCH_X86\"",
        "\"read\"",
        "\"\"",
        "null",
        "0",
        "-1",
        "18446744073709551616",
        "1e999",
        "[]",
        "{}",
        "[\"read\"]",
        "\"4.8\"",
        "\"EPERM\"",
        "\"CAP_BPF\"",
    ]);
    let key = prop::sample::select(vec![
        "defaultAction",
        "defaultErrnoRet",
        "archMap",
        "architectures",
        "syscalls",
        "names",
        "name",
        "action",
        "errnoRet",
        "args",
        "defaultErrno",
        "errno",
        "flags",
        "listenerPath",
        "includes",
        "excludes",
        "caps",
        "arches",
        "minKernel",
        "index",
        "value",
        "valueTwo",
        "op",
        "other",
    ]);
    word.prop_map(str::to_owned).prop_recursive(5, 60, 6, move |inner| {
        let map = prop::collection::vec((key.clone(), inner.clone()), 0..6).prop_map(|pairs| {
            let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
            format!("{{{}}}", pairs.join(", "))
        });
        let list = prop::collection::vec(inner, 0..4).prop_map(|values| format!("[{}]", values.join(", ")));
        prop_oneof![map, list]
    })
}

fn is_sound(text: &[u8]) {
    if let Ok(profile) = Profile::parse(text) {
        profile.digest();
        let filter = profile.resolve(&[], Architecture::X86_64, KERNEL).unwrap();
        // Too many rules are the only possible mistake of a document that was read.
        let _ = compile(&filter);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        is_sound(&bytes);
    }

    #[test]
    fn any_json_is_read_or_refused(text in any_json(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        is_sound(text.as_bytes());
        let mut damaged = WHOLE.as_bytes().to_vec();
        let at = at.index(damaged.len());
        damaged[at] = byte;
        is_sound(&damaged);
        is_sound(&WHOLE.as_bytes()[..at]);
    }
}

#[test]
fn deeply_nested_lists_are_refused() {
    is_sound("[".repeat(1 << 20).as_bytes());
    is_sound("{\"syscalls\":".repeat(1 << 18).as_bytes());
}
