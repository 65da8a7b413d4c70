//! The output of a step on its way to terminals, pages, CI systems and logs; and the secrets in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::attack::{Attack, Verdict, safe, tried};
use crate::lab::{self, Lab, Project};

pub const ATTACKS: &[Attack] = &[
    Attack { row: "M5", name: "secret-printed", summary: "prints a secret, plain, in parts, in base64", run: secret },
    Attack {
        row: "low",
        name: "bidirectional-text",
        summary: "prints characters that turn lines around",
        run: bidirectional,
    },
    Attack { row: "contained", name: "terminal-escapes", summary: "prints escape sequences", run: terminal },
    Attack { row: "contained", name: "report-injection", summary: "prints HTML, XML, CI commands", run: reports },
    Attack { row: "contained", name: "typed-into-terminal", summary: "TIOCSTI into the caller's terminal", run: typed },
];

const SECRET: &str = "hunter2-0f-a-variable";
/// Its base64, as coreutils prints it, at each place in three bytes.
const TRACES: [&str; 4] =
    [SECRET, "aHVudGVyMi0wZi1hLXZhcmlhYmxl", "h1bnRlcjItMGYtYS12YXJpYWJs", "odW50ZXIyLTBmLWEtdmFyaWFi"];

fn secret(lab: &Lab) -> Verdict {
    let project = lab.project(
        r#"
mounts: { token: { type: secret, env: TOKEN_OF_ATTACK, target: /run/token } }
containers: { c: { rootfs: $BASE, mounts: [token] } }
steps:
  - name: s
    run: |
      echo TRYING; token=$(cat /run/token)
      echo "it is $token."; echo "$token" >&2; printf 'hunter2'; sleep 0.2; printf '%s\n' -0f-a-variable
      n=0; while [ $n -lt 500 ]; do echo "$token $token"; n=$((n+1)); done
      printf '%s' "$token" | base64; printf 'x%s' "$token" | base64; printf 'xy%s' "$token" | base64 -w 0; echo
      exit 1
  - { name: image, snapshot: {} }
"#,
    );
    let files = ["report.html", "report.xml", "report.json", "events.log"];
    let reports = ["--report", files[0], "--report", files[1], "--report", files[2], "--log-file", files[3]];
    for progress in ["json", "plain", "quiet"] {
        let mut command = project.command(&[&["apply", "--progress", progress], &reports[..]].concat());
        command.env("TOKEN_OF_ATTACK", SECRET);
        let build = project.run(command)?;
        if progress == "json" {
            build.tried("s", "TRYING")?;
        }
        without_secret(progress, &format!("{}{}", build.stdout, build.stderr))?;
        for file in files {
            without_secret(file, &project.read(file))?;
            let mode = fs::metadata(project.path(file)).unwrap().permissions().mode();
            safe(mode & 0o077 == 0, format!("{file} of a build with secrets has the mode {mode:o}"))?;
        }
    }
    for trace in TRACES {
        let found = Command::new("grep").args(["-rlaF", "-e", trace]).arg(project.path("store")).output().unwrap();
        safe(found.stdout.is_empty(), format!("in the store: {}", String::from_utf8_lossy(&found.stdout)))?;
    }
    let mut command = project.command(&["run", "c", "--", "cat", "/run/token"]);
    command.env("TOKEN_OF_ATTACK", SECRET);
    without_secret("run", &project.run(command)?.stdout)
}

fn without_secret(place: &str, text: &str) -> Verdict {
    let found = TRACES.into_iter().find(|trace| text.contains(trace));
    safe(found.is_none(), format!("{place} has {found:?}"))
}

/// Builds a step that prints attacks; its names are in the script.
fn printing(lab: &Lab, script: &str) -> Project {
    let project = lab.project(
        "
mounts: { src: { type: bind, source: src, target: /src, options: [ro] } }
containers: { c: { rootfs: $BASE, mounts: [src] } }
steps: [{ name: s, run: 'echo TRYING; cat /src/text; cat /src/text >&2; exit 1' }]
",
    );
    project.write("src/text", script);
    project
}

fn bidirectional(lab: &Lab) -> Verdict {
    let controls: Vec<char> = ('\u{202a}'..='\u{202e}')
        .chain('\u{2066}'..='\u{2069}')
        .chain(['\u{200e}', '\u{200f}', '\u{61c}', '\u{9b}'])
        .collect();
    let text: String = controls.iter().map(|control| format!("BEGIN {control} END\n")).collect();
    let project = printing(lab, &text);
    for progress in ["json", "plain", "quiet"] {
        let build = project.runner(&[
            "apply",
            "--progress",
            progress,
            "--report",
            "r.html",
            "--report",
            "r.xml",
            "--log-file",
            "l.json",
        ])?;
        tried(build.stdout.contains("BEGIN") || build.stderr.contains("BEGIN"), build.to_string())?;
        let shown = format!("{}{}", build.stdout, build.stderr);
        // In JSON, only text that terminals take for an escape sequence must not stand unescaped.
        let raw: Vec<_> = controls.iter().filter(|control| shown.contains(**control)).collect();
        let raw: Vec<_> = raw.into_iter().filter(|control| progress != "json" || **control == '\u{9b}').collect();
        safe(raw.is_empty(), format!("{progress} shows {raw:?}"))?;
        for file in ["r.html", "r.xml", "l.json"] {
            safe(!project.read(file).contains('\u{9b}'), format!("{file} has U+009B"))?;
        }
    }
    Ok(())
}

