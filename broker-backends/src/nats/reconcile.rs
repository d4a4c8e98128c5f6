//! A namespace's stream as the configuration wants it: what that is, and making it so.
//!
//! Only the fields named here are compared and changed; what else operators set on a stream
//! (placement, a description) stays.

use std::{collections::HashMap, time::Duration};

use broker_core::{Epoch, History, Namespace};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    api::{Api, ApiError},
    place,
    subject::Subjects,
};
use crate::options::{ConnectError, Storage, StreamOptions};

/// How long a message's id is remembered, at most.
const DEDUPE_WINDOW: Duration = Duration::from_secs(120);
/// How often a stream is looked at anew, because another gateway has changed it meanwhile.
const ATTEMPTS: usize = 5;

const NOT_ENABLED: [u32; 2] = [10039, 10076];
const NAME_IN_USE: u32 = 10058;
pub(super) const NOT_FOUND: u32 = 10059;

/// Under which a stream's metadata has the epoch, once it is not the time of its creation any more.
const EPOCH: &str = "fanfare_epoch";

pub(super) type Config = Map<String, Value>;

/// A stream, in JetStream's JSON.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    config: Config,
    /// As RFC 3339 has it.
    created: String,
    pub(super) state: Kept,
}

impl Info {
    /// Which life of the stream it is: when it was created, or since when its numbers are given
    /// out a second time; in nanoseconds since 1970. `None` where that cannot be read.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        let begun = self.config.get("metadata").and_then(|metadata| metadata.get(EPOCH));
        let begun = begun.and_then(Value::as_str).and_then(|begun| begun.parse().ok());
        begun.or_else(|| place::nanoseconds(&self.created)).map(Epoch)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Kept {
    #[serde(rename = "last_seq")]
    pub(super) last: u64,
    /// How many messages each subject has, where that was asked for.
    #[serde(default)]
    pub(super) subjects: Option<HashMap<String, u64>>,
}

/// What to do about a stream that is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Make it so.
    Apply,
    /// Leave it, unless it is missing: whoever started last decides, not who connected last.
    Restore,
}

/// A stream's name: different prefixes and namespaces have different ones.
pub(super) fn name(prefix: &str, namespace: &Namespace) -> String {
    // A name must not have dots, and neither part has an equals sign.
    format!("{}={namespace}", prefix.replace('.', "="))
}

