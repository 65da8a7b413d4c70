//! Tests each field of config.json, as runtimes read it, against the promises for a container.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Description, HostDevice, spec};
use crate::fs::opened::OpenedPaths;
use crate::model::{
    Access, Capability, Checkpointing, Container, Device, Limits, Network, Principal, Rootfs, Scratch, Seccomp, User,
};
use crate::runtime::process::{Command, Credentials, process};
use crate::seccomp::Profile;

const DEFAULT_CAPABILITIES: [&str; 12] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

fn container() -> Container {
    let capability = |name: &&str| name.trim_start_matches("CAP_").parse::<Capability>().unwrap();
    Container {
        variant_of: None,
        name: "base".into(),
        rootfs: Rootfs::Scratch,
        hostname: "base".into(),
        read_only: false,
        network: Network::None,
        user: User { user: Principal::Id(0), group: None },
        cwd: "/".into(),
        env: BTreeMap::from([("A".into(), "1".into())]),
        capabilities: DEFAULT_CAPABILITIES.iter().map(capability).collect(),
        no_new_privileges: true,
        seccomp: Seccomp::Default,
        mounts: Vec::new(),
        devices: Vec::new(),
        limits: Limits { nofile: None, memory: None, millicpus: None, pids: None },
        scratch: Scratch::Tmpfs(10 << 30),
        unmask: Default::default(),
        shell: None,
        has_scripts: false,
        init: false,
        xino: true,
        checkpoint: Checkpointing::Off,
    }
}

fn config_json(container: &Container, mounts: Vec<oci_spec::runtime::Mount>) -> Value {
    let devices: Vec<HostDevice> =
        container.devices.iter().map(|device| HostDevice::look_up(device, &OpenedPaths::default()).unwrap()).collect();
    let user = Credentials { uid: 0, gid: 7, groups: vec![8, 9], home: "/root".into() };
    let command = Command {
        argv: vec!["a b".into(), "".into(), "c\nd".into()],
        env: &BTreeMap::from([("B".into(), "2".into())]),
        cwd: Path::new("/work"),
        user: &user,
        source_date_epoch: Some(5),
    };
    let description =
        Description { id: "runner-x-1", rootfs: Path::new("/rootfs"), mounts, devices: &devices, own_processes: 2 };
    let mut spec = spec(container, description).unwrap();
    spec.set_process(Some(process(container, command).unwrap()));
    serde_json::to_value(spec).unwrap()
}

fn sorted(list: &Value) -> Vec<String> {
    let mut list: Vec<String> = list.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect();
    list.sort();
    list
}

#[test]
fn the_root_hostname_and_cgroup_come_from_the_session() {
    let config = config_json(&container(), Vec::new());
    assert_eq!(config["ociVersion"], "1.0.2");
    assert_eq!(config["hostname"], "base");
    assert_eq!(config["root"], json!({ "path": "/rootfs", "readonly": false }));
    assert_eq!(config["linux"]["cgroupsPath"], "/runner-x-1");
    assert_eq!(config["linux"]["rootfsPropagation"], "private");
    let read_only = config_json(&Container { read_only: true, hostname: "other".into(), ..container() }, Vec::new());
    assert_eq!((&read_only["root"]["readonly"], &read_only["hostname"]), (&json!(true), &json!("other")));
}

