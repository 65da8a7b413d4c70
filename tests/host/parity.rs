//! A step sees the same with the embedded runtime as with runc, field by field: mounts, devices, status, limits, namespaces.

use std::collections::BTreeMap;

use crate::built::project;
use crate::project::Project;

const MANIFEST: &str = "
mounts:
  src: { type: bind, source: src, target: /src, options: [ro] }
  small: { type: tmpfs, target: /small, options: [size=1m, mode=1777, nodev] }
  cache: { type: cache, target: /cache }
containers:
  plain:
    rootfs: $TOOLS
    mounts: [src, small, cache]
    limits: { pids: 100, nofile: 512 }
  other:
    rootfs: $TOOLS
    network: host
    read_only: true
    hostname: elsewhere
    user: 1000:7
    no_new_privileges: false
    capabilities: { drop: [CHOWN], add: [NET_ADMIN] }
steps: []
";

/// Prints one `KEY: VALUE` a line.
const LOOK: &str = r#"
while read id parent dev root target options rest; do
    echo "mount $target: root=$root options=$options type=${rest##*- }"
done < /proc/self/mountinfo
# The shell reads its own: in a pipe it would be seen while it starts a process, when its C library may block all signals.
while read key value; do case $key in
    Umask:|Uid:|Gid:|Groups:|SigPnd:|ShdPnd:|SigBlk:|SigIgn:|Cap???:|NoNewPrivs:|Seccomp:) echo "status $key $value";;
    NSpgid:|NSsid:|Cpus_allowed_list:|Mems_allowed_list:) echo "status $key $value";;
esac; done < /proc/1/status
while read line; do echo "limit ${line%%  *}: ${line#*  }"; done < /proc/1/limits
for name in cgroup ipc mnt net pid time user uts; do echo "namespace $name: $(stat -L -c %i /proc/1/ns/$name)"; done
for path in /dev /dev/* /dev/pts/* /sys /sys/fs/cgroup/* /src /small /cache /proc/acpi /proc/keys /proc/timer_list; do
    stat -c 'node %n: %A %u:%g %t:%T %N' $path
done
echo "cgroup: $(cat /proc/1/cgroup | tr '\n' ' ')"
echo "score: $(cat /proc/1/oom_score_adj)"
echo "hostname: $(uname -n) $(cat /proc/sys/kernel/hostname)"
echo "identity: $(id)"
echo "directory: $PWD"
echo "environment: $(env | grep -v '^_=' | tr '\n' ' ')"
echo "network: $(cat /proc/net/dev | wc -l)"
echo "first port of each user: $(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)"
echo "descriptors:" /proc/self/fd/*
"#;

/// Intended differences, with the reason.
const INTENDED: [(&str, &str); 7] = [
    ("mount /proc/acpi", "an empty directory of the container's /dev hides it, in place of one more tmpfs"),
    ("node /proc/acpi", "the same"),
    ("mount /sys/firmware", "the tmpfs that hides a directory is nosuid, nodev and noexec too"),
    ("mount /sys", "runc makes the filesystem read-only as well as the mount"),
    ("mount /sys/fs/cgroup", "runc leaves the tmpfs that the hierarchies are mounted in writable"),
    ("mount /sys/fs/cgroup/systemd", "another word for its source, which has none"),
    ("status SigIgn", "runc leaves a signal ignored that its own runtime uses"),
];

fn seen(project: &Project, container: &str, runtime: &str) -> BTreeMap<String, String> {
    let mut command = project.command(&["run", container, "--runtime", runtime, "--", "sh", "-c", LOOK]);
    let output = command.env_remove("RUNNER_RUNTIME").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{runtime}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let host = |kind: &str| {
        std::fs::metadata(format!("/proc/self/ns/{kind}")).map(|found| {
            use std::os::unix::fs::MetadataExt;
            found.ino().to_string()
        })
    };
    let pair = |line: &str| {
        let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("no pair: {line}"));
        let value = match key.strip_prefix("namespace ") {
            Some(kind) => if host(kind).unwrap() == value { "the host's" } else { "its own" }.to_owned(),
            // The layers of the overlay have names of their own in every session.
            None if key == "mount /" => value.split("lowerdir").next().unwrap().to_owned(),
            None => value.split_whitespace().collect::<Vec<_>>().join(" "),
        };
        (key.to_owned(), value)
    };
    text.lines().map(pair).collect()
}

#[test]
fn a_step_sees_the_same_as_with_runc_but_for_intended_differences() {
    let project = project(MANIFEST);
    project.write("src/file", "");
    for container in ["plain", "other"] {
        let (own, reference) = (seen(&project, container, "embedded"), seen(&project, container, "runc"));
        assert!(own.len() > 60, "{own:?}");
        let keys = own.keys().chain(reference.keys()).collect::<std::collections::BTreeSet<_>>();
        let differs = |key: &&&String| own.get(**key) != reference.get(**key);
        let meant = |key: &&&String| INTENDED.iter().any(|(meant, _)| key.as_str() == *meant);
        let differences: Vec<String> = keys
            .iter()
            .filter(|key| differs(key) && !meant(key))
            .map(|key| format!("{key}\n  embedded: {:?}\n  runc:     {:?}", own.get(*key), reference.get(*key)))
            .collect();
        assert!(differences.is_empty(), "{container}:\n{}", differences.join("\n"));
    }
}
