//! From what was written to a [`Config`], or to everything that is wrong with it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use toml::Value;

use super::{
    Config, DevSecrets,
    env::Environment,
    key::Key,
    layers::{Layers, Origin},
    problems::{Checks, ConfigErrors, Problem, problem},
    schema::{self, Schema},
    secret::KeyHash,
    sections::{Raw, access, webhooks},
};

/// Names further apart than this are no misspellings of each other.
const MIN_SIMILARITY: f64 = 0.75;

/// The settings of `fanfare dev`, as a file.
const DEV: &str = include_str!("dev.toml");

/// What a configuration is made of; later fields win. It has no `Debug`: the environment holds
/// secrets.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    /// Start from the insecure settings of `fanfare dev`, with these secrets.
    pub(crate) dev: Option<DevSecrets>,
    /// What profiles bring with them.
    pub(crate) profiles: Vec<Layers>,
    /// The configuration file.
    pub(crate) file: Option<PathBuf>,
    /// The environment.
    pub(crate) env: Environment,
    /// Flags of the command line: key, value, flag.
    pub(crate) flags: Vec<(&'static str, Value, &'static str)>,
}

/// A configuration, and how it came about. It has no `Debug`: what was written holds secrets.
pub(crate) struct Loaded {
    /// Ready to use.
    pub(crate) config: Config,
    pub(super) raw: Raw,
    pub(super) layers: Layers,
}

impl Sources {
    /// Reads and checks everything.
    ///
    /// # Errors
    ///
    /// All problems at once.
    pub(crate) fn load(&self) -> Result<Loaded, ConfigErrors> {
        let written = self.written().map_err(|problem| ConfigErrors(vec![problem]))?;
        Loaded::check(written, self.dev.clone())
    }

    /// The files whose content counts, as far as that can be told.
    #[must_use]
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let named = self.written().map(|written| written.files()).unwrap_or_default();
        self.file.iter().cloned().chain(named).collect()
    }

    fn written(&self) -> Result<Layers, Problem> {
        let schema = schema::generate();
        let mut layers = Layers::default();
        if let Some(dev) = &self.dev {
            add_dev(&mut layers, dev);
        }
        self.profiles.iter().for_each(|profile| layers.add(profile));
        self.file.as_ref().map_or(Ok(()), |path| add_file(&mut layers, path))?;
        self.env.add_to(&mut layers, Schema::new(&schema));
        for (key, value, flag) in &self.flags {
            layers.set(&Key::from(*key), value.clone(), Origin::Flag(flag));
        }
        Ok(layers)
    }
}

impl Loaded {
    /// Checks what was written.
    pub(super) fn check(written: Layers, dev: Option<DevSecrets>) -> Result<Self, ConfigErrors> {
        let mut raw = Raw::default();
        let config = read_document(&written, |read: Raw, checks| {
            raw = read;
            resolve(raw.clone(), dev, checks)
        })?;
        Ok(Self { config, raw, layers: written })
    }
}

/// Adds a TOML file.
///
/// # Errors
///
/// It cannot be read, or is not TOML.
pub(crate) fn add_file(layers: &mut Layers, path: &Path) -> Result<(), Problem> {
    let whole = |origin, wanted| Problem { key: String::new(), value: None, origin, wanted };
    let shared = path.into();
    let at = |line| Origin::File { path: std::sync::Arc::clone(&shared), line };
    let text = fs::read_to_string(path)
        .map_err(|error| whole(at(0), format!("the file cannot be read: {error}")))?;
    layers.add_toml(&text, at).map_err(|(origin, message)| whole(origin, message))
}

