//! Keys that other tools have, Compose, Dockerfiles and GitHub Actions above all, and what they are called here; pure.

/// A key of another tool, a key that the map around it has here, and what to write. The first that fits counts.
const HABITS: &[(&str, &str, &str)] = &[
    ("build", "rootfs", "the root comes from `rootfs`, and `steps` say what is done in it"),
    ("image", "rootfs", "write `rootfs: { squashfs: PATH }`, or `tar`, `dir`, `programs`, `snapshot`, `scratch`"),
    ("from", "rootfs", "write `rootfs: { squashfs: PATH }`, or `tar`, `dir`, `programs`, `snapshot`, `scratch`"),
    ("services", "containers", "write `containers: { NAME: { rootfs: … } }`"),
    ("jobs", "steps", "write `steps: [{ name: …, container: …, run: … }]`"),
    ("volumes", "rootfs", "write `mounts: [{ type: bind, source: src, target: /src, options: [ro] }]`"),
    ("volumes", "mounts", "write `mounts: { NAME: { type: bind, source: src, target: /src, options: [ro] } }`"),
    ("tmpfs", "rootfs", "write `mounts: [{ type: tmpfs, target: /tmp }]`"),
    ("secrets", "rootfs", "write `mounts: [{ type: secret, source: FILE, target: /run/secrets/NAME }]`"),
    ("environment", "env", "write `env: { NAME: value }`"),
    ("env", "vars", "write `env` in a container or a step; `vars` are variables of the manifest: `${{ NAME }}`"),
    (
        "environment",
        "vars",
        "write `env` in a container or a step; `vars` are variables of the manifest: `${{ NAME }}`",
    ),
    ("args", "vars", "write `vars: { NAME: value }`, and `${{ NAME }}` where it is used"),
    ("command", "run", "write `run: TEXT` for the shell, or `exec: [PROGRAM, ARGUMENT]`"),
    ("entrypoint", "run", "write `run: TEXT` for the shell, or `exec: [PROGRAM, ARGUMENT]`"),
    ("command", "rootfs", "write it as a step: `steps: [{ name: …, run: TEXT }]`"),
    ("entrypoint", "rootfs", "write it as a step: `steps: [{ name: …, run: TEXT }]`"),
    ("script", "run", "write `run: TEXT`"),
    ("depends_on", "needs", "write `needs: [STEP]`"),
    ("depends_on", "rootfs", "write `needs: [STEP]` in a step, or `rootfs: { snapshot: STEP }` here"),
    ("working_dir", "cwd", "write `cwd: /DIRECTORY`"),
    ("workdir", "cwd", "write `cwd: /DIRECTORY`"),
    ("network_mode", "network", "write `network: host` or `network: none`"),
    ("networks", "network", "write `network: host` or `network: none`"),
    ("cap_add", "capabilities", "write `capabilities: { add: [NAME] }`"),
    ("cap_drop", "capabilities", "write `capabilities: { drop: [NAME] }`"),
    ("privileged", "capabilities", "write the `capabilities` and `devices` that the steps need"),
    ("security_opt", "seccomp", "write `seccomp` and `no_new_privileges`"),
    ("mem_limit", "limits", "write `limits: { memory: 2GiB }`"),
    ("ulimits", "limits", "write `limits: { nofile: 65536 }`"),
];

/// Returns what to write in place of a key that another tool has, in a map whose keys are these.
pub(super) fn habit(key: &str, known: &[&str]) -> Option<&'static str> {
    HABITS.iter().find(|(habit, around, _)| *habit == key && known.contains(around)).map(|(_, _, help)| *help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_habit_is_answered_for_the_map_that_it_stands_in() {
        let container = ["rootfs", "mounts", "env"];
        assert!(habit("image", &container).unwrap().contains("`rootfs: { squashfs: PATH }`"));
        assert!(habit("volumes", &container).unwrap().contains("`mounts: [{ type: bind"));
        assert!(habit("volumes", &["mounts", "containers", "vars"]).unwrap().contains("`mounts: { NAME: { type: bind"));
        assert!(habit("environment", &["name", "env", "run"]).unwrap().contains("`env: { NAME: value }`"));
        assert_eq!(habit("environment", &["squashfs", "tar"]), None);
        assert_eq!(habit("images", &container), None);
    }
}
