//! Differences of images as text for a terminal.

use std::fmt::Write;

use super::details::{
    counts, delta, file, one_line, package, package_name, privilege_change, side, size_change, title, total,
};
use crate::image::{Change, FileChange, ImageDifference, Images};

/// The packages, the programs with privileges, the directories and the files that are shown.
const MAX_PACKAGES: usize = 200;
const MAX_PRIVILEGES: usize = 100;
const MAX_DIRECTORIES: usize = 10;
const MAX_FILES: usize = 100;

/// The columns of the names.
const NAMES: usize = 12;

/// Returns the text.
pub fn text(images: &Images) -> String {
    let mut text = Text::default();
    for (n, image) in images.images.iter().enumerate() {
        if n > 0 {
            text.0.push('\n');
        }
        text.image(image);
    }
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, name: &str, value: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{}", format!("{name:NAMES$}{}", one_line(value)).trim_end());
    }

    /// Adds the lines of a list, and one that says how many are not shown.
    fn list<T>(&mut self, all: &[T], most: usize, omitted: u64, line: impl Fn(&T) -> String) {
        for entry in all.iter().take(most) {
            self.line("", &line(entry));
        }
        let more = omitted + all.len().saturating_sub(most) as u64;
        if more > 0 {
            self.line("", &format!("… and {more} more; `--format json` lists them"));
        }
    }

    fn image(&mut self, image: &ImageDifference) {
        match &image.old {
            Some(old) => {
                if image.step.is_some() {
                    self.line("snapshot", &title(image));
                }
                self.line("old", &side(old));
                self.line("new", &side(&image.new));
            }
            None => self.line("snapshot", &side(&image.new)),
        }
        for warning in &image.warnings {
            self.line("warning", warning);
        }
        if image.old.is_none() {
            return;
        }
        self.packages(image);
        if !image.privileges.list.is_empty() {
            let count = |change| image.privileges.list.iter().filter(|file| file.change == change).count() as u64;
            let counts = counts(count(Change::Added), count(Change::Removed), count(Change::Changed));
            self.line("privileges", &format!("{counts} (set-uid, set-gid, file capabilities)"));
            self.list(&image.privileges.list, MAX_PRIVILEGES, image.privileges.omitted, |change| {
                format!("! {} {}  {}", change.change.sign(), change.path, privilege_change(change))
            });
        }
        self.line("size", &total(&image.sizes));
        self.list(&image.sizes.directories, MAX_DIRECTORIES, image.sizes.omitted_directories as u64, |directory| {
            format!("{} {}  {}", directory.change.sign(), directory.path, size_change(directory.old, directory.new))
        });
        self.files(image);
    }

    fn packages(&mut self, image: &ImageDifference) {
        let packages = &image.packages;
        if packages.managers.is_empty() {
            return;
        }
        let managers: Vec<&str> = packages.managers.iter().map(|manager| manager.name()).collect();
        let differ = counts(packages.added as u64, packages.removed as u64, packages.changed as u64);
        let sizes = delta(packages.old_size, packages.new_size);
        self.line("packages", &format!("{differ} ({}), {sizes} installed", managers.join(", ")));
        self.list(&packages.list, MAX_PACKAGES, packages.omitted as u64, |change| {
            let (version, size) = package(change);
            format!("{} {}  {version}  {size}", change.change.sign(), package_name(change)).trim_end().to_owned()
        });
    }

    fn files(&mut self, image: &ImageDifference) {
        let files = &image.files;
        self.line("files", &counts(files.added, files.removed, files.changed));
        let listed: Vec<&FileChange> = files.list.iter().filter(|change| !change.is_inside).collect();
        self.list(&listed, MAX_FILES, files.omitted, |change| {
            let mark = if change.facts().is_some_and(|facts| facts.is_privileged()) { "!" } else { "" };
            format!("{mark}{} {}  {}", change.change.sign(), change.path, file(change))
        });
    }
}
