//! The form of the publish command: from JSON to what is to be published, checked.

use broker_core::{
    ChannelName, Data, ErrorCode, EventName, MessageId, Timestamp, UserId,
    access::Denied,
    message::Exclude,
    name::{NameError, Role},
    session::{self, Rules},
};
use broker_protocol::json::{self, MAX_DEPTH};
use bytes::Bytes;
use indexmap::IndexSet;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    api::{MAX_BATCH, MAX_COPIES, MAX_EXCLUDED, MAX_TARGETS},
    problem::Problem,
};

/// What a request asks to publish.
#[derive(Debug)]
pub(in crate::api) enum Command {
    One(Draft),
    /// Each on its own: one that cannot be published does not keep the others back.
    Batch(Vec<Result<Draft, Problem>>),
}

/// A message that may be published, but for its id and time.
#[derive(Debug)]
pub(in crate::api) struct Draft {
    /// In the publisher's order, without repetition; at least one.
    pub(super) targets: IndexSet<ChannelName>,
    pub(super) event: Option<EventName>,
    pub(super) data: Data,
    pub(super) id: Option<MessageId>,
    pub(super) expires: Option<Timestamp>,
    pub(super) exclude: Exclude,
}

impl Draft {
    /// What a request that a profile answers publishes.
    ///
    /// # Errors
    /// It may not be published, whoever asks.
    pub(in crate::api) fn new(
        publish: session::Publish,
        exclude_users: Vec<UserId>,
        rules: &Rules,
    ) -> Result<Self, Problem> {
        check_namespace(&publish.channel, rules)?;
        check_size(&publish.data, rules)?;
        check_excluded(exclude_users.len())?;
        Ok(Self {
            targets: IndexSet::from([publish.channel]),
            event: publish.event,
            data: publish.data,
            id: publish.id,
            expires: None,
            exclude: Exclude { connections: Vec::new(), users: exclude_users },
        })
    }
}

/// A message to be published to channels, users and roles: at least one of them. They are one
/// list, in this order, and a connection that is subscribed to several of them gets one copy, on
/// the first.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = Message)]
pub(in crate::api) struct MessageBody<'a> {
    /// A channel.
    #[schema(example = "venue:42")]
    channel: Option<String>,
    /// Further channels.
    #[serde(default)]
    channels: Vec<String>,
    /// Users, on all their connections.
    #[serde(default)]
    users: Vec<String>,
    /// Roles, for everyone who has them.
    #[serde(default)]
    roles: Vec<String>,
    /// What kind of thing the message says.
    #[schema(example = "config_update")]
    event: Option<String>,
    /// The body: any JSON. This or `data_base64` is needed.
    #[serde(borrow, default, deserialize_with = "present")]
    #[schema(value_type = Value, required = false)]
    data: Option<&'a RawValue>,
    /// The body, where it is bytes and not JSON.
    data_base64: Option<String>,
    /// The message's id: give the same when you retry. Without it, one is made.
    id: Option<String>,
    /// Milliseconds after which the message is not to be delivered any more.
    #[schema(minimum = 1)]
    expires_in: Option<u64>,
    /// The same as a time, in milliseconds since 1970.
    expires_at: Option<u64>,
    /// Who must not get the message.
    #[serde(default)]
    exclude: ExcludeBody,
}

/// Who must not get a message.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
#[schema(as = Exclude)]
pub(in crate::api) struct ExcludeBody {
    /// Connections, such as the one on whose behalf it is published.
    connections: Vec<String>,
    /// Users, on all their connections.
    users: Vec<String>,
}

/// Messages to be published in this order, each with its own result.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[schema(as = Batch)]
pub(in crate::api) struct BatchBody<'a> {
    /// At most 1,000.
    #[serde(borrow)]
    #[schema(value_type = Vec<MessageBody<'static>>, max_items = 1000)]
    messages: Vec<&'a RawValue>,
}

/// One message, or a batch of them.
#[derive(Debug, ToSchema)]
#[schema(as = Publish)]
#[serde(untagged)]
#[expect(
    dead_code,
    reason = "only its schema is used: serde's untagged enums cannot hold raw JSON"
)]
pub(in crate::api) enum PublishBody<'a> {
    One(Box<MessageBody<'a>>),
    Batch(BatchBody<'a>),
}

/// Tells a batch from a single message.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Shape<'a> {
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
}

