//! Keys of other tools, Compose, Dockerfiles and GitHub Actions above all, and the keys of a manifest that replace
//! them; pure.

/// A key of another tool, a key of the map in which it is replaced, and the text to write. The first entry that fits
/// is used.
const REPLACEMENTS: &[(&str, &str, &str)] = &[
    ("build", "rootfs", "the root comes from `rootfs`, and `steps` are the commands to run in it"),
    ("image", "rootfs", "write `rootfs: { image: NAME }`"),
    (
        "from",
        "rootfs",
        "write `rootfs: { image: NAME }`, or `squashfs`, `erofs`, `tar`, `dir`, `oci`, `programs`, `snapshot`, `scratch`",
    ),
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

/// Returns the text to write in place of a key of another tool, in a map with these keys.
pub(super) fn replacement(key: &str, known: &[&str]) -> Option<&'static str> {
    REPLACEMENTS
        .iter()
        .find(|(replacement, around, _)| *replacement == key && known.contains(around))
        .map(|(_, _, help)| *help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_another_tool_is_replaced_by_the_key_of_its_map() {
        let container = ["rootfs", "mounts", "env"];
        assert!(replacement("image", &container).unwrap().contains("`rootfs: { image: NAME }`"));
        assert!(replacement("volumes", &container).unwrap().contains("`mounts: [{ type: bind"));
        assert!(
            replacement("volumes", &["mounts", "containers", "vars"])
                .unwrap()
                .contains("`mounts: { NAME: { type: bind")
        );
        assert!(replacement("environment", &["name", "env", "run"]).unwrap().contains("`env: { NAME: value }`"));
        assert_eq!(replacement("environment", &["squashfs", "tar"]), None);
        assert_eq!(replacement("images", &container), None);
    }
}
