//! The configuration as it was written: values from several sources, each with its origin.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

use super::key::{Key, Step};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody wrote it.
    Default,
    /// The insecure settings of `fanfare dev`.
    Dev,
    /// A line of the configuration file; line 0 is the file as a whole.
    File {
        /// The file.
        path: Arc<Path>,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Dev => f.write_str("fanfare dev"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// Values of all sources but the defaults. A later source replaces values, lists as a whole, and
/// adds to tables.
#[derive(Clone, Default)]
pub(crate) struct Layers {
    values: Table,
    origins: BTreeMap<Key, Origin>,
}

impl Layers {
    /// Adds a TOML document; `origin` tells the origin of a line.
    ///
    /// # Errors
    ///
    /// Text that is not TOML: line and message. The message does not quote the line, which may
    /// hold a secret.
    pub(crate) fn add_toml(
        &mut self,
        text: &str,
        origin: impl Fn(usize) -> Origin,
    ) -> Result<(), (Origin, String)> {
        let line = |at: usize| origin(1 + text[..at].matches('\n').count());
        let failed = |error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            (line(start.min(text.len())), error.message().to_owned())
        };
        let spans = DeTable::parse(text).map_err(failed)?;
        let values = text.parse::<Table>().map_err(failed)?;
        merge(&mut self.values, values);
        self.add_origins(&Key::default(), spans.get_ref(), &line);
        Ok(())
    }

    /// Sets one value; tables on the way are made.
    pub(crate) fn set(&mut self, key: &Key, value: Value, origin: Origin) {
        let nested = key.0.iter().rev().fold(value, |inner, step| match step {
            Step::Name(name) => Value::Table(Table::from_iter([(name.clone(), inner)])),
            Step::Index(_) => Value::Array(vec![inner]),
        });
        if let Value::Table(table) = nested {
            merge(&mut self.values, table);
        }
        self.origins.retain(|known, _| !known.0.starts_with(&key.0));
        self.origins.insert(key.clone(), origin);
    }

    /// What was written at this place.
    #[must_use]
    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        let mut steps = key.0.iter();
        let Some(Step::Name(first)) = steps.next() else { return None };
        steps.try_fold(self.values.get(first)?, |value, step| match step {
            Step::Name(name) => value.get(name),
            Step::Index(index) => value.get(index),
        })
    }

    /// Takes out what was written at this place; whether there was something.
    pub(crate) fn remove(&mut self, key: &Key) -> bool {
        let Some((Step::Name(last), way)) = key.0.split_last() else { return false };
        let mut table = Some(&mut self.values);
        for step in way {
            let value = match step {
                Step::Name(name) => table.and_then(|table| table.get_mut(name)),
                Step::Index(_) => None,
            };
            table = value.and_then(Value::as_table_mut);
        }
        table.is_some_and(|table| table.remove(last).is_some())
    }

    /// Where the value at this place, or what it is in, came from.
    #[must_use]
    pub(crate) fn origin(&self, key: &Key) -> Origin {
        let mut place = Some(key.clone());
        while let Some(at) = place {
            if let Some(origin) = self.origins.get(&at) {
                return origin.clone();
            }
            place = at.parent();
        }
        Origin::Default
    }

    /// What was written in one table, as if it were all.
    #[must_use]
    pub(crate) fn table(&self, name: &str) -> Self {
        let values = self.values.get(name).and_then(Value::as_table).cloned().unwrap_or_default();
        let origins =
            self.origins.iter().filter_map(|(key, origin)| match key.0.split_first()? {
                (Step::Name(first), rest) if first == name => {
                    Some((Key(rest.to_vec()), origin.clone()))
                }
                _ => None,
            });
        Self { values, origins: origins.collect() }
    }

    /// Adds another's values, which replace or add to these.
    pub(crate) fn add(&mut self, later: &Self) {
        merge(&mut self.values, later.values.clone());
        for (key, origin) in &later.origins {
            let is_table = later.get(key).is_some_and(Value::is_table);
            self.origins.retain(|known, _| !known.0.starts_with(&key.0) || is_table);
            self.origins.insert(key.clone(), origin.clone());
        }
    }

    /// All that was written.
    #[must_use]
    pub(crate) fn values(&self) -> &Table {
        &self.values
    }

    fn add_origins(&mut self, at: &Key, table: &DeTable<'_>, line: &impl Fn(usize) -> Origin) {
        for (name, value) in table {
            let key = at.entry(name.get_ref());
            self.origins.retain(|known, _| !known.0.starts_with(&key.0) || is_table(value));
            self.origins.insert(key.clone(), line(name.span().start));
            self.add_inner_origins(&key, value, line);
        }
    }

    fn add_inner_origins(
        &mut self,
        key: &Key,
        value: &Spanned<DeValue<'_>>,
        line: &impl Fn(usize) -> Origin,
    ) {
        match value.get_ref() {
            DeValue::Table(table) => self.add_origins(key, table, line),
            DeValue::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    let key = key.element(index);
                    self.origins.insert(key.clone(), line(element.span().start));
                    self.add_inner_origins(&key, element, line);
                }
            }
            _ => {}
        }
    }
}

fn is_table(value: &Spanned<DeValue<'_>>) -> bool {
    value.get_ref().is_table()
}

fn merge(into: &mut Table, from: Table) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => drop(into.insert(name, value)),
        }
    }
}
