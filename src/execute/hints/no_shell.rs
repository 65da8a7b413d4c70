//! Names the keys for a step whose root lacks the shell that runs its text.

use std::path::Path;

use super::SessionFacts;

/// Returns the keys that help, if the step found no program and its root lacks the shell.
pub fn hint(shell: &str, no_program: bool, inside: &impl SessionFacts) -> Option<String> {
    (no_program && inside.file(Path::new(shell)).is_none()).then(|| {
        format!(
            "the root has no {shell}: name a shell that it has, as in `shell: [/bin/busybox, sh, -ec]`, or run a program \
             without a shell with `exec`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::TestSession;
    use super::*;

    #[test]
    fn the_keys_are_named_where_the_shell_is_missing_alone() {
        let found = TestSession::default();
        let hint = |no_program| hint("/bin/sh", no_program, &found);
        assert!(hint(true).unwrap().starts_with("the root has no /bin/sh: name a shell"));
        assert_eq!(hint(false), None);
    }
}
