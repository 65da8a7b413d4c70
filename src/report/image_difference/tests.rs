//! The formats, with names that attack them.

use super::*;
use crate::image::{
    Change, FileChange, FileChanges, FileFacts, ImageDifference, PackageChange, PackageChanges, Privileges, Side, Sizes,
};
use crate::packages::Manager;

/// A name with everything that a terminal, Markdown, HTML or a CI system acts on.
const HOSTILE: &str =
    "/a|b\n::error::x`</code></details><script>[l](http://x) @user #1 *b* \u{1b}[2J\u{202e}www.x.org\\";

fn facts(mode: &str) -> FileFacts {
    FileFacts {
        kind: crate::difference::Kind::File,
        mode: mode.into(),
        uid: 0,
        gid: 0,
        size: Some(1024),
        target: None,
        device: None,
        set_uid: mode.starts_with('4'),
        set_gid: false,
        capabilities: None,
    }
}

fn changed(path: &str, old: &str, new: &str) -> FileChange {
    FileChange {
        path: path.into(),
        change: Change::Changed,
        old: Some(facts(old)),
        new: Some(facts(new)),
        aspects: vec!["mode".into()],
        attributes: Vec::new(),
        inside: None,
        is_inside: false,
    }
}

fn images(name: &str, files: usize) -> Images {
    let package = PackageChange {
        manager: Manager::Dpkg,
        name: name.into(),
        architecture: "amd64".into(),
        change: Change::Changed,
        old_version: Some("1".into()),
        new_version: Some("2".into()),
        old_size: Some(1024),
        new_size: Some(3072),
    };
    let side = |digest: &str| Side { name: name.into(), digest: Some(digest.into()), ..Side::default() };
    let program = changed(name, "0755", "4755");
    Images {
        version: 1,
        different: true,
        images: vec![ImageDifference {
            step: None,
            old: Some(side("sha256:0123456789abcdef")),
            new: side("sha256:fedcba9876543210"),
            different: true,
            warnings: vec![name.into()],
            packages: PackageChanges {
                managers: vec![Manager::Dpkg],
                changed: 1,
                old_size: 1024,
                new_size: 3072,
                list: vec![package],
                ..PackageChanges::default()
            },
            privileges: Privileges { list: vec![program.clone()], omitted: 0 },
            sizes: Sizes { old: 10, new: 10, old_files: 2, new_files: 2, ..Sizes::default() },
            files: FileChanges { changed: files as u64, list: vec![program; files], ..FileChanges::default() },
        }],
    }
}

#[test]
fn the_text_has_a_line_for_each_difference() {
    let expected = "\
old         /x sha256:0123456789ab
new         /x sha256:fedcba987654
warning     /x
packages    1 changed (dpkg), +2.0 KiB installed
            ~ /x:amd64  1 → 2  +2.0 KiB
privileges  1 changed (set-uid, set-gid, file capabilities)
            ! ~ /x  none → set-uid 0; mode 0755 → 4755
size        10 B, 2 files
files       1 changed
            !~ /x  mode 0755 → 4755
";
    assert_eq!(text(&images("/x", 1)), expected);
    let long = text(&images("/x", 300));
    assert!(long.ends_with("            … and 200 more; `--format json` lists them\n"), "{long}");
}

#[test]
fn the_markdown_has_a_row_for_each_difference() {
    let page = markdown(&images("/x", 1));
    for row in [
        "### <code>/x → /x</code> — changed\n",
        "| Packages | 1 changed, +2.0 KiB installed |\n",
        "| **Privileges** | **⚠️ 1 set-uid, set-gid or capabilities** |\n",
        "| changed | <code>/x</code> | <code>none → set-uid 0; mode 0755 → 4755</code> |\n",
        "| changed | <code>/x&#58;amd64</code> | <code>1 → 2</code> | +2.0 KiB |\n",
        "<details><summary>Files: 1 changed</summary>\n",
    ] {
        assert!(page.contains(row), "{row}: {page}");
    }
}

#[test]
fn nothing_in_a_name_is_an_escape_sequence_or_a_second_line() {
    for text in [text(&images(HOSTILE, 1)), json(&images(HOSTILE, 1)), markdown(&images(HOSTILE, 1))] {
        assert!(text.chars().all(|c| c == '\n' || !crate::escape::is_hidden(c)), "{text}");
        assert!(!text.lines().any(|line| line.trim_start().starts_with("::")), "{text}");
    }
    let value: serde_json::Value = serde_json::from_str(&json(&images(HOSTILE, 1))).unwrap();
    assert_eq!(value["images"][0]["files"]["list"][0]["path"], HOSTILE);
}

#[test]
fn nothing_in_a_name_is_markup_a_link_or_a_mention_in_markdown() {
    let page = markdown(&images(HOSTILE, 1));
    for part in ["<script>", "@user", "#1 ", "[l]", "http:", "www.", "`", "*b*", "\\"] {
        assert!(!page.contains(part), "{part}: {page}");
    }
    // The columns of the table are its own.
    let row = page.lines().find(|line| line.starts_with("| changed |")).unwrap();
    assert_eq!(row.matches('|').count(), 4, "{row}");
    assert_eq!(page.matches("<details>").count(), page.matches("</details>").count());
}

#[test]
fn any_number_of_long_names_fits_a_comment_of_github() {
    let mut images = images(&HOSTILE.repeat(100), 5000);
    images.images = vec![images.images[0].clone(); 50];
    let page = markdown(&images);
    assert!(page.len() < 65_536, "{}", page.len());
    assert!(page.contains("more images"));
    assert_eq!(page.matches("<details>").count(), page.matches("</details>").count());
}

#[test]
fn the_schema_is_the_committed_one_and_the_document_fits_it() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/diff.v1.schema.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(committed == schema_text(), "run `runner schema diff > schemas/diff.v1.schema.json`");
    let schema = serde_json::from_str(&schema_text()).unwrap();
    let document = serde_json::from_str(&json(&images(HOSTILE, 2))).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    assert!(validator.is_valid(&document));
}
