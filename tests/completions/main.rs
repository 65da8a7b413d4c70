//! The completion scripts, each in its own shell, on a terminal: a person types, and presses Tab and Enter.
#![expect(clippy::unwrap_used, reason = "a test that panics has failed, and says where")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

/// The time that a shell may take for a line before a test gives up.
const TIMEOUT: Duration = Duration::from_secs(60);

const MANIFEST: &str = "\
version: 1
containers:
  base: { rootfs: { squashfs: /nosuch } }
  docs: { rootfs: { snapshot: layer } }
steps:
  - { name: packages, container: base, run: 'true' }
  - { name: layer, container: base, snapshot: {} }
";

/// Names that a shell or a terminal would act on, were they candidates.
const HOSTILE: &str = "\
containers: { c: {} }
steps:
  - { name: \"zz$(touch pwned)\" }
  - { name: \"zz\\e[2J\" }
  - { name: \"zz`touch pwned`\" }
  - { name: 'zz; touch pwned' }
  - { name: zzz }
";

/// A shell on a terminal. `show` is completed as `runner` is, and prints its arguments.
struct Shell {
    child: Child,
    output: Receiver<Vec<u8>>,
    shown: String,
    directory: TempDir,
}

impl Shell {
    /// Starts a shell beside its completion script, with `rc` as its start-up file.
    fn start(name: &str, command: &str, rc_name: &str, rc: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_runner"), path("bin/runner")).unwrap();
        let script = Command::new(path("bin/runner")).args(["completions", name]).output().unwrap();
        assert!(script.status.success(), "{script:?}");
        fs::write(path("script"), script.stdout).unwrap();
        fs::create_dir_all(path(rc_name).parent().unwrap()).unwrap();
        fs::write(path(rc_name), rc).unwrap();
        fs::write(path("build.yaml"), MANIFEST).unwrap();
        fs::write(path("other.yaml"), MANIFEST.replace("packages", "elsewhere")).unwrap();
        fs::write(path("my file.yaml"), MANIFEST.replace("packages", "spaced")).unwrap();
        fs::write(path("hostile.yaml"), HOSTILE).unwrap();
        fs::write(path("broken.yaml"), "steps: [").unwrap();
        let old = std::env::var("PATH").unwrap();
        // script(1) gives a terminal.
        let mut child = Command::new("script")
            .args(["-qec", command, "/dev/null"])
            .env_clear()
            .env("PATH", format!("{}:{old}", path("bin").display()))
            .envs([("TERM", "xterm"), ("LC_ALL", "C.UTF-8"), ("SHELL", "/bin/sh")])
            .envs(["HOME", "ZDOTDIR", "XDG_DATA_HOME"].map(|name| (name, directory.path())))
            .env("XDG_CONFIG_HOME", path(".config"))
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let (sender, output) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stdout.read(&mut buffer) {
                let Ok(()) = sender.send(buffer[..read].to_vec()) else { return };
            }
        });
        let mut shell = Self { child, output, shown: String::new(), directory };
        shell.enter("show ready");
        assert_eq!(shell.got(), "<ready>");
        shell
    }

    fn enter(&mut self, line: &str) {
        self.child.stdin.as_mut().unwrap().write_all(format!("{line}\r").as_bytes()).unwrap();
    }

    /// Returns the arguments that `show` prints next.
    fn got(&mut self) -> String {
        loop {
            if let Some((_, after)) = self.shown.split_once("GOT:")
                && let Some((arguments, rest)) = after.split_once(":END")
            {
                let arguments = arguments.to_owned();
                self.shown = rest.to_owned();
                return arguments;
            }
            let more = self.output.recv_timeout(TIMEOUT).unwrap_or_else(|error| panic!("{error}: {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&more));
        }
    }

    /// Types a line, Tab and Enter.
    #[track_caller]
    fn completes(&mut self, line: &str, expected: &str) {
        self.enter(&format!("show {line}\t"));
        assert_eq!(self.got(), expected, "{line}");
    }

    /// Checks the lines that all shells complete in the same way.
    fn completes_all(mut self) {
        for (line, expected) in [
            ("sto", "<store>"),
            ("store ins", "<store><inspect>"),
            ("apply --jo", "<apply><--jobs>"),
            ("graph --format s", "<graph><--format><svg>"),
            ("apply --target pac", "<apply><--target><packages>"),
            ("apply --target=pac", "<apply><--target=packages>"),
            ("apply -j 3 --target layer --target pac", "<apply><-j><3><--target><layer><--target><packages>"),
            ("verify --target pac", "<verify><--target><packages>"),
            ("run do", "<run><docs>"),
            ("shell do", "<shell><docs>"),
            ("shell pac", "<shell><packages>"),
            ("store inspect la", "<store><inspect><layer>"),
            ("plan other.yaml --target els", "<plan><other.yaml><--target><elsewhere>"),
            ("plan 'my file.yaml' --target sp", "<plan><my file.yaml><--target><spaced>"),
            ("run -m other.yaml ba", "<run><-m><other.yaml><base>"),
            ("validate oth", "<validate><other.yaml>"),
            ("validate my", "<validate><my file.yaml>"),
            ("apply --report=oth", "<apply><--report=other.yaml>"),
            ("run base -- oth", "<run><base><--><oth>"),
            ("plan broken.yaml --target pac", "<plan><broken.yaml><--target><pac>"),
            ("plan nosuch.yaml --target pac", "<plan><nosuch.yaml><--target><pac>"),
            ("plan hostile.yaml --target zz", "<plan><hostile.yaml><--target><zzz>"),
        ] {
            self.completes(line, expected);
        }
        assert!(!self.directory.path().join("pwned").exists());
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn bash_completes_commands_options_files_and_names_of_the_manifest() {
    let rc = "show() { printf GOT:; printf '<%s>' \"$@\"; printf ':END\\n'; }; . ./script; complete -F _runner show\n";
    Shell::start("bash", "bash --noprofile --rcfile ./.bashrc -i", ".bashrc", rc).completes_all();
}

#[test]
fn zsh_completes_commands_options_files_and_names_of_the_manifest() {
    let rc = "show() { printf GOT:; printf '<%s>' \"$@\"; printf ':END\\n'; }\nautoload -U compinit; compinit -D -u\n. ./script\n\
              compdef _runner show\n";
    Shell::start("zsh", "zsh -i", ".zshrc", rc).completes_all();
}

#[test]
fn fish_completes_commands_options_files_and_names_of_the_manifest() {
    let rc = "function show; printf GOT:; printf '<%s>' $argv; printf ':END\\n'; end\nsource ./script\n\
              complete -c show -f -a '(__runner_complete)'\n";
    Shell::start("fish", "fish -i", ".config/fish/config.fish", rc).completes_all();
}