#[test]
fn a_container_has_its_own_namespaces_except_a_shared_network() {
    let kinds = |network| {
        let config = config_json(&Container { network, ..container() }, Vec::new());
        let list = config["linux"]["namespaces"].as_array().unwrap().clone();
        assert!(list.iter().all(|namespace| namespace.get("path").is_none()));
        list.iter().map(|namespace| namespace["type"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(Network::None), ["pid", "ipc", "uts", "mount", "cgroup", "network"]);
    assert_eq!(kinds(Network::Host), ["pid", "ipc", "uts", "mount", "cgroup"]);
}

#[test]
fn the_process_has_its_command_environment_user_and_limits() {
    let config = config_json(&container(), Vec::new());
    let process = &config["process"];
    assert_eq!(process["args"], json!(["a b", "", "c\nd"]));
    assert_eq!(
        process["env"],
        json!([
            "A=1",
            "B=2",
            "HOME=/root",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "SOURCE_DATE_EPOCH=5",
            "TERM=xterm"
        ])
    );
    assert_eq!(process["cwd"], "/work");
    assert_eq!(process["user"], json!({ "uid": 0, "gid": 7, "umask": 0o022, "additionalGids": [8, 9] }));
    assert_eq!(process["terminal"], false);
    assert_eq!(process["noNewPrivileges"], true);
    assert_eq!(process["rlimits"], json!([{ "type": "RLIMIT_NOFILE", "hard": 4096, "soft": 4096 }]));
    let open = config_json(&Container { no_new_privileges: false, ..container() }, Vec::new());
    assert_eq!(open["process"]["noNewPrivileges"], false);
}

#[test]
fn user_0_has_the_same_capabilities_in_all_sets_but_the_ambient_one() {
    let config = config_json(&container(), Vec::new());
    let sets = &config["process"]["capabilities"];
    for set in ["bounding", "effective", "inheritable", "permitted"] {
        assert_eq!(sorted(&sets[set]), DEFAULT_CAPABILITIES, "{set}");
    }
    assert_eq!(sets["ambient"], json!([]));
}

#[test]
fn the_default_mounts_have_their_options() {
    let config = config_json(&container(), Vec::new());
    let mount = |target: &str, kind: &str, options: Value| json!({ "destination": target, "type": kind, "source": kind, "options": options });
    assert_eq!(
        config["mounts"],
        json!([
            mount("/proc", "proc", json!(["nosuid", "noexec", "nodev"])),
            mount("/dev", "tmpfs", json!(["nosuid", "strictatime", "mode=755", "size=65536k", "nr_inodes=16384"])),
            mount(
                "/dev/pts",
                "devpts",
                json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"])
            ),
            mount(
                "/dev/shm",
                "tmpfs",
                json!(["nosuid", "noexec", "nodev", "mode=1777", "size=65536k", "nr_inodes=16384"])
            ),
            mount("/dev/mqueue", "mqueue", json!(["nosuid", "noexec", "nodev"])),
            mount("/sys", "sysfs", json!(["nosuid", "noexec", "nodev", "ro"])),
            // The type is the same on cgroup v2: runtimes mount the host's version, see config-linux.md of the specification.
            mount("/sys/fs/cgroup", "cgroup", json!(["nosuid", "noexec", "nodev", "relatime", "ro"])),
        ])
    );
}

#[test]
fn a_mount_of_the_manifest_replaces_the_default_mount_at_its_target() {
    let own = super::default_mount("/dev/shm", "tmpfs", &["size=1g"]).unwrap();
    let config = config_json(&container(), vec![own]);
    let at_shm: Vec<&Value> =
        config["mounts"].as_array().unwrap().iter().filter(|mount| mount["destination"] == "/dev/shm").collect();
    assert_eq!(at_shm.len(), 1);
    assert_eq!(at_shm[0]["options"], json!(["size=1g"]));
}

#[test]
fn paths_that_reveal_the_host_are_masked_and_paths_that_change_it_are_read_only() {
    let config = config_json(&container(), Vec::new());
    let masked = sorted(&config["linux"]["maskedPaths"]);
    for path in [
        "/proc/kcore",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/sys/firmware",
        "/proc/scsi",
        "/proc/asound",
        "/proc/acpi",
        "/proc/interrupts",
        "/proc/keys",
        "/sys/devices/virtual/powercap",
    ] {
        assert!(masked.iter().any(|masked| masked == path), "{path}");
    }
    let read_only = sorted(&config["linux"]["readonlyPaths"]);
    assert_eq!(read_only, ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
}

#[test]
fn all_devices_are_denied_before_the_rules_that_allow_some() {
    let device = |access: Access, target: &str| Device {
        path: "/dev/null".into(),
        target: target.into(),
        access,
        mode: Some(0o640),
        uid: Some(3),
        gid: None,
    };
    let read = Access { read: true, write: false, mknod: false };
    let all = Access { read: true, write: true, mknod: true };
    let container = Container { devices: vec![device(read, "/dev/mine"), device(all, "/opt/mine")], ..container() };
    let config = config_json(&container, Vec::new());
    let rules = config["linux"]["resources"]["devices"].as_array().unwrap();
    assert_eq!(rules[0], json!({ "allow": false, "type": "a", "access": "rwm" }));
    assert!(rules[1..].iter().all(|rule| rule["allow"] == true));
    let own = &rules[rules.len() - 2..];
    assert_eq!(own[0], json!({ "allow": true, "type": "c", "major": 1, "minor": 3, "access": "r" }));
    assert_eq!(own[1]["access"], "rwm");
    // A container may make any node, which does not allow it to open the node, and use the devices of every /dev.
    let defaults: Vec<(Option<i64>, Option<i64>)> =
        rules[1..rules.len() - 2].iter().map(|rule| (rule["major"].as_i64(), rule["minor"].as_i64())).collect();
    let some = |major, minor| (Some(major), Some(minor));
    let usable = [some(1, 3), some(1, 5), some(1, 7), some(1, 8), some(1, 9), some(5, 0), some(5, 2)];
    assert_eq!(defaults, [&[(None, None); 2][..], &usable, &[(Some(136), None)]].concat());
    let node =
        json!({ "path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 3, "gid": 0 });
    assert_eq!(config["linux"]["devices"], json!([node]));
}

#[test]
fn limits_are_passed_to_the_runtime() {
    let limits = Limits { nofile: Some(64), memory: Some(2 << 30), millicpus: Some(1500), pids: Some(10) };
    let config = config_json(&Container { limits, ..container() }, Vec::new());
    let resources = &config["linux"]["resources"];
    assert_eq!((&resources["memory"]["limit"], &resources["memory"]["swap"]), (&json!(2u64 << 30), &json!(2u64 << 30)));
    assert_eq!((&resources["cpu"]["quota"], &resources["cpu"]["period"]), (&json!(150_000), &json!(100_000)));
    // Two of these processes are the embedded runtime's own.
    assert_eq!(resources["pids"]["limit"], 12);
    assert_eq!(config["process"]["rlimits"][0]["hard"], 64);
    let none = config_json(&container(), Vec::new());
    for kind in ["memory", "cpu", "pids"] {
        assert!(none["linux"]["resources"].get(kind).is_none(), "{kind}");
    }
}

#[test]
fn the_rules_of_the_seccomp_profile_are_passed_to_every_runtime() {
    let filter = |container: &Container| config_json(container, Vec::new())["linux"]["seccomp"].clone();
    let default = filter(&container());
    assert_eq!((&default["defaultAction"], &default["defaultErrnoRet"]), (&json!("SCMP_ACT_ERRNO"), &json!(1)));
    let names = |filter: &Value, action: &str| {
        let rules = filter["syscalls"].as_array().unwrap().iter().filter(|rule| rule["action"] == action);
        rules.flat_map(|rule| sorted(&rule["names"])).collect::<Vec<_>>()
    };
    let allowed = names(&default, "SCMP_ACT_ALLOW");
    let has = |names: &[String], name: &str| names.iter().any(|other| other == name);
    assert!(has(&allowed, "openat") && has(&allowed, "chroot") && !has(&allowed, "unshare"));
    assert_eq!(names(&default, "SCMP_ACT_ERRNO"), ["clone3"]);
    let capabilities = vec![Capability::SysAdmin];
    assert!(has(&names(&filter(&Container { capabilities, ..container() }), "SCMP_ACT_ALLOW"), "unshare"));
    assert_eq!(filter(&Container { seccomp: Seccomp::Unconfined, ..container() }), Value::Null);
    let profile = Profile::parse(br#"{"defaultAction": "SCMP_ACT_LOG"}"#).unwrap();
    let own = filter(&Container { seccomp: Seccomp::Profile(Arc::new(profile), "own.json".into()), ..container() });
    assert_eq!((&own["defaultAction"], &own["syscalls"]), (&json!("SCMP_ACT_LOG"), &json!([])));
}
