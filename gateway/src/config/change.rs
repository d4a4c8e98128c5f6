//! A configuration that follows another while the gateway runs: what can change now does, the rest
//! stays as it was.

use std::path::PathBuf;

use toml::Value;

use super::{
    Loaded,
    key::Key,
    layers::Layers,
    problems::ConfigErrors,
    schema::{self, Schema},
};

/// What a running gateway takes over.
pub(crate) struct Change {
    /// What holds from now on.
    pub(crate) loaded: Loaded,
    /// What was written otherwise, and holds after a restart.
    pub(crate) after_restart: Vec<String>,
}

impl Loaded {
    /// Takes over what can change without a restart. A namespace that is new is left out as a whole
    /// where it needs one: without its history, what is published to it would be lost.
    ///
    /// # Errors
    /// What is new does not go together with what stays.
    pub(crate) fn change_to(&self, new: Self) -> Result<Change, ConfigErrors> {
        let schema = schema::generate();
        let (values, running) = (new.layers.values().clone(), self.layers.values().clone());
        let mut fixed = Vec::new();
        let both = (Some(&Value::Table(values)), Some(&Value::Table(running)));
        find_fixed(Schema::new(&schema), &Key::default(), both, &mut fixed);
        let Self { config, mut layers, .. } = new;
        // A listener goes on with TLS or without: nobody is to go on in the clear by an oversight.
        if self.config.http.tls().is_some() != config.http.tls().is_some() {
            fixed.extend(["http.tls_cert", "http.tls_key"].map(Key::from));
        }
        let mut after_restart: Vec<String> = fixed.iter().map(ToString::to_string).collect();
        for key in &fixed {
            layers.remove(key);
            if let Some(value) = self.layers.get(key) {
                layers.set(key, value.clone(), self.layers.origin(key));
            }
        }
        let Self { config: now, .. } = self;
        for (option, stays) in [
            ("redis.url", now.redis.url == config.redis.url),
            ("nats.password", now.nats.password == config.nats.password),
            ("nats.token", now.nats.token == config.nats.token),
        ] {
            // It may stand in a file.
            let is_new = !stays && !after_restart.iter().any(|known| known.starts_with(option));
            after_restart.extend(is_new.then(|| option.to_owned()));
        }
        let mut loaded = Self::check(layers, config.dev)?;
        loaded.config.sabotage = now.sabotage;
        Ok(Change { loaded, after_restart })
    }
}

impl Layers {
    /// The files that options name, whose content counts.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        find_files(&Value::Table(self.values().clone()), &mut files);
        files
    }
}

/// Finds what differs and cannot change now.
fn find_fixed(
    schema: Schema<'_>,
    at: &Key,
    (new, running): (Option<&Value>, Option<&Value>),
    found: &mut Vec<Key>,
) {
    if schema.is_reloadable() {
        return;
    }
    if !schema.is("object") || schema.is("null") {
        if written(schema, new) != written(schema, running) {
            found.push(at.clone());
        }
        return;
    }
    let tables = [new, running].map(|value| value.and_then(Value::as_table));
    let own = tables[1].into_iter().flat_map(|table| table.keys());
    let further = tables[0].into_iter().flat_map(|table| table.keys());
    let further = further.filter(|name| tables[1].is_none_or(|table| !table.contains_key(*name)));
    for name in own.chain(further) {
        let Some(option) = schema.entry(name) else { continue };
        let key = at.entry(name);
        let [new, running] = tables.map(|table| table.and_then(|table| table.get(name)));
        let mut inner = Vec::new();
        find_fixed(option, &key, (new, running), &mut inner);
        if running.is_none() && schema.names().next().is_none() && !inner.is_empty() {
            inner = vec![key];
        }
        found.extend(inner);
    }
}

/// What is written, or what holds where nothing is.
fn written(schema: Schema<'_>, value: Option<&Value>) -> Option<serde_json::Value> {
    match value {
        Some(value) => serde_json::to_value(value).ok(),
        None => schema.default().cloned(),
    }
}

fn find_files(value: &Value, found: &mut Vec<PathBuf>) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                match value {
                    Value::String(path) if names_file(name) => found.push(path.into()),
                    value => find_files(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| find_files(value, found)),
        _ => {}
    }
}

fn names_file(option: &str) -> bool {
    option.ends_with("_file") || matches!(option, "tls_cert" | "tls_key")
}

#[cfg(test)]
mod tests;
