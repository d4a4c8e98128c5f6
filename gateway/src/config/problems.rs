//! What is wrong with a configuration: all of it at once.

use std::{fmt, fs, path::PathBuf, time::Duration};

use toml::Value;

use super::{
    key::Key,
    layers::{Layers, Origin},
    schema::Schema,
    secret::{REDACTED, Secret},
};

/// Longest value that a message quotes, in characters.
const MAX_QUOTED: usize = 80;

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigErrors(pub(crate) Vec<Problem>);

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let line_break = if index == 0 { "" } else { "\n" };
            write!(f, "{line_break}{problem}")?;
        }
        Ok(())
    }
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where, such as `http.listen`; empty for the file as a whole.
    pub(crate) key: String,
    /// What is written there, if it may be shown.
    pub(crate) value: Option<String>,
    /// Who wrote it.
    pub(crate) origin: Origin,
    /// What to write.
    pub(crate) wanted: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        match &self.origin {
            Origin::Default => {}
            origin if self.key.is_empty() => write!(f, "{origin}")?,
            origin => write!(f, " ({origin})")?,
        }
        write!(f, ": {}", self.wanted)
    }
}

/// Collects problems while a configuration is resolved.
pub(crate) struct Checks<'a> {
    layers: &'a Layers,
    schema: Schema<'a>,
    problems: Vec<Problem>,
}

impl<'a> Checks<'a> {
    /// Without problems so far.
    #[must_use]
    pub(crate) fn new(layers: &'a Layers, schema: Schema<'a>) -> Self {
        Self { layers, schema, problems: Vec::new() }
    }

    /// The problems found.
    #[must_use]
    pub(crate) fn finish(self) -> Vec<Problem> {
        self.problems
    }

    /// Notes that something else should stand at `key`.
    pub(crate) fn fail(&mut self, key: &str, wanted: impl Into<String>) {
        self.fail_at(&Key::from(key), wanted);
    }

    /// The same, where the place has names that the user chose.
    pub(crate) fn fail_at(&mut self, key: &Key, wanted: impl Into<String>) {
        self.problems.push(problem(self.layers, self.schema, key, wanted.into()));
    }

    /// The same, where what stands there must not be shown.
    pub(crate) fn fail_secret(&mut self, key: &str, wanted: impl Into<String>) {
        self.fail(key, wanted);
        if let Some(problem) = self.problems.last_mut() {
            problem.value = Some(REDACTED.to_owned());
        }
    }

    /// Notes a time that must not be zero.
    pub(crate) fn positive(&mut self, key: &str, value: Duration) {
        if value.is_zero() {
            self.fail(key, "write a time above zero");
        }
    }

    /// A value that stands in the configuration or in a file.
    pub(crate) fn file_or(
        &mut self,
        (key, inline): (&str, Option<Secret>),
        (file_key, file): (&str, Option<PathBuf>),
    ) -> Option<Secret> {
        let Some(file) = file else { return inline };
        if inline.is_some() {
            self.fail(file_key, format!("give it or `{key}`, not both"));
        }
        match fs::read_to_string(&file) {
            Ok(text) => Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())),
            Err(error) => {
                self.fail(file_key, format!("the file cannot be read: {error}"));
                None
            }
        }
    }
}

/// A problem with what stands at `key`.
pub(super) fn problem(layers: &Layers, schema: Schema<'_>, key: &Key, wanted: String) -> Problem {
    let secret = schema.at(key).is_some_and(Schema::is_secret);
    let value = layers.get(key).and_then(|value| match value {
        Value::Table(_) => None,
        _ if secret => Some(REDACTED.to_owned()),
        Value::Array(elements) if elements.iter().any(Value::is_table) => None,
        value => Some(shorten(&value.to_string())),
    });
    Problem { key: key.to_string(), value, origin: layers.origin(key), wanted }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