fn terminal(lab: &Lab) -> Verdict {
    let project = printing(
        lab,
        "BEGIN \x1b[2J\x1b]0;evil\x07\x1b]52;c;ZXZpbA==\x07\x1b[6n\x1bP$q\"p\x1b\\ END\n\u{7}\u{8}\u{8}\rEVIL\n\u{9b}31m\u{90}x\u{9c}\n",
    );
    for progress in ["plain", "quiet", "json"] {
        let build = project.runner(&["apply", "--progress", progress])?;
        let shown = format!("{}{}", build.stdout, build.stderr);
        tried(shown.contains("BEGIN") && shown.contains("END"), build.to_string())?;
        let raw = shown.chars().find(|char| char.is_control() && !['\n', '\t'].contains(char));
        safe(raw.is_none(), format!("{progress} shows {raw:?}"))?;
    }
    let build = project.run(
        project.command_in_bash("export NO_COLOR=1 TERM=xterm; \"$@\" || exit 1", &["apply", "--progress", "tty"]),
    )?;
    safe(!build.stdout.contains("\x1b]52") && !build.stdout.contains("\x1b[6n"), "a terminal gets the step's sequences")
}

fn reports(lab: &Lab) -> Verdict {
    let text = "BEGIN <script>alert(1)</script><img src=x onerror=alert(1)>]]></system-out><testcase name=\"evil\"/>&evil;\n\
                ::error::evil\n::add-mask::evil\n::set-output name=x::evil\n##[error]evil\n##vso[task.complete]evil\n\
                section_start:1:evil\n</pre></script><svg onload=alert(1)>\n";
    let project = printing(lab, text);
    for (name, value) in [("GITHUB_ACTIONS", "true"), ("GITLAB_CI", "true")] {
        let mut command = project.command(&["apply", "--report", "r.html", "--report", "r.xml", "--report", "r.json"]);
        command.env(name, value).env("GITHUB_STEP_SUMMARY", project.path("summary.md"));
        let build = project.run(command)?;
        build.did_not_hang()?;
        tried(build.stdout.contains("BEGIN"), build.to_string())?;
        for begin in ["::error::evil", "::add-mask::evil", "::set-output", "##[error]evil", "##vso["] {
            // Between `::stop-commands::TOKEN` and `::TOKEN::` the CI system ignores commands.
            let heeded = name == "GITHUB_ACTIONS"
                && heeded(&build.stdout).iter().any(|line| line.trim_start().starts_with(begin));
            safe(!heeded, format!("{name} is given {begin}"))?;
        }
        let page = project.read("r.html");
        safe(
            !page.contains("<img src=x") && !page.contains("<script>alert") && !page.contains("<svg onload"),
            "the page runs what a step printed",
        )?;
        let junit = project.read("r.xml");
        tried(junit.contains("BEGIN") && page.contains("BEGIN"), "the reports lack what the step printed")?;
        safe(
            !junit.contains("<testcase name=\"evil\"") && !junit.contains("&evil;"),
            "JUnit has a test of the step's",
        )?;
        let summary = project.read("summary.md");
        safe(!summary.contains("<script>alert") && !summary.contains("<img src=x"), "the summary has the step's HTML")?;
    }
    Ok(())
}

/// Returns the lines in which GitHub Actions looks for commands.
fn heeded(text: &str) -> Vec<&str> {
    let (mut lines, mut stopped) = (Vec::new(), None);
    for line in text.lines() {
        if let Some(token) = &stopped {
            if line.trim_start() == format!("::{token}::") {
                stopped = None;
            }
        } else if let Some(token) = line.trim_start().strip_prefix("::stop-commands::") {
            stopped = Some(token.to_owned());
        } else {
            lines.push(line);
        }
    }
    lines
}

/// Runner on a terminal of its own: after it has ended, no text may have been typed there.
fn typed(lab: &Lab) -> Verdict {
    let project = lab.project("\ncontainers: { c: { rootfs: $BASE } }\nsteps: [{ name: s, run: 'true' }]\n");
    for arguments in
        [&["run", "-t", "c", "--", "/probe", "push-input"][..], &["run", "c", "--", "/probe", "push-input"]]
    {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let line = fs::File::options().read(true).write(true).open(Path::new(name.to_str().unwrap())).unwrap();
        let runner = project.command(arguments);
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg("--wait").arg(runner.get_program()).args(arguments).current_dir(project.path(""));
        command.env("RUNNER_STORE", project.path("store")).env("RUNNER_RUNTIME", &lab.runtime);
        let end = || Stdio::from(line.try_clone().unwrap());
        let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let ended = lab::wait(&mut child, Duration::from_secs(30));
        let mut buffer = [0; 65536];
        let length = rustix::io::read(&screen, &mut buffer).unwrap_or(0);
        let shown = String::from_utf8_lossy(&buffer[..length]).into_owned();
        tried(ended.is_some() && shown.contains("TRYING"), format!("{arguments:?}: {shown}"))?;
        let mut polled = [PollFd::new(&line, PollFlags::IN)];
        let waiting = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 50_000_000 })).unwrap();
        safe(waiting == 0, format!("{arguments:?} typed into its caller's terminal"))?;
    }
    Ok(())
}
