//! Links between pages: the file exists, and so does the heading. Links to other sites are not followed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::pages::{Page, pages, read, top, without_code};

/// Returns the targets of the links of a page.
fn links(text: &str) -> Vec<String> {
    let text = without_code(text);
    let behind = text.split("](").skip(1);
    behind.map(|after| after.split([')', ' ']).next().unwrap().to_owned()).collect()
}

/// Returns the names of a page's headings as mdBook and GitHub make them: lower case, spaces become `-`, and signs go.
fn anchors(text: &str) -> Vec<String> {
    let text = without_code(text);
    let mut seen: HashMap<String, usize> = HashMap::new();
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let names = headings.map(|heading| {
        let name: String = heading
            .chars()
            .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
            .map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
            .collect();
        let times = seen.entry(name.clone()).or_default();
        *times += 1;
        if *times == 1 { name } else { format!("{name}-{}", *times - 1) }
    });
    names.collect()
}

/// Returns why a link of a page leads nowhere.
fn broken(page: &Page, link: &str) -> Option<String> {
    if ["https://", "http://", "mailto:"].iter().any(|scheme| link.starts_with(scheme)) {
        return None;
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let path = match file {
        "" => page.path.clone(),
        file => page.path.parent().unwrap_or(Path::new("")).join(file),
    };
    if !top().join(&path).exists() {
        return Some(format!("{}: {link}: there is no such file", page.path.display()));
    }
    // mdBook copies only its own directory into the book.
    if page.path.starts_with("docs/src") && file.starts_with("..") {
        return Some(format!("{}: {link}: it leads out of the book", page.path.display()));
    }
    let anchor = anchor?;
    let text = fs::read_to_string(top().join(&path)).unwrap_or_default();
    let is_there = anchors(&text).iter().any(|known| known == anchor);
    (!is_there).then(|| format!("{}: {link}: there is no such heading", page.path.display()))
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_exist() {
    let pages = pages();
    let broken: Vec<String> =
        pages.iter().flat_map(|page| links(&page.text).into_iter().filter_map(|link| broken(page, &link))).collect();
    assert_eq!(broken, Vec::<String>::new());
    let count: usize = pages.iter().map(|page| links(&page.text).len()).sum();
    assert!(count > 50, "{count}");
}

#[test]
fn links_to_missing_files_and_headings_and_out_of_the_book_are_found() {
    let page =
        Page { path: PathBuf::from("docs/src/why.md"), text: "# A heading: `x_y`\n## A heading: `x_y`\n".to_owned() };
    for link in ["nowhere.md", "install.md#nowhere", "../../README.md"] {
        assert!(broken(&page, link).is_some(), "{link}");
    }
    assert_eq!(anchors(&page.text), ["a-heading-x_y", "a-heading-x_y-1"]);
    assert_eq!(broken(&page, "install.md"), None);
}

#[test]
fn the_summary_lists_each_page_of_the_book_once() {
    let listed = links(&read("docs/src/SUMMARY.md"));
    for page in pages().iter().filter(|page| page.path.starts_with("docs/src") && !page.path.ends_with("SUMMARY.md")) {
        let name = page.path.file_name().unwrap().to_str().unwrap();
        assert_eq!(listed.iter().filter(|link| *link == name).count(), 1, "{name}");
    }
}
