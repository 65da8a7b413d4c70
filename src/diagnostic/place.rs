//! The place of a problem in a text: a path through its structure, or a range of its bytes.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Range;

/// One step from a node to a node inside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// The value of a key of a map.
    Key(String),
    /// An element of a list, from 0.
    Index(usize),
}

impl From<&str> for Segment {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for Segment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// The path from the top of a document to a node; written `steps[3].needs[0]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Path(Vec<Segment>);

impl Path {
    /// Returns the path of the document itself.
    pub fn top() -> Self {
        Self::default()
    }

    /// Returns the path of a node inside this one.
    #[must_use]
    pub fn then(&self, segment: impl Into<Segment>) -> Self {
        let mut segments = Vec::with_capacity(self.0.len() + 1);
        segments.extend_from_slice(&self.0);
        segments.push(segment.into());
        Self(segments)
    }

    /// Returns the segments, from the top down.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// Returns the path of the node that contains this one, unless it is the top.
    pub fn parent(&self) -> Option<Self> {
        let (_, parents) = self.0.split_last()?;
        Some(Self(parents.to_vec()))
    }
}

/// Finds paths in a set by their segments. Both have the same hash, since a path is only its segments.
impl Borrow<[Segment]> for Path {
    fn borrow(&self) -> &[Segment] {
        &self.0
    }
}

impl FromIterator<Segment> for Path {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Self(segments.into_iter().collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if n == 0 => write!(f, "{key}")?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A path to a node on the stack of the code that walks there: it costs nothing until it becomes a [`Path`].
#[derive(Debug, Clone, Copy)]
pub struct Trail<'t>(Option<(&'t Trail<'t>, Link<'t>)>);

#[derive(Debug, Clone, Copy)]
enum Link<'t> {
    Key(&'t str),
    Index(usize),
}

impl Trail<'_> {
    /// The document itself.
    pub const TOP: Trail<'static> = Trail(None);

    /// Returns the trail to the value of a key.
    pub fn key<'t>(&'t self, key: &'t str) -> Trail<'t> {
        Trail(Some((self, Link::Key(key))))
    }

    /// Returns the trail to an element of a list.
    pub fn index(&self, index: usize) -> Trail<'_> {
        Trail(Some((self, Link::Index(index))))
    }

    /// Returns whether this is the document itself.
    pub fn is_top(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the trail as a path.
    pub fn path(&self) -> Path {
        let mut segments = Vec::new();
        let mut trail = self;
        while let Some((parent, link)) = &trail.0 {
            segments.push(match link {
                Link::Key(key) => Segment::Key((*key).to_owned()),
                Link::Index(index) => Segment::Index(*index),
            });
            trail = parent;
        }
        segments.reverse();
        Path(segments)
    }
}

impl From<&Trail<'_>> for Place {
    /// Returns the place of the value.
    fn from(trail: &Trail<'_>) -> Self {
        Self::value(trail.path())
    }
}

/// A part of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum At {
    /// The key itself.
    Key,
    /// The value.
    Value,
    /// A word inside the value's text; the whole value if the text does not contain it literally.
    Word(String),
    /// The name of a variable, inside `${{ … }}`.
    Variable(String),
    /// A missing node: the head of the map that should contain it.
    Missing,
}

/// The place of a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// No place in the text: the command line, for example, or the whole file.
    Nowhere,
    /// A range of bytes of the text.
    Bytes(Range<usize>),
    /// A part of a node.
    Node(Path, At),
}

impl Place {
    /// Returns the place of a key.
    pub fn key(path: Path) -> Self {
        Self::Node(path, At::Key)
    }

    /// Returns the place of a value.
    pub fn value(path: Path) -> Self {
        Self::Node(path, At::Value)
    }

    /// Returns the place of a word inside a value.
    pub fn word(path: Path, word: impl Into<String>) -> Self {
        Self::Node(path, At::Word(word.into()))
    }

    /// Returns the place of a missing key; `path` ends in that key.
    pub fn missing(path: Path) -> Self {
        Self::Node(path, At::Missing)
    }

    /// Returns the path, if there is one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Node(path, _) => Some(path),
            Self::Nowhere | Self::Bytes(_) => None,
        }
    }
}

impl From<Range<usize>> for Place {
    fn from(range: Range<usize>) -> Self {
        Self::Bytes(range)
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn a_path_is_written_with_points_and_brackets() {
        let path = Path::top().then("steps").then(3).then("needs").then(0);
        assert_eq!(path.to_string(), "steps[3].needs[0]");
        assert_eq!(path.parent().map(|p| p.to_string()).as_deref(), Some("steps[3].needs"));
        assert_eq!(Path::top().to_string(), "");
    }
}