/// Reads and checks a command. Data is not copied, so messages keep the body alive.
///
/// # Errors
/// What is wrong with the command as a whole, or with its only message.
pub(in crate::api) fn read(
    body: &Bytes,
    rules: &Rules,
    now: Timestamp,
) -> Result<Command, Problem> {
    let text =
        std::str::from_utf8(body).map_err(|_| Problem::bad_request("the body is not UTF-8"))?;
    let shape: Shape<'_> = parse(text, Position::Told)?;
    let checks = Checks { body, rules, now };
    if shape.messages.is_none() {
        return checks.draft(parse(text, Position::Told)?).map(Command::One);
    }
    let batch: BatchBody<'_> = parse(text, Position::Told)?;
    if batch.messages.len() > MAX_BATCH {
        let text = format!("a batch holds at most {MAX_BATCH} messages");
        return Err(Problem::bad_request(text));
    }
    let draft = |json: &&RawValue| checks.draft(parse(json.get(), Position::Hidden)?);
    let drafts: Vec<_> = batch.messages.iter().map(draft).collect();
    let copies: usize = drafts.iter().flatten().map(|draft: &Draft| draft.targets.len()).sum();
    if copies > MAX_COPIES {
        let text = format!(
            "the batch has {copies} targets in all, and at most {MAX_COPIES} are allowed: send it in parts"
        );
        return Err(Problem::bad_request(text));
    }
    Ok(Command::Batch(drafts))
}

/// Whether an error says where in the text it is: in an entry of a batch, that would mislead.
#[derive(Clone, Copy)]
enum Position {
    Told,
    Hidden,
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str, position: Position) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let told = error.inner().to_string();
        let told = match (position, told.rfind(" at line ")) {
            (Position::Hidden, Some(index)) => &told[..index],
            _ => &told,
        };
        let syntax = !error.inner().is_data();
        Problem::bad_request(match (syntax, path.as_str()) {
            (true, _) => format!("the body is not JSON: {told}"),
            (false, "." | "?") => told.to_owned(),
            (false, path) => format!("`{path}`: {told}"),
        })
    })?;
    reader.end().map_err(|error| Problem::bad_request(format!("the body is not JSON: {error}")))?;
    Ok(value)
}

/// `null` is data like any other.
pub(in crate::api) fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

struct Checks<'a> {
    body: &'a Bytes,
    rules: &'a Rules,
    now: Timestamp,
}

impl Checks<'_> {
    fn draft(&self, message: MessageBody<'_>) -> Result<Draft, Problem> {
        Ok(Draft {
            targets: self.targets(&message)?,
            event: message.event.map(|event| name("event", &event)).transpose()?,
            id: message.id.map(|id| message_id(&id)).transpose()?,
            expires: self.expires(message.expires_in, message.expires_at)?,
            exclude: exclude(&message.exclude)?,
            data: data(self.body, self.rules, (message.data, message.data_base64))?,
        })
    }

    fn targets(&self, message: &MessageBody<'_>) -> Result<IndexSet<ChannelName>, Problem> {
        let MessageBody { channel, channels, users, roles, .. } = message;
        let count = channel.iter().len() + channels.len() + users.len() + roles.len();
        if count == 0 {
            let text = "say where to: `channel`, `channels`, `users` or `roles`";
            return Err(Problem::bad_request(text));
        }
        if count > MAX_TARGETS {
            let text = format!("a message has at most {MAX_TARGETS} targets");
            return Err(Problem::bad_request(text));
        }
        let mut targets = IndexSet::with_capacity(count);
        for (member, channel) in channel
            .iter()
            .map(|channel| ("channel", channel))
            .chain(channels.iter().map(|channel| ("channels", channel)))
        {
            targets.insert(self.channel(member, channel)?);
        }
        for user in users {
            targets.insert(ChannelName::of_user(&name::<UserId>("users", user)?));
        }
        for role in roles {
            targets.insert(ChannelName::of_role(&name::<Role>("roles", role)?));
        }
        Ok(targets)
    }

    fn channel(&self, member: &str, text: &str) -> Result<ChannelName, Problem> {
        let channel: ChannelName = name(member, text)?;
        check_namespace(&channel, self.rules)?;
        Ok(channel)
    }

    fn expires(&self, within: Option<u64>, at: Option<u64>) -> Result<Option<Timestamp>, Problem> {
        match (within, at) {
            (None, None) => Ok(None),
            (Some(0), None) => Err(Problem::bad_request("`expires_in` is at least 1 millisecond")),
            (Some(within), None) => Ok(Some(Timestamp(self.now.0.saturating_add(within)))),
            (None, Some(at)) if at <= self.now.0 => Err(Problem::bad_request(
                "`expires_at` has passed; it counts milliseconds since 1970",
            )),
            (None, Some(at)) => Ok(Some(Timestamp(at))),
            (Some(_), Some(_)) => {
                Err(Problem::bad_request("give `expires_in` or `expires_at`, not both"))
            }
        }
    }
}