/// Reads another document than the configuration in the same manner.
///
/// # Errors
///
/// All problems at once.
pub(crate) fn read_document<T, R>(
    written: &Layers,
    resolve: impl FnOnce(T, &mut Checks<'_>) -> R,
) -> Result<R, ConfigErrors>
where
    T: DeserializeOwned + Default + JsonSchema,
{
    let schema = schema::generate_for::<T>();
    let schema = Schema::new(&schema);
    let mut layers = written.clone();
    let mut problems = Vec::new();
    remove_unknown(&mut layers, schema, &mut problems);
    let raw = read(&mut layers, schema, &mut problems);
    let mut checks = Checks::new(written, schema);
    let resolved = resolve(raw, &mut checks);
    problems.extend(checks.finish());
    if problems.is_empty() { Ok(resolved) } else { Err(ConfigErrors(problems)) }
}

fn add_dev(layers: &mut Layers, DevSecrets { api_key, for_tokens }: &DevSecrets) {
    layers.add_toml(DEV, |_| Origin::Dev).expect("dev.toml is tested");
    let entry = toml::Table::from_iter([
        ("id".to_owned(), "dev".into()),
        ("hash".to_owned(), KeyHash::of(api_key.reveal()).to_string().into()),
        ("scopes".to_owned(), vec!["publish", "admin"].into()),
    ]);
    layers.set(&Key::from("auth.api_keys"), vec![Value::Table(entry)].into(), Origin::Dev);
    let secret = for_tokens.reveal().to_owned();
    layers.set(&Key::from("auth.hmac_secret"), secret.into(), Origin::Dev);
}

/// Takes out what no option is called.
fn remove_unknown(layers: &mut Layers, schema: Schema<'_>, problems: &mut Vec<Problem>) {
    let mut unknown = Vec::new();
    let values = Value::Table(layers.values().clone());
    find_unknown(&values, schema, &Key::default(), &mut unknown);
    for (key, wanted) in unknown {
        problems.push(problem(layers, schema, &key, wanted));
        layers.remove(&key);
    }
}

fn find_unknown(value: &Value, schema: Schema<'_>, at: &Key, found: &mut Vec<(Key, String)>) {
    match value {
        Value::Table(table) if schema.is("object") => {
            for (name, value) in table {
                match schema.entry(name) {
                    Some(inner) => find_unknown(value, inner, &at.entry(name), found),
                    None => found.push((at.entry(name), suggest(name, schema))),
                }
            }
        }
        Value::Array(elements) => {
            for (index, value) in elements.iter().enumerate() {
                let key = at.element(index);
                if let Some(inner) = schema.at(&Key(vec![super::key::Step::Index(index)])) {
                    find_unknown(value, inner, &key, found);
                }
            }
        }
        _ => {}
    }
}

fn suggest(name: &str, schema: Schema<'_>) -> String {
    let nearest = schema
        .names()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(similarity, _)| *similarity >= MIN_SIMILARITY)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match nearest {
        Some((_, known)) => format!("there is no such option; did you mean `{known}`?"),
        None => {
            let names: Vec<&str> = schema.names().collect();
            format!("there is no such option; there are {}", names.join(", "))
        }
    }
}

/// Reads values as what they should be. One that is wrong is noted and taken out, until the rest
/// can be read.
fn read<T: DeserializeOwned + Default>(
    layers: &mut Layers,
    schema: Schema<'_>,
    problems: &mut Vec<Problem>,
) -> T {
    loop {
        let values = Value::Table(layers.values().clone());
        let error = match serde_path_to_error::deserialize::<_, T>(values) {
            Ok(raw) => return raw,
            Err(error) => error,
        };
        let mut key = Key::from(error.path());
        let secret = schema.at(&key).is_some_and(Schema::is_secret);
        let message = if secret { "write it as text, in quotes" } else { error.inner().message() };
        problems.push(problem(layers, schema, &key, message.to_owned()));
        while !layers.remove(&key) {
            match key.parent() {
                Some(parent) => key = parent,
                None => return T::default(),
            }
        }
    }
}

fn resolve(raw: Raw, dev: Option<DevSecrets>, checks: &mut Checks<'_>) -> Config {
    raw.http.check(checks);
    raw.websocket.check(checks);
    raw.socketio.check(checks);
    raw.history.check(checks);
    raw.limits.check(checks);
    raw.heartbeat.check(checks);
    raw.presence.check(checks);
    raw.session.check(checks);
    raw.drain.check(checks);
    raw.telemetry.check(checks);
    Config {
        http: raw.http,
        websocket: raw.websocket,
        socketio: raw.socketio,
        auth: raw.auth.resolve(checks),
        namespaces: access::resolve(raw.namespaces, raw.connect, checks),
        webhooks: webhooks::resolve(raw.webhooks, checks),
        history: raw.history,
        limits: raw.limits,
        heartbeat: raw.heartbeat,
        nats: raw.nats.resolve(checks),
        redis: raw.redis.resolve(checks),
        presence: raw.presence,
        session: raw.session,
        drain: raw.drain,
        reload: raw.reload,
        telemetry: raw.telemetry,
        testing: raw.testing,
        sabotage: None,
        dev,
    }
}
