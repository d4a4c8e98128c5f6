//! What can be configured, as the doc comments and types of the sections say.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::{
    key::{Key, Step},
    sections::Raw,
};

/// The JSON schema of the configuration, or of a part of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema<'a>(&'a Value);

/// The JSON schema of all of the configuration, without references.
#[must_use]
pub(crate) fn generate() -> Value {
    generate_for::<Raw>()
}

/// The JSON schema of another document, without references.
#[must_use]
pub(crate) fn generate_for<T: JsonSchema>() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

impl<'a> Schema<'a> {
    /// The part of it that this is.
    #[must_use]
    pub(crate) fn new(schema: &'a Value) -> Self {
        Self(schema)
    }

    /// What may stand at this place.
    #[must_use]
    pub(crate) fn at(self, key: &Key) -> Option<Self> {
        key.0.iter().try_fold(self, |schema, step| match step {
            Step::Name(name) => schema.entry(name),
            Step::Index(_) => schema.0.get("items").map(Self),
        })
    }

    /// What may stand in an entry of the table.
    #[must_use]
    pub(crate) fn entry(self, name: &str) -> Option<Self> {
        let named = self.properties().and_then(|properties| properties.get(name));
        named.or_else(|| self.0.get("additionalProperties").filter(|any| any.is_object())).map(Self)
    }

    /// The names of the entries that have one.
    pub(crate) fn names(self) -> impl Iterator<Item = &'a str> {
        self.properties().into_iter().flat_map(|properties| properties.keys().map(String::as_str))
    }

    /// Whether it is of this JSON type, or absent.
    #[must_use]
    pub(crate) fn is(self, wanted: &str) -> bool {
        match self.0.get("type") {
            Some(Value::String(one)) => one == wanted,
            Some(Value::Array(several)) => several.iter().any(|one| one == wanted),
            _ => false,
        }
    }

    /// Whether the value must not be shown.
    #[must_use]
    pub(crate) fn is_secret(self) -> bool {
        self.0.get("writeOnly").is_some()
    }

    /// The doc comment.
    #[must_use]
    pub(crate) fn description(self) -> &'a str {
        self.0.get("description").and_then(Value::as_str).unwrap_or_default()
    }

    /// The default, where there is one.
    #[must_use]
    pub(crate) fn default(self) -> Option<&'a Value> {
        self.0.get("default").filter(|value| !value.is_null())
    }

    /// Whether a running gateway takes over what is written here; what is in it has no mark then.
    #[must_use]
    pub(crate) fn is_reloadable(self) -> bool {
        self.0.get("x-reloadable").is_some()
    }

    /// The same, of a place in it.
    #[must_use]
    pub(crate) fn is_reloadable_at(self, key: &Key) -> bool {
        let ends = 1..=key.0.len();
        let mut ways = ends.map(|end| Key(key.0[..end].to_vec()));
        ways.any(|way| self.at(&way).is_some_and(Self::is_reloadable))
    }

    fn properties(self) -> Option<&'a Map<String, Value>> {
        self.0.get("properties").and_then(Value::as_object)
    }
}
