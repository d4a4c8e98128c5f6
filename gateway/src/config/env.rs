//! Environment variables. Nothing else in this crate reads them.
//!
//! | variable | meaning |
//! |---|---|
//! | `FANFARE__SECTION__KEY` | any option; lists with commas or as TOML |
//! | `FANFARE_CONFIG` | the configuration file, where no `--config` is given |
//! | `FANFARE_TOKEN` | the token of `fanfare pub`, `fanfare sub` and `fanfare probe` |
//! | `FANFARE_API_KEY` | the API key of `fanfare queue` and `fanfare probe` |
//! | `JWT_SECRET` | `auth.hmac_secret` |
//! | `ALLOWED_ORIGINS` | `http.allowed_origins`, with commas |
//! | `WEBSOCKET_PORT` | the port of `http.listen` |
//! | `API_KEYS` | `auth.api_keys` as plain keys, with commas |
//!
//! Where an option is set both ways, `FANFARE__SECTION__KEY` counts.

use std::{collections::BTreeMap, net::SocketAddr};

use toml::{Table, Value};

use super::{
    key::Key,
    layers::{Layers, Origin},
    schema::Schema,
    secret::KeyHash,
    sections::http::Http,
};

const PREFIX: &str = "FANFARE__";

/// The environment of the process, or one made for a test.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The environment of the process.
    #[must_use]
    pub(crate) fn of_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    /// The value of a variable that is there and not empty.
    #[must_use]
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Adds what the environment says to the configuration.
    pub(super) fn add_to(&self, layers: &mut Layers, schema: Schema<'_>) {
        self.add_aliases(layers);
        for (name, text) in &self.0 {
            let Some(path) = name.strip_prefix(PREFIX) else { continue };
            let mut key = Key::default();
            for part in path.split("__") {
                key = key.entry(&part.to_ascii_lowercase());
            }
            let value = read(text, schema.at(&key));
            layers.set(&key, value, Origin::Env(name.clone()));
        }
    }

    fn add_aliases(&self, layers: &mut Layers) {
        let mut set = |name: &str, key: &str, value: &dyn Fn(&str, &Layers) -> Value| {
            if let Some(text) = self.get(name) {
                let value = value(text, layers);
                layers.set(&Key::from(key), value, Origin::Env(name.to_owned()));
            }
        };
        set("JWT_SECRET", "auth.hmac_secret", &|text, _| Value::from(text));
        set("ALLOWED_ORIGINS", "http.allowed_origins", &|text, _| list(text, None));
        set("WEBSOCKET_PORT", "http.listen", &with_port);
        set("API_KEYS", "auth.api_keys", &|text, _| api_keys(text));
    }
}

/// Reads text as what the option is. Text that does not fit stays text: the error that it makes
/// later says what was expected.
fn read(text: &str, schema: Option<Schema<'_>>) -> Value {
    let Some(schema) = schema else { return Value::from(text) };
    let written = |text: &str| {
        let table: Table = format!("value = {text}").parse().ok()?;
        table.get("value").cloned()
    };
    let value = if schema.is("array") && !text.trim_start().starts_with('[') {
        Some(list(text, schema.at(&Key(vec![super::key::Step::Index(0)]))))
    } else if schema.is("string") {
        None
    } else {
        written(text.trim())
    };
    value.unwrap_or_else(|| Value::from(text))
}

fn list(text: &str, element: Option<Schema<'_>>) -> Value {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    Value::Array(parts.map(|part| read(part, element)).collect())
}

/// The addresses to listen on, with another port.
fn with_port(port: &str, layers: &Layers) -> Value {
    let written = layers.get(&Key::from("http.listen")).and_then(Value::as_array);
    let addresses: Vec<String> = match written {
        Some(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        None => Http::default().listen.iter().map(SocketAddr::to_string).collect(),
    };
    let host = |address: &str| address.rsplit_once(':').map_or("", |(host, _)| host).to_owned();
    Value::Array(
        addresses.iter().map(|address| format!("{}:{port}", host(address)).into()).collect(),
    )
}

fn api_keys(text: &str) -> Value {
    let keys = text.split(',').map(str::trim).filter(|key| !key.is_empty()).enumerate();
    let entry = |(index, key): (usize, &str)| {
        Value::Table(Table::from_iter([
            ("id".to_owned(), format!("env-{}", index + 1).into()),
            ("hash".to_owned(), KeyHash::of(key).to_string().into()),
            ("scopes".to_owned(), vec!["publish", "connect"].into()),
        ]))
    };
    Value::Array(keys.map(entry).collect())
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self(variables.map(owned).into_iter().collect())
    }
}
