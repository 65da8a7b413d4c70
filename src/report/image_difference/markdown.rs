//! Differences of images as Markdown, for a comment in a review on GitHub or GitLab.
//!
//! Names are in `<code>` with every character that Markdown or HTML interprets as an entity: nothing in them is markup, a link, a
//! mention of a user, or a command of such a system. A comment of GitHub has at most 65,536 characters.

use std::fmt::Write;

use super::details::{counts, delta, file, one_line, package, package_name, privilege_change, side, title, total};
use crate::image::{Change, FileChange, ImageDifference, Images};
use crate::report::size;

/// The bytes of all images together.
const MAX_BYTES: usize = 60_000;

/// The bytes that remain for the rows of the later images and for the ends of sections.
const RESERVED: usize = 4_000;

/// The bytes of a name that is shown.
const MAX_NAME: usize = 300;

/// The rows of a table.
const MAX_ROWS: usize = 200;

/// The images of which more than one line is shown.
const MAX_IMAGES: usize = 20;

/// Returns the Markdown.
pub fn markdown(images: &Images) -> String {
    let mut page = Page { text: String::new(), most: 0 };
    let count = images.images.len().clamp(1, MAX_IMAGES);
    for (n, image) in images.images.iter().take(MAX_IMAGES).enumerate() {
        // Each image has its share of the remaining bytes.
        page.most = page.text.len() + (MAX_BYTES.saturating_sub(page.text.len())) / (count - n);
        page.image(image);
    }
    let more = images.images.len().saturating_sub(MAX_IMAGES);
    if more > 0 {
        let _ = writeln!(page.text, "… and {more} more images");
    }
    page.text
}

struct Page {
    text: String,
    /// The bytes at which the rows of the present image end.
    most: usize,
}

impl Page {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn image(&mut self, image: &ImageDifference) {
        let verdict = match (&image.old, image.different) {
            (None, _) => "nothing to compare",
            (_, true) => "changed",
            (_, false) => "no difference",
        };
        self.line(format_args!("### {} — {verdict}\n", code(&title(image))));
        if let Some(old) = &image.old {
            self.line(format_args!("{} → {}\n", code(&side(old)), code(&side(&image.new))));
        }
        for warning in image.warnings.iter().take(10) {
            self.line(format_args!("> ⚠️ {}\n", code(warning)));
        }
        if !image.different {
            return;
        }
        self.summary(image);
        self.privileges(image);
        self.packages(image);
        self.directories(image);
        self.files(image);
    }

    fn summary(&mut self, image: &ImageDifference) {
        let ImageDifference { packages, privileges, sizes, files, .. } = image;
        self.line(format_args!("| | |\n| --- | --- |\n| Size | {} |", total(sizes)));
        if !packages.managers.is_empty() {
            let differ = counts(packages.added as u64, packages.removed as u64, packages.changed as u64);
            self.line(format_args!(
                "| Packages | {differ}, {} installed |",
                delta(packages.old_size, packages.new_size)
            ));
        }
        self.line(format_args!("| Files | {} |", counts(files.added, files.removed, files.changed)));
        let programs = privileges.list.len() as u64 + privileges.omitted;
        if programs > 0 {
            self.line(format_args!("| **Privileges** | **⚠️ {programs} set-uid, set-gid or capabilities** |"));
        }
        self.text.push('\n');
    }

    fn privileges(&mut self, image: &ImageDifference) {
        let list = &image.privileges.list;
        if !list.is_empty() {
            self.line(format_args!("#### ⚠️ Set-uid, set-gid and capabilities\n"));
            self.table("| | program | privileges |\n| --- | --- | --- |", list, image.privileges.omitted, |change| {
                format!("| {} | {} | {} |", word(change.change), code(&change.path), code(&privilege_change(change)))
            });
        }
    }

    fn packages(&mut self, image: &ImageDifference) {
        let packages = &image.packages;
        if !packages.list.is_empty() {
            self.line(format_args!("#### Packages\n"));
            let header = "| | package | version | size |\n| --- | --- | --- | ---: |";
            self.table(header, &packages.list, packages.omitted as u64, |change| {
                let (version, size) = package(change);
                format!("| {} | {} | {} | {size} |", word(change.change), code(&package_name(change)), code(&version))
            });
        }
    }

    fn directories(&mut self, image: &ImageDifference) {
        let sizes = &image.sizes;
        if !sizes.directories.is_empty() {
            self.line(format_args!("<details><summary>Sizes by directory</summary>\n"));
            let header = "| directory | difference | size |\n| --- | ---: | ---: |";
            self.table(header, &sizes.directories, sizes.omitted_directories as u64, |directory| {
                let change = delta(directory.old, directory.new);
                format!("| {} | {change} | {} |", code(&directory.path), size(directory.new))
            });
            self.line(format_args!("</details>\n"));
        }
    }

    fn files(&mut self, image: &ImageDifference) {
        let files = &image.files;
        let listed: Vec<&FileChange> = files.list.iter().filter(|change| !change.is_inside).collect();
        if !listed.is_empty() {
            let counts = counts(files.added, files.removed, files.changed);
            self.line(format_args!("<details><summary>Files: {counts}</summary>\n"));
            self.table("| | file | |\n| --- | --- | --- |", &listed, files.omitted, |change| {
                format!("| {} | {} | {} |", word(change.change), code(&change.path), code(&file(change)))
            });
            self.line(format_args!("</details>\n"));
        }
    }

    /// Adds rows as long as there is room for them, and says how many are not shown.
    fn table<T>(&mut self, header: &str, rows: &[T], omitted: u64, row: impl Fn(&T) -> String) {
        self.line(format_args!("{header}"));
        let mut shown = 0;
        for each in rows.iter().take(MAX_ROWS) {
            let row = row(each);
            if self.text.len() + row.len() + RESERVED > self.most {
                break;
            }
            self.line(format_args!("{row}"));
            shown += 1;
        }
        let more = omitted + (rows.len() - shown) as u64;
        if more > 0 {
            self.line(format_args!("\n… and {more} more"));
        }
        self.text.push('\n');
    }
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Changed => "changed",
    }
}

/// Returns text of unknown origin as code on one line.
fn code(text: &str) -> String {
    let mut escaped = String::from("<code>");
    let mut before = ' ';
    for c in one_line(text).chars() {
        if escaped.len() > MAX_NAME {
            escaped.push('…');
            break;
        }
        // The dot of `www.` makes a link.
        let is_plain = match c {
            '/' | '-' | ',' | ';' | '(' | ')' | '+' | '=' => true,
            '.' => !before.eq_ignore_ascii_case(&'w'),
            c => !c.is_ascii_punctuation(),
        };
        if is_plain {
            escaped.push(c);
        } else {
            let _ = write!(escaped, "&#{};", u32::from(c));
        }
        before = c;
    }
    escaped + "</code>"
}
