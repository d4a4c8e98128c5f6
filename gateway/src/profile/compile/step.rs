//! Steps of verbs and requests.

use std::sync::Arc;

use super::{Compiler, vars::Vars};
use crate::{
    config::key::Key,
    profile::{
        pattern::Pattern,
        raw::{Free, RawEmission, RawStep},
        step::{CallTemplate, PublishTemplate, SnapshotTemplate, Step, What},
        template::{Expression, Tree},
    },
};

/// Most steps of one list.
const MAX_STEPS: usize = 16;

/// Where steps stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Connect,
    Verb,
    Rest,
}

/// A kind of step: its name, where it may stand, and what may go with it.
struct Kind {
    name: &'static str,
    places: &'static [Place],
    options: &'static [&'static str],
}

const KINDS: [Kind; 13] = {
    use Place::{Connect, Rest, Verb};
    [
        Kind { name: "emit", places: &[Connect, Verb], options: &["data", "args"] },
        Kind { name: "join", places: &[Connect, Verb], options: &[] },
        Kind { name: "leave", places: &[Verb], options: &[] },
        Kind {
            name: "publish",
            places: &[Connect, Verb, Rest],
            options: &["event", "data", "id", "echo", "exclude_users"],
        },
        Kind {
            name: "call",
            places: &[Connect, Verb],
            options: &["event", "data", "timeout", "on_reply", "on_error"],
        },
        Kind { name: "snapshot", places: &[Connect, Verb], options: &["on_reply", "on_error"] },
        Kind { name: "flush_offline", places: &[Connect, Verb], options: &[] },
        Kind { name: "messages", places: &[Rest], options: &["since"] },
        Kind { name: "stats", places: &[Rest], options: &[] },
        Kind { name: "queue", places: &[Rest], options: &[] },
        Kind { name: "connections", places: &[Rest], options: &[] },
        Kind { name: "disconnect", places: &[Rest], options: &["reason"] },
        Kind { name: "ticket", places: &[Rest], options: &[] },
    ]
};

impl Compiler<'_, '_> {
    pub(super) fn steps(
        &mut self,
        key: &Key,
        raw: Vec<RawStep>,
        place: Place,
        vars: &Vars,
    ) -> Vec<Step> {
        if raw.len() > MAX_STEPS {
            self.fail(key, format!("write at most {MAX_STEPS} steps"));
        }
        let mut calls = 0;
        let mut steps = Vec::with_capacity(raw.len());
        for (index, raw) in raw.into_iter().enumerate() {
            let key = key.element(index);
            calls += usize::from(raw.call.is_some());
            if calls > 1 && raw.call.is_some() {
                self.fail(&key, "a list of steps has one `call`, whose reply is the answer");
            }
            steps.extend(self.step(&key, raw, place, vars));
        }
        steps
    }

    fn step(&mut self, key: &Key, raw: RawStep, place: Place, vars: &Vars) -> Option<Step> {
        let kind = self.kind(key, &raw, place)?;
        let when = match &raw.when {
            Some(when) => Some(self.expression(&key.entry("when"), when, vars)?),
            None => None,
        };
        let what = match kind {
            "emit" => What::Emit(self.emission(
                key,
                RawEmission { emit: raw.emit.unwrap_or_default(), data: raw.data, args: raw.args },
                vars,
            )?),
            "join" => What::Join(self.channel(&key.entry(kind), &raw.join?, vars)?),
            "leave" => What::Leave(self.channel(&key.entry(kind), &raw.leave?, vars)?),
            "publish" => What::Publish(Box::new(self.publish(key, &raw, place, vars)?)),
            "call" => What::Call(Arc::new(self.call(key, raw, place, vars)?)),
            "snapshot" => What::Snapshot(Arc::new(self.snapshot(key, raw, vars)?)),
            "flush_offline" => What::FlushOffline,
            "messages" => {
                let since = self.optional_text(&key.entry("since"), raw.since.as_deref(), vars);
                What::Messages(self.channel(&key.entry(kind), &raw.messages?, vars)?, since)
            }
            "stats" => What::Stats,
            "queue" => What::Queue,
            "connections" => {
                What::Connections(self.text(&key.entry(kind), &raw.connections?, vars)?)
            }
            "disconnect" => {
                let reason = self.optional_text(&key.entry("reason"), raw.reason.as_deref(), vars);
                What::Disconnect(self.text(&key.entry(kind), &raw.disconnect?, vars)?, reason)
            }
            _ => What::Ticket(self.text(&key.entry(kind), &raw.ticket?, vars)?),
        };
        Some(Step { when, what })
    }

