//! `fanfare config docs`: every option, from the doc comments of the sections.

use std::fmt::Write;

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor, value::Error as FieldsError},
    forward_to_deserialize_any,
};

use super::{
    key::Key,
    schema::{self, Schema},
    sections::{
        Raw, access, auth, cluster, history, http, limits, process, reload, session, socketio,
        tickets, webhooks, websocket,
    },
};

const INTRODUCTION: &str = "\
<!-- Made by `fanfare config docs` from the doc comments in gateway/src/config/sections; a test \
compares. -->

# Configuration

Later sources win: defaults, the TOML file (`--config FILE`, or the environment variable
`FANFARE_CONFIG`), environment variables, flags. A list is replaced as a whole, a table is added to.

- **Environment.** Every option has a variable `FANFARE__SECTION__OPTION`; lists are written with
  commas, or as TOML. Names in variables are lower-cased, so namespaces with capitals need the file.
- **Times** have units: `\"500ms\"`, `\"25s\"`, `\"2m\"`, `\"1h 30m\"`. **Sizes** are numbers of bytes or
  have units: `65536`, `\"64KiB\"`, `\"1MiB\"`.
- **Secrets** can stand in files: each has a twin `…_file`. They are never shown.
- **Mistakes** are reported all at once, each with its place and with what to write; a name that is
  no option is a mistake. `fanfare config check FILE` exits with 78 if there is one.
- **Changes** are taken over by a running gateway on SIGHUP, or when it notices them (`reload.watch`):
  see [reload.md](reload.md). With each option it says whether it is among them.
- `fanfare config show` prints what is in force, and where each value came from.

A small one:

```toml
[auth]
hmac_secret_file = \"/run/secrets/jwt\"

[namespaces.venue]
subscribe = [\"anyone\"]

[namespaces.order]
subscribe = [\"user:{1}\", \"role:staff\"]
wildcard = [\"role:staff\"]
history = { size = 50, ttl = \"24h\" }
```
";

/// A section of the configuration.
pub(super) struct Section {
    /// Its name in the root table.
    pub(super) name: &'static str,
    /// How its header is written.
    header: &'static str,
    /// Where one stands.
    key: &'static str,
    /// Its options, in the order of their declaration.
    options: &'static [&'static str],
}

/// All sections that are documented, in reading order.
pub(super) fn sections() -> Vec<Section> {
    let names = fields::<Raw>().iter();
    let own = names.flat_map(|name| match *name {
        "http" => vec![section("http", fields::<http::Http>())],
        "websocket" => vec![section("websocket", fields::<websocket::WebSocket>())],
        "socketio" => vec![section("socketio", fields::<socketio::SocketIo>())],
        "auth" => vec![
            section("auth", fields::<auth::RawAuth>()),
            section("auth.claims", fields::<auth::Claims>()),
            section("auth.tickets", fields::<tickets::Tickets>()),
        ],
        "namespaces" => vec![
            Section {
                name: "namespaces",
                header: "namespaces.NAME",
                key: "namespaces.any",
                options: fields::<access::RawRules>(),
            },
            Section {
                name: "namespaces.NAME.history",
                header: "namespaces.NAME.history",
                key: "namespaces.any.history",
                options: fields::<access::RawHistory>(),
            },
            Section {
                name: "namespaces.NAME.queue",
                header: "namespaces.NAME.queue",
                key: "namespaces.any.queue",
                options: fields::<access::RawQueue>(),
            },
        ],
        "history" => vec![section("history", fields::<history::HistoryStorage>())],
        "connect" => vec![section("connect", fields::<access::RawConnect>())],
        "webhooks" => vec![Section {
            name: "webhooks",
            header: "webhooks.NAME",
            key: "webhooks.any",
            options: fields::<webhooks::RawWebhook>(),
        }],
        "limits" => vec![section("limits", fields::<limits::Limits>())],
        "heartbeat" => vec![section("heartbeat", fields::<limits::Heartbeat>())],
        "nats" => vec![section("nats", fields::<cluster::RawNats>())],
        "redis" => vec![section("redis", fields::<cluster::RawRedis>())],
        "presence" => vec![section("presence", fields::<cluster::Presence>())],
        "session" => vec![section("session", fields::<session::Session>())],
        "drain" => vec![section("drain", fields::<limits::Drain>())],
        "reload" => vec![section("reload", fields::<reload::Reload>())],
        "telemetry" => vec![section("telemetry", fields::<process::Telemetry>())],
        _ => Vec::new(),
    });
    own.collect()
}

fn section(name: &'static str, options: &'static [&'static str]) -> Section {
    Section { name, header: name, key: name, options }
}

/// The reference of all options, as Markdown.
#[must_use]
pub(crate) fn markdown() -> String {
    let schema = schema::generate();
    let schema = Schema::new(&schema);
    let mut out = INTRODUCTION.to_owned();
    for section in sections() {
        let key = Key::from(section.key);
        let Some(table) = schema.at(&key) else { continue };
        write!(out, "\n## `[{}]`\n\n{}\n", section.header, table.description())
            .expect("a String takes everything");
        for name in section.options {
            if let Some(option) = table.entry(name).filter(|option| !option.is("object")) {
                describe(&mut out, section.header, name, option);
                out.push_str(match schema.is_reloadable_at(&key.entry(name)) {
                    true => " Reloadable.\n",
                    false => " Needs a restart.\n",
                });
            }
        }
    }
    out
}

fn describe(out: &mut String, section: &str, name: &str, option: Schema<'_>) {
    let default = match option.default() {
        Some(value) => format!("`{}`", value.to_string().replace("\",\"", "\", \"")),
        None if option.is("array") && !option.is("null") => "`[]`".to_owned(),
        None => "not set".to_owned(),
    };
    let text = option.description();
    write!(out, "\n### `{section}.{name}`\n\n{text}\n\nDefault: {default}.")
        .expect("a String takes everything");
    if !section.contains("NAME") {
        let variable = format!("{section}.{name}").to_uppercase().replace('.', "__");
        write!(out, " Variable: `FANFARE__{variable}`.").expect("a String takes everything");
    }
    out.push('\n');
}

/// The names of a struct's fields in the order of their declaration, which its JSON schema has
/// lost.
fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    struct Fields<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Fields<'_> {
        type Error = FieldsError;

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, FieldsError> {
            *self.0 = fields;
            Err(FieldsError::custom("only the names are wanted"))
        }

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, FieldsError> {
            Err(FieldsError::custom("not a struct"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut names: &'static [&'static str] = &[];
    drop(T::deserialize(Fields(&mut names)));
    names
}
