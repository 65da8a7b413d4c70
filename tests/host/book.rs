//! The first pages that a user reads, executed: each command prints the lines that its page shows.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::pages::{code, read};
use crate::project::Project;

/// Returns the commands of a page, in order, each with the lines that the page shows below it. Blocks for the shell show none, and
/// count where they write a manifest.
fn commands(page: &str) -> Vec<(String, Option<String>)> {
    let mut blocks: Vec<(usize, String, bool)> = Vec::new();
    for (language, shows) in [("sh", false), ("console", true)] {
        blocks.extend(code(page, language).into_iter().map(|(line, block)| (line, block, shows)));
    }
    blocks.sort();
    let mut commands: Vec<(String, Option<String>)> = Vec::new();
    for (_, block, shows) in blocks {
        if !shows {
            let lines = block.lines().filter(|line| !line.contains("cd /tmp/first"));
            if block.contains("build.yaml <<") {
                commands.push((lines.collect::<Vec<_>>().join("\n"), None));
            }
            continue;
        }
        for line in block.lines() {
            match (line.strip_prefix("# "), commands.last_mut()) {
                (Some(command), _) => commands.push((command.to_owned(), Some(String::new()))),
                (None, Some((_, Some(shown)))) => shown.push_str(&format!("{line}\n")),
                (None, _) => panic!("a block begins with output: {block}"),
            }
        }
    }
    commands
}

/// Returns the same text for each run and each host: without times, names of logs, and the size of an image of the host's programs.
fn comparable(text: &str) -> String {
    let word = |word: &str| {
        let is_time = word
            .trim_end_matches(':')
            .strip_suffix('s')
            .is_some_and(|number| number.contains('.') && number.parse::<f64>().is_ok());
        match word.split_once("/logs/") {
            Some((store, log)) => format!("{store}/logs/BUILD/{}", log.rsplit('/').next().unwrap()),
            None if is_time => "TIME".to_owned(),
            None => word.to_owned(),
        }
    };
    let lines = text.lines().map(|line| {
        let line = line.split_once("app.squashfs (").map_or(line, |(line, _)| line);
        line.split(' ').map(word).collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

fn execute(page: &str) {
    let project = Project::new("version: 1\nsteps: []\n");
    let (programs, first) = (project.path("bin"), project.path("first"));
    fs::create_dir(&programs).unwrap();
    fs::create_dir(&first).unwrap();
    symlink(Path::new(env!("CARGO_BIN_EXE_runner")), programs.join("runner")).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let commands = commands(&read(page));
    assert!(commands.len() > 3, "{page}: {}", commands.len());
    for (text, shown) in commands {
        // Mounts of the page are removed in any case.
        let mut command =
            project.shell(&format!("exec 2>&1; exec unshare -m sh -c '{}'", text.replace('\'', "'\\''")), &[]);
        let output = command.current_dir(&first).env("PATH", &path).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        match shown {
            None => assert!(output.status.success(), "{page}: {text}\n{printed}"),
            Some(shown) => {
                let shown = shown.replace("/tmp/first", first.to_str().unwrap());
                let shown = shown.replace("/var/cache/runner", project.store().to_str().unwrap());
                assert_eq!(comparable(&printed), comparable(&shown), "{page}: {text}");
            }
        }
    }
}

#[test]
fn the_first_manifest_of_the_book_prints_what_its_page_shows() {
    execute("docs/src/first-manifest.md");
}

#[test]
fn the_first_five_minutes_of_the_readme_print_what_it_shows() {
    execute("README.md");
}
