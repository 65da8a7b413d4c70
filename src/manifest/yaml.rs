//! Reads YAML text as a tree of values. Only this file uses the YAML library.
//!
//! serde_yaml's own limit on aliases grows with the text, so that a text of a few megabytes could still expand to
//! terabytes; so values and bytes are counted here. Its parser has no limit on nesting, and its time grows with the
//! square of the depth; so the nesting of a text with many brackets is checked first.

use std::cell::Cell;
use std::fmt;

use saphyr_parser::{Event, Parser, ScanError};
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_yaml::value::{Tag, TaggedValue};
use serde_yaml::{Mapping, Value};

use super::quotes::fix_of_line;
use crate::diagnostic::{Place, Problem};

/// The most values in a manifest; the values of an alias count each time.
const MAX_VALUES: usize = 1_000_000;
/// The most bytes of text in the values, counted likewise.
const MAX_BYTES: usize = 32 << 20;
/// The deepest nesting. serde_yaml refuses more too, but only after its parser has used much time.
const MAX_DEPTH: usize = 100;

/// The content of a text.
pub(super) struct Document {
    pub value: Value,
    /// A map has a key twice; `value` has the first.
    pub has_duplicate_keys: bool,
}

/// Reads the only document of `text`, which has no byte order mark. Of duplicate keys the first is used.
pub(super) fn read(text: &str) -> Result<Document, Box<Problem>> {
    refuse_deep_nesting(text)?;
    let count = Counter {
        values: Cell::new(0),
        bytes: Cell::new(0),
        has_duplicate_keys: Cell::new(false),
        full: Cell::new(false),
    };
    match Tree(&count).deserialize(serde_yaml::Deserializer::from_str(text)) {
        Ok(value) => Ok(Document { value, has_duplicate_keys: count.has_duplicate_keys.get() }),
        Err(_) if count.full.get() => Err(Box::new(alias_bomb(text))),
        Err(error) if error.to_string().contains("repetition limit exceeded") => Err(Box::new(alias_bomb(text))),
        Err(error) => Err(Box::new(syntax(text, &error))),
    }
}

struct Counter {
    values: Cell<usize>,
    bytes: Cell<usize>,
    has_duplicate_keys: Cell<bool>,
    full: Cell<bool>,
}

/// Reads a value and all values inside it.
#[derive(Clone, Copy)]
struct Tree<'c>(&'c Counter);

