//! Values that a user may write in more than one way: scalars stored as text, names or inline maps, maps with an
//! order.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, de};

/// The kind of a [`Scalar`]: its types in YAML and its name in the schema.
pub trait ScalarKind {
    /// The name in the schema.
    const NAME: &'static str;
    /// The expected form, for error messages.
    const EXPECTED: &'static str;
    /// The JSON types that are accepted.
    const TYPES: &'static [&'static str];
    /// The meaning, for the schema.
    const DESCRIPTION: &'static str;
}

/// A scalar, stored as text. Its content is checked later, where the place of a mistake can be shown.
pub struct Scalar<K>(pub String, PhantomData<K>);

impl<K> Scalar<K> {
    /// Returns the scalar of a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into(), PhantomData)
    }
}

impl<K> Default for Scalar<K> {
    fn default() -> Self {
        Self::new("")
    }
}

impl<K> Clone for Scalar<K> {
    fn clone(&self) -> Self {
        Self::new(self.0.clone())
    }
}

impl<K> fmt::Debug for Scalar<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<K> PartialEq for Scalar<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<K> Deref for Scalar<K> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de, K: ScalarKind> Deserialize<'de> for Scalar<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor(PhantomData))
    }
}

struct ScalarVisitor<K>(PhantomData<K>);

impl<K: ScalarKind> ScalarVisitor<K> {
    fn accept<E: Error>(&self, kind: &str, text: impl fmt::Display, found: de::Unexpected<'_>) -> Result<Scalar<K>, E> {
        if K::TYPES.contains(&kind) || (kind == "integer" && K::TYPES.contains(&"number")) {
            Ok(Scalar::new(text.to_string()))
        } else {
            Err(E::invalid_type(found, self))
        }
    }
}

impl<K: ScalarKind> Visitor<'_> for ScalarVisitor<K> {
    type Value = Scalar<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(K::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::new(text))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Self::Value, E> {
        Ok(Scalar::new(text))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        self.accept("integer", number, de::Unexpected::Unsigned(number))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        self.accept("integer", number, de::Unexpected::Signed(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        self.accept("number", number, de::Unexpected::Float(number))
    }

    fn visit_bool<E: Error>(self, yes: bool) -> Result<Self::Value, E> {
        self.accept("boolean", yes, de::Unexpected::Bool(yes))
    }
}

impl<K: ScalarKind> JsonSchema for Scalar<K> {
    fn schema_name() -> Cow<'static, str> {
        K::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        match K::TYPES {
            [only] => json_schema!({ "type": only, "description": K::DESCRIPTION }),
            many => json_schema!({ "type": many, "description": K::DESCRIPTION }),
        }
    }
}

macro_rules! kind {
    ($(#[doc = $doc:literal])* $name:ident = $alias:ident, $types:expr, $expected:literal) => {
        #[doc = concat!("Marks ", stringify!($alias), ".")]
        pub enum $name {}

        impl ScalarKind for $name {
            const NAME: &'static str = stringify!($alias);
            const EXPECTED: &'static str = $expected;
            const TYPES: &'static [&'static str] = &$types;
            const DESCRIPTION: &'static str = concat!($($doc),*).trim_ascii();
        }

        $(#[doc = $doc])*
        pub type $alias = Scalar<$name>;
    };
}

kind! {
    /// A string; whole numbers and booleans are used as they are written. A number with a point must be quoted,
    /// because
    /// 1.10 would become 1.1.
    TextKind = Text, ["string", "integer", "boolean"], "a string"
}
kind! {
    /// A number of bytes: `512MiB`, `10GB`, or bytes as a plain number.
    SizeKind = Size, ["string", "integer"], "a size, such as 512MiB"
}
kind! {
    /// A length of time with its unit: `90s`, `10m`, `1h 30m`.
    DurationKind = Duration, ["string"], "a duration with its unit, such as 90s or 10m"
}
kind! {
    /// A number of processors: `2`, `1.5`.
    CpusKind = Cpus, ["string", "number"], "a number of processors, such as 1.5"
}
kind! {
    /// Permission bits in octal, as a string: `"0660"`.
    ModeKind = Mode, ["string"], "an octal mode in quotes, such as \"0660\""
}
kind! {
    /// `UID[:GID]` or `USER[:GROUP]`.
    UserKind = User, ["string", "integer"], "a user, such as 1000:1000 or builder"
}

/// The setting `source_date_epoch`: a time, or a way to find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epoch {
    /// `none`: snapshots store real times.
    RealTimes,
    /// `git`: the time of the last commit.
    LastCommit,
    /// A number of seconds since 1970.
    Seconds(u64),
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EpochVisitor;

        impl Visitor<'_> for EpochVisitor {
            type Value = Epoch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds since 1970 (at most 4294967295, the latest time of squashfs), `git` or `none`")
            }

            fn visit_u64<E: Error>(self, seconds: u64) -> Result<Epoch, E> {
                if seconds > u64::from(u32::MAX) {
                    return Err(E::invalid_value(de::Unexpected::Unsigned(seconds), &self));
                }
                Ok(Epoch::Seconds(seconds))
            }

            fn visit_i64<E: Error>(self, seconds: i64) -> Result<Epoch, E> {
                match u64::try_from(seconds) {
                    Ok(seconds) => self.visit_u64(seconds),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(seconds), &self)),
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Epoch, E> {
                match text {
                    "none" => Ok(Epoch::RealTimes),
                    "git" => Ok(Epoch::LastCommit),
                    _ => Err(E::invalid_type(de::Unexpected::Str(text), &self)),
                }
            }
        }

        deserializer.deserialize_any(EpochVisitor)
    }
}

impl JsonSchema for Epoch {
    fn schema_name() -> Cow<'static, str> {
        "Epoch".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            {
                "type": "integer", "minimum": 0, "maximum": u32::MAX,
                "description": "Seconds since 1970.", "examples": [0],
                "errorMessage": "write seconds since 1970, git, or none",
            },
            {
                "enum": ["git", "none"],
                "enumDescriptions": [
                    "The time of the last commit of the repository that the manifest is in.",
                    "Snapshots store real times.",
                ],
            },
        ] })
    }
}

/// A definition that can be written in place of its name.
pub trait InPlace: DeserializeOwned {
    /// The expected form, for error messages.
    const EXPECTED: &'static str;
    /// The description of a name, for the schema.
    const NAME: &'static str;
    /// The examples of names in the schema.
    const NAMES: &'static [&'static str];
}

/// The name of a definition of the manifest, or the definition itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Reference<T> {
    /// The name.
    Name(String),
    /// The definition, written in place.
    Here(Box<T>),
}

impl<'de, T: InPlace> Deserialize<'de> for Reference<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ReferenceVisitor<T>(PhantomData<T>);

        impl<'de, T: InPlace> Visitor<'de> for ReferenceVisitor<T> {
            type Value = Reference<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Reference::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|here| Reference::Here(Box::new(here)))
            }
        }

        deserializer.deserialize_any(ReferenceVisitor(PhantomData))
    }
}

impl<T: JsonSchema + InPlace> JsonSchema for Reference<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}OrName", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let name = json_schema!({ "type": "string", "description": T::NAME, "examples": T::NAMES });
        json_schema!({ "anyOf": [name, generator.subschema_for::<T>()] })
    }
}

/// A map from names, in the order of the manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Named<T>(pub Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Named<T> {
    /// Returns the names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamedVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Named(entries))
            }
        }

        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("MapOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}
