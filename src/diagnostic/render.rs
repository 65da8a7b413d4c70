//! Renders problems for the user: a report with carets for each, in the order of the text, and a last line with the
//! count.

use std::fmt::Write as _;
use std::ops::Range;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, Severity, SourceCode};

use super::source::Source;
use super::visible::{escaped, shown};
use super::{Place, Problem, YamlPlaces};

/// The number of reports that are shown; the others are only counted. A hostile text could have millions.
const MAX_SHOWN: usize = 100;

/// The style of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether to use terminal colours.
    pub color: bool,
    /// The columns at which text is wrapped.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self { color: false, width: 120 }
    }
}

/// Renders problems of the text `text`, which is shown under the name `name`. Paths are looked up in it as YAML; in a
/// text of another language, problems can only have places in bytes.
pub fn render(problems: &[Problem], name: &str, text: &str, style: Style) -> String {
    let mut out = reports(problems, Severity::Error, name, text, style);
    let hidden = problems.len().saturating_sub(MAX_SHOWN);
    let (bold, plain) = if style.color { ("\x1b[31;1m", "\x1b[0m") } else { ("", "") };
    let count = match problems.len() {
        1 => "1 problem".to_owned(),
        n if hidden > 0 => format!("{n} problems, of which the first {MAX_SHOWN} are shown"),
        n => format!("{n} problems"),
    };
    let _ = writeln!(out, "{bold}error:{plain} {}: {count}", escaped(name));
    out
}

/// Renders problems that are only warned of, without a count.
pub fn render_warnings(warnings: &[Problem], name: &str, text: &str, style: Style) -> String {
    reports(warnings, Severity::Warning, name, text, style)
}

fn reports(problems: &[Problem], severity: Severity, name: &str, text: &str, style: Style) -> String {
    let by_path = |problem: &Problem| {
        problem.place.path().is_some() || problem.related.iter().any(|(place, _)| place.path().is_some())
    };
    let places = if problems.iter().any(by_path) { YamlPlaces::read(text) } else { YamlPlaces::default() };
    let (visible_name, visible) = (escaped(name), shown(text));
    let source = Source::new(&visible_name, &visible);
    let locate = |place: &Place| -> Option<Range<usize>> {
        let range = match place {
            Place::Nowhere => return None,
            Place::Bytes(range) => range.clone(),
            Place::Node(path, at) => places.find(text, path, at).unwrap_or(0..0),
        };
        Some(source.label(&range))
    };
    let mut sorted: Vec<_> = problems.iter().map(|problem| (ranges(problem, &locate), problem)).collect();
    // A problem without a place concerns the whole text, and comes first. The sort is stable, so problems at one place
    // stay in the order in which they were found.
    sorted.sort_by_key(|(ranges, _)| ranges[0].as_ref().map(|range| range.start));

    let handler = handler(style);
    let mut out = String::new();
    for (ranges, problem) in sorted.iter().take(MAX_SHOWN) {
        report(&mut out, &handler, Report { problem, severity, labels: labels(problem, ranges), source: &source });
        out.push('\n');
    }
    out
}

/// Renders a single problem of a text, without a count. Its place is in bytes, or it has none.
pub fn render_one(problem: &Problem, name: &str, text: &str, style: Style) -> String {
    let (visible_name, visible) = (escaped(name), shown(text));
    let source = Source::new(&visible_name, &visible);
    let locate = |place: &Place| match place {
        Place::Bytes(range) => Some(source.label(range)),
        Place::Nowhere | Place::Node(..) => None,
    };
    let mut out = String::new();
    let labels = labels(problem, &ranges(problem, &locate));
    report(&mut out, &handler(style), Report { problem, severity: Severity::Error, labels, source: &source });
    out
}

fn handler(style: Style) -> GraphicalReportHandler {
    let theme = if style.color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    GraphicalReportHandler::new_themed(theme)
        .with_width(style.width)
        .with_links(false)
        .with_context_lines(1)
        .without_syntax_highlighting()
}

fn report(out: &mut String, handler: &GraphicalReportHandler, report: Report<'_>) {
    if handler.render_report(out, &report).is_err() {
        // If the graphical handler fails, the message itself is still shown.
        let _ = writeln!(out, "  {}", escaped(&report.problem.message));
    }
}

/// Returns the places of a problem in the text: its own one, and the related ones.
fn ranges(problem: &Problem, locate: &dyn Fn(&Place) -> Option<Range<usize>>) -> Vec<Option<Range<usize>>> {
    let related = problem.related.iter().map(|(place, _)| place);
    let mut ranges: Vec<_> = std::iter::once(&problem.place).chain(related).map(locate).collect();
    if problem.labels_in_text_order {
        ranges.sort_by_key(|range| range.as_ref().map(|range| range.start));
        ranges.rotate_right(1);
    }
    ranges
}

/// Returns the carets of a report. Two carets at the same place would be drawn on top of each other, so their texts
/// are joined.
fn labels(problem: &Problem, ranges: &[Option<Range<usize>>]) -> Vec<LabeledSpan> {
    let texts = std::iter::once(&problem.label).chain(problem.related.iter().map(|(_, label)| label));
    let mut joined: Vec<(Range<usize>, String)> = Vec::new();
    for (range, label) in ranges.iter().zip(texts).filter_map(|(range, label)| Some((range.clone()?, label))) {
        match joined.iter_mut().find(|(other, _)| *other == range) {
            Some((_, words)) if words.is_empty() => words.clone_from(label),
            Some((_, words)) if !label.is_empty() => {
                words.push_str("; ");
                words.push_str(label);
            }
            Some(_) => {}
            None => joined.push((range, label.clone())),
        }
    }
    let spans = joined.into_iter().enumerate().map(|(n, (range, words))| {
        let words = (!words.is_empty()).then(|| escaped(&words).into_owned());
        let span = (range.start, range.len());
        if n == 0 { LabeledSpan::new_primary_with_span(words, span) } else { LabeledSpan::new_with_span(words, span) }
    });
    spans.collect()
}

