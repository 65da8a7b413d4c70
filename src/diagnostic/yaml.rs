//! The places of all nodes of a YAML text, from one pass over a parser's events with marks; made only if there is a
//! problem.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::place::{At, Path, Segment};

/// The places of all nodes of a YAML document, as far as it can be parsed.
#[derive(Debug, Default)]
pub struct YamlPlaces {
    nodes: Vec<Node>,
    duplicate_keys: Vec<DuplicateKey>,
}

/// A key that is written twice in one map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateKey {
    /// The key's path.
    pub path: Path,
    /// The bytes of the first one.
    pub first: Range<usize>,
    /// The bytes of the second one.
    pub second: Range<usize>,
}

#[derive(Debug)]
struct Node {
    key: Option<Range<usize>>,
    value: Range<usize>,
    inside: NodeContent,
}

#[derive(Debug)]
enum NodeContent {
    /// A scalar, an alias, or nothing.
    Leaf,
    List(Vec<usize>),
    Map(HashMap<String, usize>),
}

/// A collection whose end has not been read yet.
struct OpenCollection {
    node: usize,
    /// Its segment in its parent; `None` if no path leads there (at the top, or inside a key).
    segment: Option<Segment>,
    /// The key whose value is read next: its text, if it is a scalar, and its bytes.
    key: Option<(Option<String>, Range<usize>)>,
    is_key: bool,
}

impl YamlPlaces {
    /// Reads the first document of `text`. Nodes after a syntax error have no places.
    pub fn read(text: &str) -> Self {
        let bytes = Bytes::new(text);
        let mut places = Self::default();
        let mut open: Vec<OpenCollection> = Vec::new();
        let mut anchors: HashMap<usize, String> = HashMap::new();
        let mut parser = Parser::new_from_str(text);
        while let Some(Ok((event, span))) = parser.next_event() {
            let range = bytes.range(span);
            match event {
                Event::DocumentEnd | Event::StreamEnd => break,
                Event::SequenceStart(..) => places.enter(&mut open, range, NodeContent::List(Vec::new())),
                Event::MappingStart(..) => places.enter(&mut open, range, NodeContent::Map(HashMap::new())),
                Event::SequenceEnd | Event::MappingEnd => {
                    if let Some(closed) = open.pop() {
                        let node = &mut places.nodes[closed.node];
                        node.value.end = range.end.max(node.value.end);
                        if closed.is_key
                            && let Some(parent) = open.last_mut()
                        {
                            parent.key = Some((None, node.value.clone()));
                        }
                    }
                }
                Event::Scalar(value, style, anchor, _) => {
                    if anchor != 0 {
                        anchors.insert(anchor, value.to_string());
                    }
                    let range = trim(text, range, style);
                    places.leaf(&mut open, range, Some(&value));
                }
                Event::Alias(anchor) => places.leaf(&mut open, range, anchors.get(&anchor).map(String::as_str)),
                Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => {}
            }
        }
        places
    }

    /// Returns the keys that are written twice, in the order of the text.
    pub fn duplicate_keys(&self) -> &[DuplicateKey] {
        &self.duplicate_keys
    }

    /// Returns the bytes of a part of a node. If the text does not contain the node (an alias stands for it, for
    /// example), returns those of the nearest node around it; `None` only for a text without nodes.
    pub fn find(&self, text: &str, path: &Path, at: &At) -> Option<Range<usize>> {
        let mut node = self.nodes.first()?;
        let mut complete = true;
        for segment in path.segments() {
            let next = match (&node.inside, segment) {
                (NodeContent::List(items), Segment::Index(index)) => items.get(*index),
                (NodeContent::Map(entries), Segment::Key(key)) => entries.get(key),
                _ => None,
            };
            let Some(&next) = next else {
                complete = false;
                break;
            };
            node = &self.nodes[next];
        }
        Some(match at {
            // An alias has no nodes inside: its content is shown at the alias.
            _ if !complete && matches!(node.inside, NodeContent::Leaf) => self.value(text, node),
            _ if !complete => self.head(text, node),
            At::Key => node.key.clone().unwrap_or_else(|| self.value(text, node)),
            At::Value | At::Missing => self.value(text, node),
            At::Word(word) => word_in(text, &node.value, word).unwrap_or_else(|| self.value(text, node)),
            At::Variable(name) => variable_in(text, &node.value, name).unwrap_or_else(|| self.value(text, node)),
        })
    }

    /// Returns a value's bytes; for a collection of several lines, those of its key or of its beginning.
    fn value(&self, text: &str, node: &Node) -> Range<usize> {
        match node.inside {
            NodeContent::Leaf if !node.value.is_empty() => node.value.clone(),
            NodeContent::Leaf => self.head(text, node),
            NodeContent::List(_) | NodeContent::Map(_) if is_flow(text, node) && one_line(text, &node.value) => {
                node.value.clone()
            }
            NodeContent::List(_) | NodeContent::Map(_) => self.head(text, node),
        }
    }

