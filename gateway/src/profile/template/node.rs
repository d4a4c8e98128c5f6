//! JSON text that is parsed one level at a time, and only where somebody looks.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// One JSON value as text. What of it is passed on is passed on byte for byte, so that numbers
/// that no machine type holds and unpaired surrogates come through.
#[derive(Debug)]
pub(in crate::profile) struct Node {
    text: Bytes,
    members: OnceLock<Members>,
}

#[derive(Debug)]
enum Members {
    Object(Vec<(String, Bytes)>),
    Array(Vec<Bytes>),
    None,
}

impl Node {
    /// Takes text that is one JSON value.
    #[must_use]
    pub(in crate::profile) fn new(text: Bytes) -> Arc<Self> {
        Arc::new(Self { text, members: OnceLock::new() })
    }

    /// The text.
    #[must_use]
    pub(super) fn text(&self) -> &Bytes {
        &self.text
    }

    /// The member of an object; of several with this name, the last.
    #[must_use]
    pub(super) fn member(&self, name: &str) -> Option<Arc<Self>> {
        let Members::Object(members) = self.members() else { return None };
        let (_, text) = members.iter().rev().find(|(known, _)| known == name)?;
        Some(Self::new(text.clone()))
    }

    /// The element of an array.
    #[must_use]
    pub(super) fn element(&self, index: usize) -> Option<Arc<Self>> {
        let Members::Array(elements) = self.members() else { return None };
        elements.get(index).cloned().map(Self::new)
    }

    /// The value for expressions: texts, integers and so on as what they are; containers, and what
    /// has no other form, as this node.
    #[must_use]
    pub(super) fn to_value(self: &Arc<Self>) -> Value {
        let scalar = match self.text.first() {
            Some(b'"') => serde_json::from_slice::<String>(&self.text).ok().map(Value::from),
            Some(b't' | b'f') => serde_json::from_slice::<bool>(&self.text).ok().map(Value::from),
            Some(b'n') => Some(Value::from(())),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => None,
        };
        scalar.unwrap_or_else(|| Value::from_dyn_object(Arc::clone(self)))
    }

    fn number(&self) -> Option<Value> {
        let text = std::str::from_utf8(&self.text).ok()?;
        let integer = text.parse::<i64>().map(Value::from);
        integer.or_else(|_| text.parse::<u64>().map(Value::from)).ok().or_else(|| {
            let float = text.parse::<f64>().ok().filter(|float| float.is_finite())?;
            Some(Value::from(float))
        })
    }

    fn members(&self) -> &Members {
        self.members.get_or_init(|| match self.text.first() {
            Some(b'{') => serde_json::from_slice::<Pairs<'_>>(&self.text).map_or(
                // A key with an unpaired surrogate, say: it passes, but cannot be looked into.
                Members::None,
                |Pairs(pairs)| {
                    let own = pairs.into_iter();
                    Members::Object(own.map(|(name, raw)| (name, self.part(raw))).collect())
                },
            ),
            Some(b'[') => serde_json::from_slice::<Vec<&RawValue>>(&self.text)
                .map_or(Members::None, |elements| {
                    Members::Array(elements.into_iter().map(|raw| self.part(raw)).collect())
                }),
            _ => Members::None,
        })
    }

    fn part(&self, raw: &RawValue) -> Bytes {
        self.text.slice_ref(raw.get().as_bytes())
    }
}

impl Object for Node {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        match self.text.first() {
            Some(b'{') => ObjectRepr::Map,
            Some(b'[') => ObjectRepr::Seq,
            _ => ObjectRepr::Plain,
        }
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let part = match (key.as_str(), key.as_usize()) {
            (Some(name), _) => self.member(name),
            (None, Some(index)) => self.element(index),
            (None, None) => None,
        };
        part.map(|part| part.to_value())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        match self.members() {
            Members::Object(members) => {
                // Of a name that comes twice, only the last is seen.
                let mut names: Vec<&str> = Vec::with_capacity(members.len());
                let mut seen = std::collections::HashSet::new();
                names.extend(members.iter().map(|(name, _)| &**name).filter(|n| seen.insert(*n)));
                Enumerator::Values(names.into_iter().map(Value::from).collect())
            }
            Members::Array(elements) => Enumerator::Seq(elements.len()),
            Members::None => Enumerator::NonEnumerable,
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text))
    }
}

/// An object's members in their order, repeated ones too.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }

        deserializer.deserialize_map(Collect).map(Pairs)
    }
}
