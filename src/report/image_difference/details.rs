//! The words about a difference that all formats share. They are not escaped yet.

use crate::image::{Change, FileChange, FileFacts, ImageDifference, PackageChange, Side, Sizes};
use crate::report::size;

/// Returns one line of text without anything that a terminal acts on.
pub(super) fn one_line(text: &str) -> String {
    text.chars()
        .flat_map(|c| if crate::escape::is_hidden(c) { c.escape_default().collect() } else { vec![c] })
        .collect()
}

/// Returns the name of an image with its digest and the time of its build.
pub(super) fn side(side: &Side) -> String {
    let digest = side.digest.as_ref().map(|digest| format!(" {}", digest.get(..19).unwrap_or(digest)));
    let built = side.built.as_ref().map(|built| format!(", built {built}"));
    format!("{}{}{}", side.name, digest.unwrap_or_default(), built.unwrap_or_default())
}

/// Returns the title of a comparison.
pub(super) fn title(image: &ImageDifference) -> String {
    match (&image.step, &image.old) {
        (Some(step), _) => step.clone(),
        (None, Some(old)) => format!("{} → {}", old.name, image.new.name),
        (None, None) => image.new.name.clone(),
    }
}

/// Returns the counts of added, removed and changed things.
pub(super) fn counts(added: u64, removed: u64, changed: u64) -> String {
    let counts = [(added, "added"), (removed, "removed"), (changed, "changed")];
    let shown: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if shown.is_empty() { "no difference".to_owned() } else { shown.join(", ") }
}

/// Returns a change of a size, as `1.0 KiB → 3.0 KiB (+2.0 KiB)`; the size itself, if it is the same.
pub(super) fn size_change(old: u64, new: u64) -> String {
    if old == new {
        return size(new);
    }
    format!("{} → {} ({})", size(old), size(new), delta(old, new))
}

/// Returns the difference of two sizes with its sign.
pub(super) fn delta(old: u64, new: u64) -> String {
    let sign = if new >= old { '+' } else { '-' };
    format!("{sign}{}", size(old.abs_diff(new)))
}

/// Returns a number of files in words.
pub(super) fn file_count(files: u64) -> String {
    format!("{files} {}", if files == 1 { "file" } else { "files" })
}

/// Returns the total size and number of files.
pub(super) fn total(sizes: &Sizes) -> String {
    let files = if sizes.old_files == sizes.new_files {
        file_count(sizes.new_files)
    } else {
        format!("{} → {} files", sizes.old_files, sizes.new_files)
    };
    format!("{}, {files}", size_change(sizes.old, sizes.new))
}

/// Returns the versions of a package, and its size or how that changed.
pub(super) fn package(package: &PackageChange) -> (String, String) {
    let version = match (&package.old_version, &package.new_version) {
        (Some(old), Some(new)) if old != new => format!("{old} → {new}"),
        (Some(version), _) | (None, Some(version)) => version.clone(),
        (None, None) => String::new(),
    };
    let size = match (package.old_size, package.new_size) {
        (Some(old), Some(new)) => delta(old, new),
        (None, Some(new)) => delta(0, new),
        (Some(old), None) if package.new_version.is_none() => delta(old, 0),
        _ => String::new(),
    };
    (version, size)
}

/// Returns the name of a package with its architecture.
pub(super) fn package_name(package: &PackageChange) -> String {
    if package.architecture.is_empty() {
        package.name.clone()
    } else {
        format!("{}:{}", package.name, package.architecture)
    }
}

/// Returns what a file is, or how it differs.
pub(super) fn file(change: &FileChange) -> String {
    match (change.change, &change.old, &change.new) {
        (Change::Changed, Some(old), Some(new)) => changed(change, old, new),
        (_, old, new) => {
            let facts = new.as_ref().or(old.as_ref()).map(facts).unwrap_or_default();
            let inside =
                change.inside.map(|inside| format!(", with {} of {}", file_count(inside.files), size(inside.size)));
            facts + &inside.unwrap_or_default()
        }
    }
}

/// Returns the privileges of a file, as `set-uid 0, cap_net_raw=ep`.
pub(super) fn privileges(facts: &FileFacts) -> String {
    let all = [
        facts.set_uid.then(|| format!("set-uid {}", facts.uid)),
        facts.set_gid.then(|| format!("set-gid {}", facts.gid)),
        facts.capabilities.clone(),
    ];
    let all: Vec<String> = all.into_iter().flatten().collect();
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

/// Returns how the privileges of a file changed, and the other aspects in which it differs.
pub(super) fn privilege_change(change: &FileChange) -> String {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            let (before, after) = (privileges(old), privileges(new));
            let words = if before == after { after } else { format!("{before} → {after}") };
            format!("{words}; {}", changed(change, old, new))
        }
        (old, new) => {
            let facts = new.as_ref().or(old.as_ref());
            facts.map(|file| format!("{}; {}", privileges(file), self::facts(file))).unwrap_or_default()
        }
    }
}

fn facts(facts: &FileFacts) -> String {
    let mut words = format!("{} {} {}:{}", facts.kind.name(), facts.mode, facts.uid, facts.gid);
    if let Some(bytes) = facts.size {
        words.push_str(&format!(" {}", size(bytes)));
    }
    if let Some(device) = &facts.device {
        words.push_str(&format!(" {device}"));
    }
    if let Some(target) = &facts.target {
        words.push_str(&format!(" → {target}"));
    }
    words
}

fn changed(change: &FileChange, old: &FileFacts, new: &FileFacts) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or("none".to_owned());
    let aspect = |aspect: &String| match aspect.as_str() {
        "type" => format!("{} → {}", old.kind.name(), new.kind.name()),
        "content" => match (old.size, new.size) {
            (Some(old), Some(new)) if old != new => format!("content {}", size_change(old, new)),
            _ => "content".to_owned(),
        },
        "target" => format!("target {} → {}", text(&old.target), text(&new.target)),
        "device" => format!("device {} → {}", text(&old.device), text(&new.device)),
        "replaces" => format!("{} → {}", old.kind.name(), new.kind.name()),
        "mode" => format!("mode {} → {}", old.mode, new.mode),
        "owner" => format!("owner {}:{} → {}:{}", old.uid, old.gid, new.uid, new.gid),
        "links" => "hard links".to_owned(),
        "attributes" => format!("attributes {}", change.attributes.join(", ")),
        other => other.to_owned(),
    };
    change.aspects.iter().map(aspect).collect::<Vec<_>>().join("; ")
}