/// A problem in the form that miette reads.
#[derive(Debug)]
struct Report<'a> {
    problem: &'a Problem,
    severity: Severity,
    labels: Vec<LabeledSpan>,
    source: &'a Source<'a>,
}

impl std::fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&escaped(&self.problem.message))
    }
}

impl std::error::Error for Report<'_> {}

impl Diagnostic for Report<'_> {
    fn severity(&self) -> Option<Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        let help = escaped(self.problem.help.as_deref()?);
        Some(Box::new(help))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        // Without a place, no lines of the text are shown.
        (!self.labels.is_empty()).then(|| Box::new(self.labels.iter().cloned()) as Box<dyn Iterator<Item = _>>)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Path, Place, Problem};
    use super::{Style, render, render_warnings};

    #[test]
    fn problems_come_in_the_order_of_the_text_and_are_counted() {
        let text = "a: 1\nb: 2\n";
        let problems = [
            Problem::new(Place::value(Path::top().then("b")), "second").label("here"),
            Problem::new(Place::key(Path::top().then("a")), "first").help("do"),
            Problem::new(Place::Nowhere, "about the whole"),
        ];
        let expected = "  \u{d7} about the whole

  \u{d7} first
   \u{256d}\u{2500}[f.yaml:1:1]
 1 \u{2502} a: 1
   \u{b7} \u{2500}
 2 \u{2502} b: 2
   \u{2570}\u{2500}\u{2500}\u{2500}\u{2500}
  help: do

  \u{d7} second
   \u{256d}\u{2500}[f.yaml:2:4]
 1 \u{2502} a: 1
 2 \u{2502} b: 2
   \u{b7}    \u{252c}
   \u{b7}    \u{2570}\u{2500}\u{2500} here
   \u{2570}\u{2500}\u{2500}\u{2500}\u{2500}

error: f.yaml: 3 problems
";
        assert_eq!(render(&problems, "f.yaml", text, Style::default()), expected);
    }

    #[test]
    fn warnings_have_the_lines_of_the_text_and_no_count() {
        let place = Place::value(Path::top().then("b"));
        let warnings = [Problem::new(place, "two").label("this"), Problem::new(Place::Nowhere, "one")];
        let shown = render_warnings(&warnings, "f.yaml", "a: 1\nb: 2\n", Style::default());
        let excerpt = "  \u{26a0} two\n   \u{256d}\u{2500}[f.yaml:2:4]\n 1 \u{2502} a: 1\n 2 \u{2502} b: 2\n";
        assert!(shown.starts_with(&format!("  \u{26a0} one\n\n{excerpt}")), "{shown}");
        assert!(shown.ends_with("this\n   \u{2570}\u{2500}\u{2500}\u{2500}\u{2500}\n\n"), "{shown}");
    }

    #[test]
    fn labels_in_text_order_are_the_same_whichever_place_comes_first_in_the_text() {
        let two = |own: &str, other: &str| {
            let place = |key: &str| Place::key(Path::top().then(key));
            let problem = Problem::new(place(own), "two").label("the second").related(place(other), "the first");
            render(&[problem.in_text_order()], "f.yaml", "a: 1\nb: 2\n", Style::default())
        };
        assert_eq!(two("b", "a"), two("a", "b"));
        let shown = two("a", "b");
        assert!(shown.find("the first") < shown.find("the second") && shown.contains("[f.yaml:2:1]"), "{shown}");
    }

    #[test]
    fn a_line_of_megabytes_is_shown_only_around_the_caret() {
        let text = format!("{}\u{e9}BAD{}", "x".repeat(1 << 20), "y".repeat(1 << 20));
        let at = text.find("BAD").unwrap();
        let far = Problem::new(at..at + 3, "wrong").label("this").related(5..9, "that");
        let out = render(&[far], "f", &text, Style::default());
        assert!(out.len() < 4000, "{}", out.len());
        assert!(out.contains("BAD") && out.contains("this") && out.contains("that"), "{out}");
        assert!(out.contains(&format!("f:1:{}", (1 << 20) + 2)), "{out}");
    }

    #[test]
    fn very_many_problems_are_counted_and_not_all_shown() {
        let problems: Vec<_> = (0..100_000).map(|_| Problem::new(0..1, "x")).collect();
        let out = render(&problems, "f", "a\n", Style::default());
        assert!(out.ends_with("error: f: 100000 problems, of which the first 100 are shown\n"), "{out}");
    }

    #[test]
    fn any_range_of_any_text_can_be_shown() {
        for text in ["", "\n", "\r\n", "\r", "a", "\u{1f600}\n\n\ta\r\n", "a\rb\r\n\r\nc"] {
            for start in 0..text.len() + 2 {
                for length in 0..4 {
                    let problem = Problem::new(start..start + length, "m").label("l").related(0..0, "r");
                    let out = render(&[problem], "f", text, Style { color: true, width: 80 });
                    assert!(out.contains('m'), "{text:?} {start} {length}");
                }
            }
        }
    }
}