    /// What kind of step this is: exactly one, in its place, with its own options.
    fn kind(&mut self, key: &Key, raw: &RawStep, place: Place) -> Option<&'static str> {
        let given = toml::Table::try_from(raw).unwrap_or_default();
        let mut kinds = KINDS.iter().filter(|kind| given.contains_key(kind.name));
        let (Some(kind), None) = (kinds.next(), kinds.next()) else {
            let names: Vec<_> =
                KINDS.iter().filter(|it| it.places.contains(&place)).map(|it| it.name).collect();
            self.fail(key, format!("a step has exactly one of {}", names.join(", ")));
            return None;
        };
        if !kind.places.contains(&place) {
            self.fail(
                &key.entry(kind.name),
                match place {
                    Place::Connect => "this is not possible on connect",
                    Place::Verb => "this is only possible in [[rest]]",
                    Place::Rest => "a request has no connection that this could be done to",
                },
            );
        }
        if given.get(kind.name).and_then(toml::Value::as_bool) == Some(false) {
            self.fail(&key.entry(kind.name), "write `true`, or leave the step out");
        }
        for name in given.keys().filter(|name| *name != "when" && *name != kind.name) {
            if !kind.options.contains(&name.as_str()) {
                self.fail(
                    &key.entry(name),
                    format!("`{name}` means nothing for `{}`: leave it out", kind.name),
                );
            }
        }
        Some(kind.name)
    }

    fn publish(
        &mut self,
        key: &Key,
        raw: &RawStep,
        place: Place,
        vars: &Vars,
    ) -> Option<PublishTemplate> {
        let channel_key = key.entry("publish");
        let channel = self.channel(&channel_key, raw.publish.as_deref()?, vars)?;
        if channel.is_pattern() {
            self.fail(&channel_key, "a message is published to one channel, not to a pattern");
        }
        if raw.echo.is_some() && place == Place::Rest {
            self.fail(&key.entry("echo"), "a request has no connection: leave this out");
        }
        let users_key = key.entry("exclude_users");
        if raw.exclude_users.is_some() && place != Place::Rest {
            self.fail(&users_key, "only a request can exclude users: leave it out");
        }
        let exclude_users = match &raw.exclude_users {
            Some(users) => Some(self.expression(&users_key, users, vars)?),
            None => None,
        };
        let event = raw.event.as_deref();
        Some(PublishTemplate {
            channel,
            event: event.and_then(|event| self.event(&key.entry("event"), event, vars)),
            data: self.body(key, raw.data.as_ref(), vars)?,
            id: self.optional_text(&key.entry("id"), raw.id.as_deref(), vars),
            echo: raw.echo.unwrap_or(true),
            exclude_users,
        })
    }

    fn call(&mut self, key: &Key, raw: RawStep, place: Place, vars: &Vars) -> Option<CallTemplate> {
        let address = self.channel(&key.entry("call"), &raw.call?, vars)?;
        if address.is_pattern() {
            self.fail(&key.entry("call"), "a service has one address, not a pattern");
        }
        // A service that is asked by a verb sees which one.
        let event = raw.event.or_else(|| (place == Place::Verb).then(|| "{{ event }}".to_owned()));
        let event = event.and_then(|event| self.event(&key.entry("event"), &event, vars));
        let data = self.body(key, raw.data.as_ref(), vars)?;
        let (on_reply, on_error) = (key.entry("on_reply"), key.entry("on_error"));
        Some(CallTemplate {
            address,
            event,
            data,
            timeout: raw.timeout.map(|timeout| timeout.0),
            on_reply: raw
                .on_reply
                .and_then(|it| self.emission(&on_reply, it, &vars.and(&["reply"]))),
            on_error: raw
                .on_error
                .and_then(|it| self.emission(&on_error, it, &vars.and(&["error"]))),
        })
    }

    fn snapshot(&mut self, key: &Key, raw: RawStep, vars: &Vars) -> Option<SnapshotTemplate> {
        let pattern = self.pattern(&key.entry("snapshot"), &raw.snapshot?, vars)?;
        if pattern.names().count() > 1 {
            let wanted = "write `{NAME}` once, for the segment that names each entry";
            self.fail(&key.entry("snapshot"), wanted);
        }
        let Some(on_reply) = raw.on_reply else {
            let wanted = "say what the client is told: on_reply = { emit = EVENT, data = \
                          \"{{ snapshot }}\" }";
            self.fail(key, wanted);
            return None;
        };
        let (reply, error) = (key.entry("on_reply"), key.entry("on_error"));
        Some(SnapshotTemplate {
            pattern,
            emit: self.emission(&reply, on_reply, &vars.and(&["snapshot"]))?,
            on_error: raw.on_error.and_then(|it| self.emission(&error, it, &vars.and(&["error"]))),
        })
    }

    /// A pattern whose names hide no variable.
    pub(super) fn pattern(&mut self, key: &Key, source: &str, vars: &Vars) -> Option<Pattern> {
        match Pattern::compile(source) {
            Ok(pattern) => {
                for name in pattern.names().filter(|name| vars.has(name)) {
                    self.fail(key, format!("`{name}` has a meaning already: choose another name"));
                }
                Some(pattern)
            }
            Err(error) => {
                self.fail(key, error.to_string());
                None
            }
        }
    }

    /// The payload of a publish or call: what the client sent, unless it is given.
    fn body(&mut self, key: &Key, data: Option<&Free>, vars: &Vars) -> Option<Tree> {
        match data {
            Some(data) => self.tree(&key.entry("data"), data, vars),
            None if vars.has("data") => Expression::compile("data").ok().map(Tree::Whole),
            None => Some(Tree::Constant("null".into())),
        }
    }
}
