//! The shell of a `run` text, and the interpreter of a text that is a script.

use super::check::Check;
use crate::diagnostic::{Place, Problem, Trail};
use crate::manifest::StepDef;

/// The program that gets a `run` text as its last argument, unless the manifest names another.
pub const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-ec"];

/// Returns the interpreter of a script, as execve(2) reads it; none if the text is not a script.
pub fn interpreter(script: &str) -> Option<&str> {
    let line = script.strip_prefix("#!")?.lines().next().unwrap_or_default();
    Some(line.trim_start_matches([' ', '\t']).split([' ', '\t']).next().unwrap_or_default())
}

impl Check<'_> {
    pub(super) fn shell(&mut self, def: Option<&Vec<String>>, at: &Trail<'_>) -> Option<Vec<String>> {
        let words = def?;
        if words.first().is_none_or(|program| program.is_empty()) {
            let problem = Problem::new(at, "the shell has no program").label("no program");
            self.add(problem.help("write the program and its arguments, such as [/bin/bash, -euc]"));
        }
        for (n, word) in words.iter().enumerate() {
            self.argument(&at.index(n), "argument", word, 0);
        }
        Some(words.clone())
    }

    /// Checks a text that begins with `#!`: runner writes it to a file, which the kernel starts.
    pub(super) fn script(&mut self, script: &str, interpreter: &str, def: &StepDef, at: &Trail<'_>) {
        let run = at.key("run");
        self.no_nul(&run, script);
        if !interpreter.starts_with('/') {
            let problem =
                Problem::new(&run, format!("the script's interpreter `{interpreter}` is not an absolute path"));
            self.add(problem.label("the first line names it").help("write one such as `#!/bin/bash -ex`"));
        }
        if def.shell.is_some() {
            let problem = Problem::new(Place::key(at.key("shell").path()), "the script names its own interpreter");
            let problem = problem.label("means nothing here").related(&run, "begins with `#!`");
            self.add(problem.help("keep one of them"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::interpreter;

    #[test]
    fn the_interpreter_is_the_first_word_after_the_mark() {
        for (script, found) in [
            ("#!/bin/bash -ex\necho", Some("/bin/bash")),
            ("#! \t/usr/bin/env python3", Some("/usr/bin/env")),
            ("#!\necho", Some("")),
            ("#!", Some("")),
            (" #!/bin/sh\n", None),
            ("echo '#!/bin/sh'", None),
        ] {
            assert_eq!(interpreter(script), found, "{script:?}");
        }
    }
}