pub(super) fn wanted(
    name: &str,
    namespace: &Namespace,
    history: &History,
    subjects: &Subjects,
    options: &StreamOptions,
) -> Config {
    let [source, destination] = subjects.republished();
    let config = json!({
        "name": name,
        "subjects": subjects.of_namespace(namespace),
        "retention": "limits",
        // With one more than is kept, whoever has the one before all others knows that no other
        // was between them.
        "max_msgs_per_subject": history.size.checked_add(1).map_or(json!(-1), |most| json!(most)),
        "max_age": nanoseconds(history.ttl),
        "max_bytes": options.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
        // A full stream refuses; a full channel drops its oldest all the same.
        "discard": if options.max_bytes.is_some() { "new" } else { "old" },
        "discard_new_per_subject": false,
        "storage": match options.storage { Storage::File => "file", Storage::Memory => "memory" },
        "num_replicas": options.replicas,
        "allow_direct": true,
        "duplicate_window": nanoseconds(history.ttl.min(DEDUPE_WINDOW)),
        "republish": { "src": source, "dest": destination },
    });
    match config {
        Value::Object(config) => config,
        _ => Config::new(),
    }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// Why a stream is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsettled {
    /// Trying again may help.
    #[error(transparent)]
    Away(ApiError),
    #[error(transparent)]
    Wrong(#[from] ConnectError),
}

/// Makes the stream as it is wanted.
pub(super) async fn settle(api: &Api<'_>, wanted: &Config, mode: Mode) -> Result<Info, Unsettled> {
    let name = wanted.get("name").and_then(Value::as_str).unwrap_or_default();
    for _ in 0..ATTEMPTS {
        let found = match api.call::<Info>("STREAM.INFO", name, &json!({})).await {
            Ok(found) => Some(found),
            Err(ApiError::Refused { number: NOT_FOUND, .. }) => None,
            Err(error) => return Err(unsettled(error, name, String::new())),
        };
        let Some(found) = found else {
            match api.call("STREAM.CREATE", name, wanted).await {
                Ok(created) => return Ok(created),
                // Somebody else was faster.
                Err(ApiError::Refused { number: NAME_IN_USE, .. }) => continue,
                Err(error) => return Err(unsettled(error, name, "it is not there".into())),
            }
        };
        let differences = differences(wanted, &found.config);
        if differences.is_empty() || mode == Mode::Restore {
            return Ok(found);
        }
        let mut config = found.config;
        config.extend(wanted.clone());
        let updated = api.call("STREAM.UPDATE", name, &config).await;
        return updated.map_err(|error| unsettled(error, name, differences.join(", ")));
    }
    Err(Unsettled::Away(ApiError::Silent))
}

/// Has another life of the stream begin, with what it holds.
pub(super) async fn begin_anew(
    api: &Api<'_>,
    found: Info,
    epoch: Epoch,
) -> Result<Info, Unsettled> {
    let mut config = found.config;
    let name = config.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let metadata = config.entry("metadata").or_insert_with(|| json!({}));
    metadata[EPOCH] = epoch.0.to_string().into();
    let updated = api.call("STREAM.UPDATE", &name, &config).await;
    updated.map_err(|error| unsettled(error, &name, "it was set back".into()))
}

/// What is not as wanted, in words.
fn differences(wanted: &Config, found: &Config) -> Vec<String> {
    let differing = wanted.iter().filter_map(|(field, wanted)| {
        let found = found.get(field).unwrap_or(&Value::Null);
        // The server leaves out what is not so.
        let same = wanted == found || (*wanted == json!(false) && found.is_null());
        (!same).then(|| format!("{field}: wanted {wanted}, found {found}"))
    });
    differing.collect()
}

fn unsettled(error: ApiError, stream: &str, differences: String) -> Unsettled {
    match error {
        ApiError::Nobody => {
            Unsettled::Wrong(ConnectError::NoJetStream("nobody answers for it".into()))
        }
        ApiError::Refused { number, description, .. } if NOT_ENABLED.contains(&number) => {
            Unsettled::Wrong(ConnectError::NoJetStream(description))
        }
        // For now: without a leader, say.
        ApiError::Refused { code: 503, .. }
        | ApiError::Silent
        | ApiError::Unreadable
        | ApiError::SetBack => Unsettled::Away(error),
        ApiError::Refused { .. } => Unsettled::Wrong(ConnectError::Stream {
            stream: stream.to_owned(),
            differences,
            reason: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(size: usize, options: &StreamOptions) -> Config {
        let subjects = Subjects::new("fanfare").unwrap();
        let history = History { size, ttl: Duration::from_secs(60) };
        wanted("fanfare=venue", &"venue".parse().unwrap(), &history, &subjects, options)
    }

    #[test]
    fn names_differ() {
        let name = |prefix, namespace: &str| name(prefix, &namespace.parse().unwrap());
        assert_eq!(name("fanfare", "venue"), "fanfare=venue");
        assert_ne!(name("a.b", "c"), name("a-b", "c"));
        assert_ne!(name("a.b", "c"), name("a", "b-c"));
    }

    #[test]
    fn ids_are_not_remembered_for_longer_than_messages() {
        let long = config(10, &StreamOptions::default());
        assert_eq!(
            (&long["duplicate_window"], &long["max_age"]),
            (&json!(60e9 as i64), &json!(60e9 as i64))
        );
        assert_eq!((&long["discard"], &long["max_bytes"]), (&json!("old"), &json!(-1)));
    }

    #[test]
    fn a_channel_may_keep_any_number() {
        let most = |size| config(size, &StreamOptions::default())["max_msgs_per_subject"].clone();
        assert_eq!((most(10), most(usize::MAX)), (json!(11), json!(-1)));
    }

    #[test]
    fn only_what_is_wanted_is_compared() {
        let wanted = config(10, &StreamOptions::default());
        let mut found = wanted.clone();
        found.remove("discard_new_per_subject");
        found.insert("description".into(), json!("of the operators"));
        assert_eq!(differences(&wanted, &found), Vec::<String>::new());
        found.insert("max_msgs_per_subject".into(), json!(7));
        found.remove("allow_direct");
        let told =
            ["allow_direct: wanted true, found null", "max_msgs_per_subject: wanted 11, found 7"];
        assert_eq!(differences(&wanted, &found), told);
    }
}