/// A body: JSON that stands in `body`, or bytes in base64.
pub(in crate::api) fn data(
    body: &Bytes,
    rules: &Rules,
    given: (Option<&RawValue>, Option<String>),
) -> Result<Data, Problem> {
    let data = match given {
        (Some(json), None) => {
            let text = body.slice_ref(json.get().as_bytes());
            let checked = json::checked(text).ok_or_else(|| {
                Problem::bad_request(format!("`data` nests deeper than {MAX_DEPTH} levels"))
            })?;
            Data::Json(checked)
        }
        (None, Some(text)) => Data::Binary(decode_base64(&text)?),
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request("give `data` or `data_base64`, not both"));
        }
        (None, None) => {
            let text = "`data` is missing; null will do if there is none";
            return Err(Problem::bad_request(text));
        }
    };
    check_size(&data, rules)?;
    Ok(data)
}

fn check_namespace(channel: &ChannelName, rules: &Rules) -> Result<(), Problem> {
    let namespace = channel.namespace();
    if rules.namespaces.knows(namespace) {
        return Ok(());
    }
    Err(Problem::from(Denied::UnknownNamespace(namespace.to_owned())))
}

fn check_size(data: &Data, rules: &Rules) -> Result<(), Problem> {
    let limit = rules.limits.message_bytes;
    if data.len() <= limit {
        return Ok(());
    }
    let text = format!("the data has {} bytes, and at most {limit} are allowed", data.len());
    Err(Problem::new(ErrorCode::MessageTooLarge, text))
}

fn check_excluded(count: usize) -> Result<(), Problem> {
    if count <= MAX_EXCLUDED {
        return Ok(());
    }
    let text = format!("`exclude` holds at most {MAX_EXCLUDED} connections and users");
    Err(Problem::bad_request(text))
}

fn decode_base64(text: &str) -> Result<Bytes, Problem> {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    BASE64_STANDARD
        .decode(text)
        .map(Bytes::from)
        .map_err(|error| Problem::bad_request(format!("`data_base64` is not base64: {error}")))
}

fn exclude(body: &ExcludeBody) -> Result<Exclude, Problem> {
    check_excluded(body.connections.len() + body.users.len())?;
    Ok(Exclude {
        connections: names("exclude.connections", &body.connections)?,
        users: names("exclude.users", &body.users)?,
    })
}

fn message_id(text: &str) -> Result<MessageId, Problem> {
    text.parse().map_err(|error| {
        let why = match error {
            NameError::Malformed => "it may hold only printable ASCII, without spaces".to_owned(),
            error => error.to_string(),
        };
        Problem::new(ErrorCode::InvalidName, format!("`id`: {why}"))
    })
}

fn names<T: std::str::FromStr<Err = NameError>>(
    member: &str,
    texts: &[String],
) -> Result<Vec<T>, Problem> {
    texts.iter().map(|text| name(member, text)).collect()
}

fn name<T: std::str::FromStr<Err = NameError>>(member: &str, text: &str) -> Result<T, Problem> {
    crate::api::parse_name(member, text)
}