    /// Returns the head of a node: its key, or for an element of a list its first key.
    fn head(&self, text: &str, node: &Node) -> Range<usize> {
        if let Some(key) = &node.key {
            return key.clone();
        }
        let first = match &node.inside {
            NodeContent::Leaf => None,
            NodeContent::List(items) => items.first().map(|&item| self.nodes[item].value.clone()),
            NodeContent::Map(entries) => {
                entries.values().filter_map(|&entry| self.nodes[entry].key.clone()).min_by_key(|key| key.start)
            }
        };
        match first {
            Some(first) if !is_flow(text, node) => first,
            _ if one_line(text, &node.value) => node.value.clone(),
            _ => node.value.start..node.value.start + 1,
        }
    }

    fn enter(&mut self, open: &mut Vec<OpenCollection>, range: Range<usize>, inside: NodeContent) {
        let is_map_key = open.last().is_some_and(|parent| self.is_map(parent.node) && parent.key.is_none());
        let (node, segment) = if is_map_key {
            self.nodes.push(Node { key: None, value: range, inside });
            (self.nodes.len() - 1, None)
        } else {
            self.add(open, range, inside)
        };
        open.push(OpenCollection { node, segment, key: None, is_key: is_map_key });
    }

    fn leaf(&mut self, open: &mut [OpenCollection], range: Range<usize>, text: Option<&str>) {
        match open.last_mut() {
            Some(parent) if parent.key.is_none() && matches!(self.nodes[parent.node].inside, NodeContent::Map(_)) => {
                parent.key = Some((text.map(str::to_owned), range));
            }
            _ => {
                self.add(open, range, NodeContent::Leaf);
            }
        }
    }

    /// Adds a value to the open collection. Returns the segment that leads to it.
    fn add(
        &mut self,
        open: &mut [OpenCollection],
        value: Range<usize>,
        inside: NodeContent,
    ) -> (usize, Option<Segment>) {
        let node = self.nodes.len();
        let Some(parent) = open.last_mut() else {
            self.nodes.push(Node { key: None, value, inside });
            return (node, None);
        };
        let Some((key, key_range)) = parent.key.take() else {
            self.nodes.push(Node { key: None, value, inside });
            let NodeContent::List(items) = &mut self.nodes[parent.node].inside else { return (node, None) };
            items.push(node);
            return (node, Some(Segment::Index(items.len() - 1)));
        };
        self.nodes.push(Node { key: Some(key_range.clone()), value, inside });
        let Some(key) = key else { return (node, None) };
        let NodeContent::Map(entries) = &mut self.nodes[parent.node].inside else { return (node, None) };
        if let Some(&first) = entries.get(&key) {
            let segment = Segment::Key(key);
            // Every collection with a path, except the top, has a segment.
            let around: Option<Vec<_>> = open.iter().skip(1).map(|open| open.segment.clone()).collect();
            if let (Some(around), Some(first)) = (around, self.nodes[first].key.clone()) {
                let path = around.into_iter().chain([segment.clone()]).collect();
                self.duplicate_keys.push(DuplicateKey { path, first, second: key_range });
            }
            return (node, None);
        }
        entries.insert(key.clone(), node);
        (node, Some(Segment::Key(key)))
    }

    fn is_map(&self, node: usize) -> bool {
        matches!(self.nodes[node].inside, NodeContent::Map(_))
    }
}

fn is_flow(text: &str, node: &Node) -> bool {
    text.as_bytes().get(node.value.start).is_some_and(|&byte| byte == b'[' || byte == b'{')
}

fn one_line(text: &str, range: &Range<usize>) -> bool {
    !text[range.clone()].contains('\n')
}

/// Returns the range of a block scalar without the beginning of its indicator line and its trailing line ends.
fn trim(text: &str, range: Range<usize>, style: ScalarStyle) -> Range<usize> {
    if !matches!(style, ScalarStyle::Literal | ScalarStyle::Folded | ScalarStyle::Plain) {
        return range;
    }
    let trimmed = text[range.clone()].trim_end();
    range.start..range.start + trimmed.len()
}

/// Returns the first place in `range` where `word` is a whole word, or else the first place.
fn word_in(text: &str, range: &Range<usize>, word: &str) -> Option<Range<usize>> {
    if word.is_empty() {
        return None;
    }
    let value = text.get(range.clone())?;
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'));
    let alone = |at: &usize| {
        !is_letter(value[..*at].chars().next_back()) && !is_letter(value[at + word.len()..].chars().next())
    };
    let mut places = value.match_indices(word).map(|(at, _)| at);
    let at = places.find(alone).or_else(|| value.find(word))?;
    Some(range.start + at..range.start + at + word.len())
}