impl Tree<'_> {
    fn count<E: Error>(self, bytes: usize) -> Result<(), E> {
        self.0.values.set(self.0.values.get() + 1);
        self.0.bytes.set(self.0.bytes.get() + bytes);
        if self.0.values.get() > MAX_VALUES || self.0.bytes.get() > MAX_BYTES {
            self.0.full.set(true);
            return Err(E::custom("too many values"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.count(0)?;
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_bool<E: Error>(self, yes: bool) -> Result<Value, E> {
        self.count(0)?;
        Ok(Value::Bool(yes))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        self.count(0)?;
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        self.count(0)?;
        Ok(Value::Number(number.into()))
    }

    // Numbers that are too large for every field: as text they are either used as they are written, or refused.
    fn visit_i128<E: Error>(self, number: i128) -> Result<Value, E> {
        self.visit_string(number.to_string())
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Value, E> {
        self.visit_string(number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        self.count(0)?;
        Ok(Value::Number(number.into()))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        self.count(text.len())?;
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        self.count(text.len())?;
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.count(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Sequence(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.count(0)?;
        let mut map = Mapping::new();
        while let Some(key) = entries.next_key_seed(self)? {
            let value = entries.next_value_seed(self)?;
            match map.entry(key) {
                serde_yaml::mapping::Entry::Vacant(vacant) => drop(vacant.insert(value)),
                serde_yaml::mapping::Entry::Occupied(_) => self.0.has_duplicate_keys.set(true),
            }
        }
        Ok(Value::Mapping(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Value, A::Error> {
        let (tag, contents) = access.variant::<String>()?;
        let value = contents.newtype_variant_seed(self)?;
        // Only the presence of a tag matters, and an empty tag would make the library panic.
        let tag = if tag.trim_start_matches('!').is_empty() { "!".to_owned() + "empty" } else { tag };
        Ok(Value::Tagged(Box::new(TaggedValue { tag: Tag::new(tag), value })))
    }
}

fn refuse_deep_nesting(text: &str) -> Result<(), Box<Problem>> {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    // Brackets in scripts and comments are counted too: only a parser can count exactly.
    if deepest <= MAX_DEPTH {
        return Ok(());
    }
    let too_deep = |at| {
        Problem::new(at, format!("lists and maps are nested more than {MAX_DEPTH} deep"))
            .label("here")
            .help("no manifest needs that: is this the right file?")
    };
    let mut depth = 0;
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((Event::SequenceStart(..) | Event::MappingStart(..), span)) => {
                depth += 1;
                if depth > MAX_DEPTH {
                    let at = byte_of(text, span.start.index());
                    return Err(Box::new(too_deep(at..at + 1)));
                }
            }
            Ok((Event::SequenceEnd | Event::MappingEnd, _)) => depth -= 1,
            Ok((Event::StreamEnd, _)) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(Box::new(parse_error(text, &error))),
        }
    }
    Ok(())
}

/// Returns the problem of an alias alias_bomb, at its last alias, which has the most values.
fn alias_bomb(text: &str) -> Problem {
    let mut last = None;
    let mut parser = Parser::new_from_str(text);
    while let Some(Ok((event, span))) = parser.next_event() {
        match event {
            Event::Alias(_) => last = Some(span),
            Event::StreamEnd => break,
            _ => {}
        }
    }
    let Some(span) = last else {
        return Problem::new(Place::Nowhere, format!("the manifest has more than {MAX_VALUES} values"))
            .help("no build needs that: is this the right file?");
    };
    let message = format!(
        "the manifest is too large once its aliases are written out: at most {MAX_VALUES} values and {} MiB of text",
        MAX_BYTES >> 20
    );
    Problem::new(byte_of_range(text, span), message)
        .label("this alias has too many values")
        .help("write the values out, without aliases of aliases")
}

/// Returns the problem of a text that the YAML library cannot read.
fn syntax(text: &str, error: &serde_yaml::Error) -> Problem {
    let message = error.to_string();
    if message.contains("more than one document") {
        return second_document(text);
    }
    // The library stops at such a character before it has counted lines.
    let is_control = |c: &char| matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\x7f'..='\u{84}' | '\u{86}'..='\u{9f}');
    if message.starts_with("control characters")
        && let Some((at, found)) =
            text.char_indices().find(|(_, c)| is_control(c) || matches!(c, '\u{fffe}' | '\u{ffff}'))
    {
        return Problem::new(at..at + found.len_utf8(), "cannot read the YAML: a control character is not allowed")
            .label(format!("this is {}", found.escape_unicode()))
            .help(format!("remove it, or write it as an escape in double quotes: \"\\x{:02x}\"", u32::from(found)));
    }
    let (what, context) = match message.split_once(" at line ") {
        Some((what, rest)) => (what, rest.split_once(", ").map(|(_, context)| context)),
        None => (message.as_str(), None),
    };
    let at = error.location().map_or(0, |location| byte_of(text, location.index()));
    let problem = Problem::new(at..at + 1, format!("cannot read the YAML: {what}")).label("here");
    let problem = match text[..at].chars().next_back().into_iter().chain(text[at..].chars().next()).any(|c| c == '\t') {
        true => problem.help("YAML is indented with spaces, not with tabs"),
        false => match fix_of_line(line_of(text, at), at - start_of_line(text, at)) {
            Some(help) => problem.help(help),
            None => problem,
        },
    };
    match context.and_then(|context| context_place(text, context)) {
        Some((start, context)) if start != at => problem.related(start..start + 1, context),
        _ => problem,
    }
}

fn start_of_line(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |end| end + 1)
}

fn line_of(text: &str, at: usize) -> &str {
    text[start_of_line(text, at)..].lines().next().unwrap_or_default()
}

/// Returns the problem of text after the end of the first document: a second document, or other text.
fn second_document(text: &str) -> Problem {
    let mut documents = 0;
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((Event::DocumentStart(_), span)) => {
                documents += 1;
                if documents == 2 {
                    return Problem::new(byte_of_range(text, span), "there is more than one YAML document")
                        .label("the second begins here")
                        .help("a manifest is one document: remove the `---`, or write a second file");
                }
            }
            Ok((Event::StreamEnd, _)) => break,
            Ok(_) => {}
            Err(error) => return parse_error(text, &error),
        }
    }
    Problem::new(Place::Nowhere, "there is something after the end of the YAML document")
}

/// Returns the problem of a text that the parser with marks cannot read.
fn parse_error(text: &str, error: &ScanError) -> Problem {
    let at = byte_of(text, error.marker().index());
    Problem::new(at..at + 1, format!("cannot read the YAML: {}", error.info())).label("here")
}

/// Splits `while parsing a block mapping at line 3 column 2` into the position and the words.
fn context_place(text: &str, context: &str) -> Option<(usize, String)> {
    let (words, place) = context.split_once(" at line ")?;
    let (line, column) = place.split_once(" column ")?;
    let (line, column): (usize, usize) = (line.parse().ok()?, column.parse().ok()?);
    let (before, _) = text.split('\n').take(line.checked_sub(1)?).fold((0, ()), |(at, ()), l| (at + l.len() + 1, ()));
    let in_line = text.get(before..)?.char_indices().nth(column.checked_sub(1)?)?.0;
    Some((before + in_line, words.to_owned()))
}

fn byte_of(text: &str, character: usize) -> usize {
    text.char_indices().nth(character).map_or(text.len(), |(at, _)| at)
}

fn byte_of_range(text: &str, span: saphyr_parser::Span) -> std::ops::Range<usize> {
    byte_of(text, span.start.index())..byte_of(text, span.end.index())
}
