//! The variables that a template sees.

use std::{borrow::Cow, sync::Arc};

use broker_core::{Data, Timestamp};
use bytes::Bytes;
use minijinja::value::{Enumerator, Object, ObjectRepr, Value};

use super::{node::Node, write};

/// Bytes that a template may add to four times what it is filled with.
const ALLOWANCE: usize = 64 << 10;

/// What a variable holds.
#[derive(Debug, Clone)]
pub(in crate::profile) enum Var {
    /// JSON as it came.
    Json(Arc<Node>),
    /// Bytes that are no JSON: they can be passed on as a whole.
    Binary(Bytes),
    /// Several of these, and all of them as one JSON list, with `null` for bytes.
    List(Vec<Self>, Arc<Node>),
    /// Anything else.
    Value(Value),
}

/// Variables by name. It owns them, so that what is decided later (an acknowledgement, say) can be
/// made of the same.
#[derive(Debug, Clone, Default)]
pub(in crate::profile) struct Scope {
    vars: Vec<(Cow<'static, str>, Var)>,
    /// The bytes of all that came from outside.
    size: usize,
}

impl Var {
    /// The body of a message.
    #[must_use]
    pub(in crate::profile) fn data(data: &Data) -> Self {
        match data {
            Data::Json(text) => Self::Json(Node::new(text.as_bytes().clone())),
            Data::Binary(bytes) => Self::Binary(bytes.clone()),
        }
    }

    /// Text, a number, and so on.
    #[must_use]
    pub(in crate::profile) fn value(value: impl Into<Value>) -> Self {
        Self::Value(value.into())
    }

    /// The text, number or boolean, as text.
    #[must_use]
    pub(in crate::profile) fn text(&self) -> Option<String> {
        let value = self.to_value();
        value.as_str().map(str::to_owned).or_else(|| write::scalar(&value))
    }

    /// As expressions see it.
    #[must_use]
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Json(node) | Self::List(_, node) => node.to_value(),
            Self::Binary(bytes) => Value::from_bytes(bytes.to_vec()),
            Self::Value(value) => value.clone(),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Json(node) | Self::List(_, node) => node.text().len(),
            Self::Binary(bytes) => bytes.len(),
            Self::Value(value) => value.as_str().map_or(0, str::len),
        }
    }
}

impl Scope {
    /// Adds a variable; it hides an earlier one of the same name.
    pub(in crate::profile) fn set(&mut self, name: impl Into<Cow<'static, str>>, var: Var) {
        self.size = self.size.saturating_add(var.size());
        self.vars.push((name.into(), var));
    }

    /// The same with one more variable.
    #[must_use]
    pub(in crate::profile) fn with(&self, name: &'static str, var: Var) -> Arc<Self> {
        let mut scope = self.clone();
        scope.set(name, var);
        Arc::new(scope)
    }

    /// The times that templates may write.
    pub(in crate::profile) fn set_now(&mut self, now: Timestamp) {
        self.set("now_ms", Var::value(now.0));
        self.set("now_iso", Var::value(iso(now)));
    }

    /// What the variable holds.
    #[must_use]
    pub(super) fn get(&self, name: &str) -> Option<&Var> {
        self.vars.iter().rev().find(|(known, _)| known == name).map(|(_, var)| var)
    }

    /// The most bytes that may be made of these.
    #[must_use]
    pub(super) fn limit(&self) -> usize {
        self.size.saturating_mul(4).saturating_add(ALLOWANCE)
    }
}

impl Object for Scope {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get(key.as_str()?).map(Var::to_value)
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::NonEnumerable
    }
}

/// The time as browsers write it: `2026-07-01T12:00:00.123Z`; beyond the year 9999, the last moment
/// of that.
#[must_use]
pub(in crate::profile) fn iso(time: Timestamp) -> String {
    const LAST: u64 = 253_402_300_799_999;
    let ms = time.0.min(LAST);
    let seconds = i64::try_from(ms / 1000).unwrap_or_default();
    let at = time::OffsetDateTime::from_unix_timestamp(seconds)
        .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}