/// Returns the name inside the first `${{ name }}` in `range`.
fn variable_in(text: &str, range: &Range<usize>, name: &str) -> Option<Range<usize>> {
    let value = text.get(range.clone())?;
    for (open, lead) in value.match_indices("${{") {
        let from = open + lead.len();
        let inside = &value[from..from + value[from..].find("}}")?];
        if inside.trim() == name {
            let start = range.start + from + (inside.len() - inside.trim_start().len());
            // An empty name is shown by the braces around it.
            return Some(if name.is_empty() { range.start + open..start + 2 } else { start..start + name.len() });
        }
    }
    None
}

/// Converts the marks of the parser, which count characters, to bytes.
struct Bytes {
    length: usize,
    /// The first byte of each character; `None` if the text is ASCII.
    starts: Option<Vec<usize>>,
}

impl Bytes {
    fn new(text: &str) -> Self {
        let starts = (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect());
        Self { length: text.len(), starts }
    }

    fn range(&self, span: Span) -> Range<usize> {
        let start = self.at(span.start.index());
        start..self.at(span.end.index()).max(start)
    }

    fn at(&self, index: usize) -> usize {
        match &self.starts {
            None => index.min(self.length),
            Some(starts) => starts.get(index).copied().unwrap_or(self.length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{At, Path, Segment, YamlPlaces};

    fn path(written: &str) -> Path {
        let segment = |part: &str| part.parse().map_or_else(|_| Segment::from(part), Segment::Index);
        written.split('/').filter(|part| !part.is_empty()).map(segment).collect()
    }

    fn shown<'t>(text: &'t str, written: &str, at: &At) -> &'t str {
        &text[YamlPlaces::read(text).find(text, &path(written), at).unwrap()]
    }

    #[test]
    fn keys_and_values_of_block_and_flow_are_found() {
        let text = "a:\n  - b: one\n    c: {d: [x, 'two words'], e: \"f\"}\n";
        assert_eq!(shown(text, "a", &At::Key), "a");
        assert_eq!(shown(text, "a", &At::Value), "a", "a collection of many lines is shown by its key");
        assert_eq!(shown(text, "a/0", &At::Value), "b", "an element is shown by its first key");
        assert_eq!(shown(text, "a/0/b", &At::Value), "one");
        assert_eq!(shown(text, "a/0/c", &At::Value), "{d: [x, 'two words'], e: \"f\"}");
        assert_eq!(shown(text, "a/0/c/d/1", &At::Value), "'two words'");
        assert_eq!(shown(text, "a/0/c/e", &At::Value), "\"f\"");
        assert_eq!(shown(text, "a/0/missing", &At::Missing), "b");
        assert_eq!(shown(text, "a/0/c/missing", &At::Missing), "c");
    }

    #[test]
    fn a_word_is_found_where_it_is_a_whole_word() {
        let text = "run: |\r\n  needless\r\n  echo ${{ need }} need\r\nnext: x\r\n";
        let places = YamlPlaces::read(text);
        let word = places.find(text, &path("run"), &At::Word("need".into())).unwrap();
        assert_eq!(&text[word.start - 4..word.end], "${{ need");
        assert_eq!(shown(text, "run", &At::Variable("need".into())), "need");
        assert_eq!(shown(text, "next", &At::Word("y".into())), "x", "a word that is not there gives the whole value");
    }

    #[test]
    fn the_content_of_an_alias_is_shown_at_the_alias() {
        let text = "x: &a {y: 1}\nz: *a\nl: [*a]\n";
        assert_eq!(shown(text, "x/y", &At::Value), "1");
        assert_eq!(shown(text, "z/y", &At::Value), "*a");
        assert_eq!(shown(text, "l/0/y", &At::Key), "*a");
    }

    #[test]
    fn places_are_correct_after_characters_of_several_bytes() {
        let text = "k: [\"\u{e9}\u{1f600}\", \u{65e5}\u{672c}, z]\n";
        assert_eq!(shown(text, "k/0", &At::Value), "\"\u{e9}\u{1f600}\"");
        assert_eq!(shown(text, "k/1", &At::Value), "\u{65e5}\u{672c}");
        assert_eq!(shown(text, "k/2", &At::Value), "z");
    }

    #[test]
    fn every_duplicate_key_is_found_with_both_places() {
        let text = "a: 1\nb: {c: 1, d: 2, c: 3}\na: 2\n? [x]\n: 1\n? [x]\n: 2\n";
        let duplicate_keys = YamlPlaces::read(text).duplicate_keys().to_vec();
        let found: Vec<_> =
            duplicate_keys.iter().map(|d| (d.path.to_string(), d.first.start, &text[d.second.clone()])).collect();
        assert_eq!(found, [("b.c".to_owned(), 9, "c"), ("a".to_owned(), 0, "a")]);
    }

    #[test]
    fn after_a_syntax_error_earlier_nodes_have_places() {
        let text = "a: 1\nb: [1, 2\nc: 3\n";
        assert_eq!(shown(text, "a", &At::Value), "1");
        assert!(YamlPlaces::read(text).find(text, &path("c"), &At::Value).is_some());
        assert_eq!(YamlPlaces::read("").find("", &path("c"), &At::Value), None);
    }
}
